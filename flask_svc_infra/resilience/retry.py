"""Retrying with exponential backoff, on tenacity."""

from __future__ import annotations

import inspect
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from ..errors import CircuitBreakerError, RetryExhaustedError
from ..events import Retried, publish, retried
from . import checked
from .holding import is_kind

if TYPE_CHECKING:
    from .holding import Decorator

__all__ = ["RetryConfig", "retry_sync", "with_retry"]

P = ParamSpec("P")
R = TypeVar("R")

_logger = logging.getLogger("flask_svc_infra.resilience")

waits = True
"""Whether there is a wait between attempts; ``testing.no_retry_delays`` switches it off for a while."""


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """How often to try, how long to wait in between, and after what.

    Attributes:
        max_attempts: attempts in all, the first included.
        base_delay: seconds before the second attempt.
        max_delay: seconds that no delay exceeds.
        exponential_base: what each delay is multiplied by to give the next.
        jitter: the share by which a delay is made longer or shorter at random, 0 to 1, so that clients which
            failed together do not come back together.
        retry_on: exceptions after which to try again. A :class:`CircuitBreakerError` is retried only if that
            class itself is named: an open circuit says that trying again is of no use, and ``(Exception,)``
            did not mean it.

    Raises:
        ConfigurationError: a value cannot work.
    """

    max_attempts: int = 3
    base_delay: float = 0.1
    max_delay: float = 60.0
    exponential_base: float = 2.0
    jitter: float = 0.1
    retry_on: tuple[type[Exception], ...] = (Exception,)

    def __post_init__(self) -> None:
        checked.count("max_attempts", self.max_attempts)
        checked.seconds_or_zero("base_delay", self.base_delay)
        checked.seconds_or_zero("max_delay", self.max_delay)
        checked.at_least_one("exponential_base", self.exponential_base)
        checked.share("jitter", self.jitter)
        checked.exception_classes("retry_on", self.retry_on)

    def calculate_delay(self, attempt: int) -> float:
        """Return the seconds to wait after *attempt*, counted from 1, has failed."""
        try:
            delay = min(self.max_delay, self.base_delay * self.exponential_base ** (attempt - 1))
        except OverflowError:
            delay = self.max_delay
        if not self.jitter:
            return delay
        return min(self.max_delay, delay * (1 + random.uniform(-self.jitter, self.jitter)))  # noqa: S311

    def retries(self, error: BaseException) -> bool:
        """Tell whether *error* is one to try again after."""
        if isinstance(error, CircuitBreakerError):
            return any(
                issubclass(kind, CircuitBreakerError) and isinstance(error, kind) for kind in self.retry_on
            )
        return isinstance(error, self.retry_on)


def with_retry(  # noqa: PLR0917 - the documented signature
    max_attempts: int = 3,
    base_delay: float = 0.1,
    max_delay: float = 60.0,
    exponential_base: float = 2.0,
    jitter: float = 0.1,
    retry_on: tuple[type[Exception], ...] = (Exception,),
    *,
    on_retry: Callable[[int, Exception], object] | None = None,
) -> Decorator:
    """Retry a function or a coroutine function until it succeeds or its attempts are used up.

    Args:
        max_attempts: attempts in all, the first included.
        base_delay: seconds before the second attempt.
        max_delay: seconds that no delay exceeds.
        exponential_base: what each delay is multiplied by to give the next.
        jitter: the share of each delay that is random, 0 to 1.
        retry_on: exceptions after which to try again; any other comes out at once. A
            :class:`CircuitBreakerError` is retried only if that class itself is named.
        on_retry: called with the number of the attempt that failed and its exception, before each wait; a
            plain function, also where a coroutine function is retried. What it raises ends the retrying and
            comes out, with the failure as its context.

    Raises:
        RetryExhaustedError: (the decorated function) every attempt failed; the last failure is its cause.
        ConfigurationError: an argument cannot work.
        TypeError: the function is a generator function: what it has yielded cannot be taken back.
    """
    config = RetryConfig(max_attempts, base_delay, max_delay, exponential_base, jitter, retry_on)
    checked.sync_callable_or_none("on_retry", on_retry)

    def decorate(fn: Callable[..., Any], /) -> Callable[..., Any]:
        if is_kind(inspect.iscoroutinefunction, fn):
            return _retrying_async(fn, config, on_retry)
        return _retrying(fn, config, on_retry)

    return decorate


def retry_sync(  # noqa: PLR0917 - the documented signature
    max_attempts: int = 3,
    base_delay: float = 0.1,
    max_delay: float = 60.0,
    exponential_base: float = 2.0,
    jitter: float = 0.1,
    retry_on: tuple[type[Exception], ...] = (Exception,),
    *,
    on_retry: Callable[[int, Exception], object] | None = None,
) -> Decorator:
    """Retry a synchronous function: as :func:`with_retry`, refusing coroutine functions.

    Raises:
        RetryExhaustedError: (the decorated function) every attempt failed.
        ConfigurationError: an argument cannot work.
        TypeError: the function is a coroutine or generator function.
    """
    config = RetryConfig(max_attempts, base_delay, max_delay, exponential_base, jitter, retry_on)
    checked.sync_callable_or_none("on_retry", on_retry)

    def decorate(fn: Callable[..., Any], /) -> Callable[..., Any]:
        if is_kind(inspect.iscoroutinefunction, fn):
            raise TypeError(
                f"retry_sync cannot retry '{_name(fn)}', which is a coroutine function: the call would "
                "succeed before it has begun. Use with_retry."
            )
        return _retrying(fn, config, on_retry)

    return decorate


def _retrying(
    fn: Callable[..., Any], config: RetryConfig, on_retry: Callable[[int, Exception], object] | None
) -> Callable[..., Any]:
    _refuse_streams(fn)
    rules = _rules(fn, config, on_retry)

    @wraps(fn)
    def retrying(*args: Any, **kwargs: Any) -> Any:
        return Retrying(**rules)(fn, *args, **kwargs)

    return retrying


def _retrying_async(
    fn: Callable[..., Any], config: RetryConfig, on_retry: Callable[[int, Exception], object] | None
) -> Callable[..., Any]:
    rules = _rules(fn, config, on_retry)

    @wraps(fn)
    async def retrying(*args: Any, **kwargs: Any) -> Any:
        return await AsyncRetrying(**rules)(fn, *args, **kwargs)

    return retrying


def _rules(
    fn: Callable[..., Any], config: RetryConfig, on_retry: Callable[[int, Exception], object] | None
) -> dict[str, Any]:
    name = _name(fn)

    def tell(state: RetryCallState, delay: float | None) -> Exception:
        error = state.outcome.exception() if state.outcome else None
        assert isinstance(error, Exception)  # noqa: S101 - retry_on holds Exceptions only
        event = Retried(name, state.attempt_number, type(error).__name__, delay, time.time())
        publish(retried, fn, event)
        return error

    def before_sleep(state: RetryCallState) -> None:
        delay = state.upcoming_sleep
        error = tell(state, delay)
        _logger.debug(
            "'%s' failed with %s in attempt %d of %d; trying again in %.3fs",
            name, type(error).__name__, state.attempt_number, config.max_attempts, delay,
        )  # fmt: skip
        if on_retry is not None:
            try:
                on_retry(state.attempt_number, error)
            except Exception as raised:
                if raised is not error and raised.__context__ is None:
                    raised.__context__ = error  # what failed in the first place stays visible
                raise

    def exhausted(state: RetryCallState) -> NoReturn:
        error = tell(state, None)
        attempts = state.attempt_number
        kind = type(error).__name__
        _logger.warning("'%s' failed in all of %d attempts, last with %s", name, attempts, kind)
        raise RetryExhaustedError(
            f"'{name}' failed in all of {attempts} attempts, last with {kind}; it was given up",
            attempts=attempts,
            last_exception=error,
        ) from error

    return {
        "stop": stop_after_attempt(config.max_attempts),
        "wait": lambda state: config.calculate_delay(state.attempt_number) if waits else 0.0,
        "retry": retry_if_exception(config.retries),
        "before_sleep": before_sleep,
        "retry_error_callback": exhausted,
    }


def _refuse_streams(fn: Callable[..., Any]) -> None:
    if not callable(fn):
        raise TypeError(f"{fn!r} is not callable and cannot be retried. Decorate a function.")
    if is_kind(inspect.isgeneratorfunction, fn) or is_kind(inspect.isasyncgenfunction, fn):
        raise TypeError(
            f"'{_name(fn)}' is a generator function and cannot be retried: what it has yielded cannot be "
            "taken back. Retry the function that consumes it."
        )


def _name(fn: Callable[..., Any]) -> str:
    return getattr(fn, "__qualname__", None) or repr(fn)
