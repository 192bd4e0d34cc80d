"""The exceptions this package raises.

    SvcInfraError
    ├── ConfigurationError (ValueError)      a setting or argument that cannot work
    ├── MissingDriverError (ImportError)     what was asked for needs a module that is not installed
    ├── CircuitBreakerError                  a call was refused because its circuit does not let it pass
    ├── BulkheadFullError                    a call was refused because its bulkhead is full
    └── RetryExhaustedError                  every attempt failed

Messages read subject, state, consequence, cure. The same facts are attributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from .resilience.generations import CircuitState

__all__ = [
    "BulkheadFullError",
    "CircuitBreakerError",
    "ConfigurationError",
    "MissingDriverError",
    "RetryExhaustedError",
    "SvcInfraError",
]


class SvcInfraError(Exception):
    """The root of every exception this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # As every exception is pickled, but made again without its constructor, whose arguments have names.
        _, args, *state = cast("tuple[Any, ...]", super().__reduce__())
        return _made_again, (type(self), *args), *state


def _made_again(kind: type[SvcInfraError], *args: object) -> SvcInfraError:
    return kind.__new__(kind, *args)


class ConfigurationError(SvcInfraError, ValueError):
    """A setting or an argument that cannot work was refused before anything was changed."""


class MissingDriverError(SvcInfraError, ImportError):
    """What was asked for (a check, shared state, measured clients) needs a module that is not installed.

    Attributes:
        module: the module that could not be imported.
        extra: the extra of this package that brings it, as in ``pip install flask-svc-infra[extra]``; None
            where the module is of use only to who has it anyway.
    """

    def __init__(self, subject: str, *, module: str, extra: str | None) -> None:
        what = module if extra is None else f"'flask-svc-infra[{extra}]'"
        super().__init__(
            f"{subject} needs the module '{module}', which is not installed; nothing was changed. "
            f"Run: pip install {what}",
            name=module,
        )
        self.module = module
        self.extra = extra


class CircuitBreakerError(SvcInfraError):
    """A call was refused: its circuit is open, or half-open with all its trials in flight.

    Attributes:
        name: the breaker's name.
        state: its state when the call was refused.
        remaining_timeout: seconds until a trial is let through; None when that is not known (forced open, or
            refused by the trial limit).
        reason: why a person forced the circuit open; None when nobody did, or did not say.
    """

    # The facts live in `args` alone. A refusal is made by `CircuitBreakerError.__new__`, which takes them by
    # position and runs no Python code: that halves the price of refusing a call.

    def __init__(
        self,
        name: str,
        *,
        state: CircuitState,
        remaining_timeout: float | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(name, state, remaining_timeout, reason)

    @property
    def name(self) -> str:
        """The breaker's name."""
        return self.args[0]  # type: ignore[no-any-return]

    @property
    def state(self) -> CircuitState:
        """Its state when the call was refused."""
        return self.args[1]  # type: ignore[no-any-return]

    @property
    def remaining_timeout(self) -> float | None:
        """Seconds until a trial is let through, where that is known."""
        return self.args[2]  # type: ignore[no-any-return]

    @property
    def reason(self) -> str | None:
        """Why a person forced the circuit open."""
        return self.args[3]  # type: ignore[no-any-return]

    def __str__(self) -> str:
        name, state, remaining_timeout, reason = self.args
        text = f"circuit '{name}' is {state.value}"
        if remaining_timeout is not None:
            text += f"; retry after {remaining_timeout:.1f}s"
        elif reason is not None:
            text += f", forced by hand: {reason}"
        return text


class BulkheadFullError(SvcInfraError):
    """A call was refused: as many calls as the bulkhead allows are already in flight.

    Attributes:
        name: the bulkhead's name.
        max_concurrent: how many calls it lets run at once.
    """

    def __init__(self, name: str, *, max_concurrent: int) -> None:
        calls = "1 call is" if max_concurrent == 1 else f"{max_concurrent} calls are"
        super().__init__(f"bulkhead '{name}' is full; {calls} in flight and this one was refused")
        self.name = name
        self.max_concurrent = max_concurrent


class RetryExhaustedError(SvcInfraError):
    """Every attempt failed; the last failure is the cause.

    Attributes:
        attempts: how many attempts were made.
        last_exception: what the last one raised.
    """

    def __init__(self, message: str, *, attempts: int, last_exception: Exception | None = None) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.last_exception = last_exception

    def __repr__(self) -> str:
        return f"{type(self).__name__}(attempts={self.attempts})"
