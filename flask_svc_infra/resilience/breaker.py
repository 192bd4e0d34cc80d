"""The circuit breaker."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar, cast, overload

from ..errors import ConfigurationError
from . import checked, recovery
from .engine import Engine
from .live import Live
from .machine import Policy
from .options import CircuitBreakerStats
from .permit import Permit, guard_class
from .protect import call_guarded, protect
from .rules import TripRule, consecutive
from .statement import Measured, Quiet, enter, load, loaded

if TYPE_CHECKING:
    from ..events import Transition
    from .generations import CircuitState, Forced
    from .holding import Decorator

__all__ = ["CircuitBreaker", "live_breakers"]

P = ParamSpec("P")
R = TypeVar("R")

_FAILURE_THRESHOLD = 5
_LEASE = 30.0
"""Seconds a half-open trial holds its place at least; longer where recovery_timeout is. A gunicorn worker is
killed when a request takes 30 s, so a call that outlasts it has, as a rule, nobody left to settle it."""


class _ExitOfClass(type):
    """Makes an exit of its own each time ``CircuitBreaker.__exit__`` is loaded, as ExitStack does."""

    if not TYPE_CHECKING:

        @property
        def __exit__(cls):  # noqa: ANN204, PLE0302
            return load()

        @property
        def __aexit__(cls):  # noqa: ANN204, PLE0302
            return load().leave


class CircuitBreaker(metaclass=_ExitOfClass):
    """Stops calling a dependency that fails, and tries it again after a while.

    Closed, it lets calls pass until its trip rule says otherwise; open, it refuses them with
    :class:`CircuitBreakerError`; after *recovery_timeout* the next call makes it half-open, which lets a few
    trials through: enough successes close it, one failure opens it again.

    Thread-safe, and the same object serves sync and async code. While closed, a call takes no lock.

    Args:
        name: what it is called in logs, labels and errors.
        failure_threshold: failures in a row that open it; short for ``trip=consecutive(failure_threshold)``.
        recovery_timeout: seconds it stays open, 30 so that a restarting dependency is back; or a callable
            that is given how many times it has opened since it was last closed, and returns them. See
            :func:`exponential_recovery`.
        half_open_max_calls: trials that may be in flight at once. A trial that hangs for 30 s (or
            *recovery_timeout*, if longer) gives up its place.
        success_threshold: successful trials that close it; may exceed *half_open_max_calls*.
        failure_exceptions: what counts as a failure. Other exceptions are no verdict; nor, ever, is an
            exception that is not an ``Exception`` (cancellation, ``KeyboardInterrupt``, ``GeneratorExit``).
        trip: when it opens, if not after failures in a row. See :func:`failure_rate` and :func:`slow_rate`.
        ignored_exceptions: exceptions among *failure_exceptions* that are no verdict all the same.
        failure_result: tells whether a returned value is a failure, for :meth:`call` and :meth:`protect`.
            What it raises reaches the caller, and the call is no verdict.
        on_transition: called with a :class:`Transition` after each change of state, in order, outside the
            lock, in the thread that caused it or one that was telling of an earlier one. What it raises is
            logged.
        clock: monotonic seconds; for tests.
        quorum: with shared state, how many hosts must find within a minute that it must open before it
            opens for all; 1 because the first to know spares the others the wait. Without, it means nothing.

    Attributes:
        guard: makes a permit for one call: ``with breaker.guard() as permit``.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    guard: Callable[[], Permit]

    def __init__(
        self,
        name: str = "default",
        *,
        failure_threshold: int = _FAILURE_THRESHOLD,
        recovery_timeout: float | Callable[[int], float] = recovery.DEFAULT,
        half_open_max_calls: int = 3,
        success_threshold: int = 2,
        failure_exceptions: tuple[type[Exception], ...] = (Exception,),
        trip: TripRule | None = None,
        ignored_exceptions: tuple[type[Exception], ...] = (),
        failure_result: Callable[[Any], bool] | None = None,
        on_transition: Callable[[Transition], object] | None = None,
        clock: Callable[[], float] | None = None,
        quorum: int = 1,
    ) -> None:
        self.name: Final = checked.name("CircuitBreaker(name)", name)
        about = f"circuit '{name}': "
        self.failure_threshold: Final = checked.count(about + "failure_threshold", failure_threshold)
        self.half_open_max_calls: Final = checked.count(about + "half_open_max_calls", half_open_max_calls)
        self.success_threshold: Final = checked.count(about + "success_threshold", success_threshold)
        self.failure_exceptions: Final = checked.exception_classes(
            about + "failure_exceptions", failure_exceptions
        )
        self.recovery_timeout: Final = recovery_timeout
        self.quorum: Final = checked.count(about + "quorum", quorum)
        self.trip: Final = _trip_rule(about, trip, failure_threshold)
        fixed = recovery.DEFAULT
        if not callable(recovery_timeout):
            fixed = checked.seconds_or_zero(about + "recovery_timeout", recovery_timeout)
        engine = self._engine = Engine(
            self,
            name,
            Policy(
                trip=self.trip,
                recovery_timeout=fixed,
                half_open_max_calls=half_open_max_calls,
                success_threshold=success_threshold,
                lease=max(_LEASE, fixed),
            ),
            failures=failure_exceptions,
            ignored=checked.exception_classes(about + "ignored_exceptions", ignored_exceptions),
            failure_result=checked.sync_callable_or_none(about + "failure_result", failure_result),
            recovery_timeout=recovery_timeout if callable(recovery_timeout) else None,
            on_transition=checked.sync_callable_or_none(about + "on_transition", on_transition),
            clock=checked.sync_callable_or_none(about + "clock", clock) or time.monotonic,
            closed=Quiet,
        )
        self._machine = engine.machine
        self._timed, self._clock = engine.timed, engine.clock
        self.guard = guard_class(engine)
        _live.add(self)

    def __repr__(self) -> str:
        return f"<CircuitBreaker '{self.name}' {self.state.value}>"

    # What is so

    @property
    def state(self) -> CircuitState:
        """The state now.

        It changes on a call only: long after the recovery timeout it is open until one comes.
        """
        return self._machine.generation.state

    @property
    def remaining_timeout(self) -> float | None:
        """Seconds until a call is let through as a trial; None when not open, or forced open."""
        return self._machine.remaining(self._clock())

    def _remaining_timeout(self) -> float | None:
        """Return :attr:`remaining_timeout`, under the documented library's name."""
        return self.remaining_timeout

    @property
    def forced(self) -> Forced | None:
        """What a person has decided for the circuit, until :meth:`reset`; None when it decides for itself."""
        return self._machine.generation.forced

    @property
    def stats(self) -> CircuitBreakerStats:
        """What was counted so far. With calls in flight in other threads, its numbers may be a call apart."""
        machine = self._machine
        counted = (machine.successes, machine.failed, machine.rejected, machine.ignored, machine.stale)
        forced = machine.generation.forced
        successes, failed, rejected, ignored, stale = counted
        return CircuitBreakerStats(
            total_calls=sum(counted),
            successful_calls=successes,
            failed_calls=failed,
            rejected_calls=rejected,
            state_changes=machine.state_changes,
            ignored_calls=ignored,
            stale_calls=stale,
            forced=forced.kind if forced else None,
            reason=forced.reason if forced else None,
        )

    # The documented library's tests look at and set these two.

    @property
    def _failure_count(self) -> int:
        return self._engine.failure_count()

    @_failure_count.setter
    def _failure_count(self, count: int) -> None:
        self._machine.failures = count

    @property
    def _state(self) -> CircuitState:
        return self.state

    @_state.setter
    def _state(self, state: CircuitState) -> None:
        self._engine.command(lambda machine, now: machine.put(state, now))

    # Protecting calls

    def admit(self) -> Permit:
        """Let one call pass; the caller settles the permit.

        Raises:
            CircuitBreakerError: the circuit does not let it pass.
        """
        return self.guard().__enter__()

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* and settle by how it ends; if it gives an awaitable, by how that ends when awaited.

        Raises:
            CircuitBreakerError: the circuit does not let it pass.
        """
        return cast("R", call_guarded(self._engine, fn, args, kwargs))

    @overload
    def protect(self, fn: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def protect(self, fn: None = None, /, *, fallback: Callable[..., Any] | None = None) -> Decorator: ...
    def protect(
        self, fn: Callable[..., Any] | None = None, /, *, fallback: Callable[..., Any] | None = None
    ) -> Callable[..., Any]:
        """Protect every call of a function, as ``@breaker.protect`` or ``@breaker.protect(fallback=other)``.

        Works on functions, coroutine functions, generator functions and async generator functions; a stream
        is guarded to its end, and a reader that stops early is no verdict.

        Args:
            fn: the function.
            fallback: called with the same arguments, instead of raising, when the circuit refuses a call; not
                when a call fails.

        Raises:
            TypeError: what is decorated is not callable.
        """
        checked.callable_or_none(f"circuit '{self.name}': fallback", fallback)
        if fn is None:
            return lambda function: protect(self, self._engine, self.guard, function, fallback)
        return protect(self, self._engine, self.guard, fn, fallback)

    # Control

    def force_open(self, reason: str | None = None) -> None:
        """Refuse every call until :meth:`reset`; *reason* shows in stats, errors, events and logs."""
        self._engine.command(lambda machine, now: machine.force_open(reason, now))

    def disable(self, reason: str | None = None) -> None:
        """Let every call pass, counted and not judged, until :meth:`reset`."""
        self._engine.command(lambda machine, now: machine.disable(reason, now))

    def reset(self, reason: str | None = None) -> None:
        """Close the circuit with nothing counted against it; results of calls begun before are dropped.

        The statistics stay.
        """
        self._engine.command(lambda machine, now: machine.reset(reason, now))

    def _after_fork(self) -> None:
        self._engine.after_fork()

    # The with statements: see statement.py.

    def __enter__(self) -> Self:
        if self._machine.quiet is None or loaded:
            enter(self._engine)
        return self

    async def __aenter__(self) -> Self:
        if self._machine.quiet is None or loaded:
            enter(self._engine)
        return self

    if TYPE_CHECKING:

        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
            /,
        ) -> None: ...

        async def __aexit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
            /,
        ) -> None: ...

    else:

        @property
        def __exit__(self):  # noqa: ANN204, PLE0302
            quiet = self._machine.quiet
            if quiet is None:
                return load()
            if self._timed:
                measured = Measured()
                measured.pass_ = quiet
                measured.started = self._clock()
                return measured
            return quiet

        @property
        def __aexit__(self):  # noqa: ANN204, PLE0302
            return self.__exit__.leave


def _trip_rule(about: str, trip: TripRule | None, failure_threshold: int) -> TripRule:
    if trip is None:
        return consecutive(failure_threshold)
    if not isinstance(trip, TripRule):
        raise ConfigurationError(
            f"{about}trip is {trip!r}, which cannot work; nothing was made. "
            "Give it a rule, as in trip=failure_rate(0.5, last=100)."
        )
    if failure_threshold != _FAILURE_THRESHOLD:
        raise ConfigurationError(
            f"{about}failure_threshold={failure_threshold} and trip={trip!r} contradict each other; "
            f"nothing was made. Give one, or combine them: trip=consecutive({failure_threshold}) | ..."
        )
    return trip


_live: Live[CircuitBreaker] = Live()


def live_breakers() -> list[CircuitBreaker]:
    """Return every breaker of this process that is still in use, oldest first."""
    return _live.list()
