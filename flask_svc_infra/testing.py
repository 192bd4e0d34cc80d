"""What the tests of a service need: a clock that obeys, states to order, no waiting.

Each context manager puts back on leaving what it found on entering, also when the test fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, cast

from .errors import ConfigurationError
from .health.model import HealthCheckResult, HealthStatus
from .health.runner import Lane
from .resilience import CircuitState, retry

if TYPE_CHECKING:
    from .aio import HealthRegistry as AsyncHealthRegistry
    from .health import HealthRegistry
    from .ops import Maintenance
    from .resilience import CircuitBreaker

__all__ = ["FakeClock", "forced", "in_maintenance", "no_retry_delays", "set_status"]


class FakeClock:
    """A monotonic clock that moves only when it is told to.

    Hand it to whatever takes ``clock=``; hand :meth:`sleep` to what takes ``sleep=``. Thread-safe.

    Args:
        start: what it reads first, in seconds; anything but zero, which a clock may be mistaken for unset.

    Attributes:
        started: what it read first.
        sleeps: the seconds of each pretended sleep, in order.

    Example:
        >>> clock = FakeClock()
        >>> clock.sleep(2.5)
        >>> clock() - clock.started, clock.sleeps
        (2.5, [2.5])
    """

    def __init__(self, start: float = 1_000.0) -> None:
        self.started = start
        self.sleeps: list[float] = []
        self._now = start
        self._lock = Lock()

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock *seconds* on.

        Raises:
            ValueError: *seconds* is negative; a monotonic clock does not go back.
        """
        if seconds < 0:
            raise ValueError(f"a monotonic clock does not go back by {-seconds:g}s; it was left as it is")
        with self._lock:
            self._now += seconds

    def sleep(self, seconds: float) -> None:
        """Pretend to sleep: note *seconds* and move on by as much."""
        self.sleeps.append(seconds)
        self.advance(seconds)

    async def async_sleep(self, seconds: float) -> None:
        """Pretend to sleep in a coroutine."""
        self.sleep(seconds)


@contextmanager
def forced(breaker: CircuitBreaker, state: CircuitState | str) -> Iterator[CircuitBreaker]:
    """Force *breaker* open, or closed whatever fails, for the length of a ``with`` block.

    Afterwards the breaker is forced as it was before, or else closed with nothing counted against it. Its
    transitions are published as ever.

    Args:
        breaker: whose state it is.
        state: ``open`` refuses every call; ``closed`` lets every call pass and counts no failure.

    Raises:
        ConfigurationError: the state cannot be forced: half-open is a passing state, made by waiting.

    Example:
        >>> with forced(payments, "open"):
        ...     assert client.post("/orders").status_code == 202  # queued for later
    """
    forces = {CircuitState.OPEN: breaker.force_open, CircuitState.CLOSED: breaker.disable}
    force = forces.get(CircuitState(state))
    if force is None:
        raise ConfigurationError(
            f"circuit '{breaker.name}' cannot be forced half-open; nothing was changed. Give the breaker a "
            "FakeClock, let it open, and advance the clock by its recovery_timeout."
        )
    before = breaker.forced
    force("a test")
    try:
        yield breaker
    finally:
        breaker.reset("a test is over")
        if before is not None:
            (breaker.force_open if before.kind == "open" else breaker.disable)(before.reason)


@contextmanager
def set_status(
    registry: HealthRegistry | AsyncHealthRegistry,
    name: str,
    status: HealthStatus | str,
    *,
    message: str | None = None,
) -> Iterator[None]:
    """Let a registered check say *status* for the length of a ``with`` block, without running it.

    The new status shows at once in probes and metrics, however many runs in a row it usually takes. Whether
    the check is critical, its groups and its timeout stay. Afterwards it is as it was before.

    Args:
        registry: which it is registered with.
        name: its registered name.
        status: what it shall say.
        message: why, in words.

    Raises:
        KeyError: there is no check of this name.
        ValueError: *status* is none.

    Example:
        >>> with set_status(infra.health, "database", "unhealthy"):
        ...     assert client.get("/_health/ready").status_code == 503
    """
    behind = cast("HealthRegistry", getattr(registry, "sync", registry))
    result = HealthCheckResult(name, HealthStatus(status), 0.0, message=message)
    real = behind._lane(name)
    posed = Lane(
        replace(
            real.check,
            check_fn=lambda: result,
            interval=None,
            failures_before_unhealthy=1,
            successes_before_healthy=1,
        )
    )
    posed.standing = real.standing  # so that events say what it changes from
    _swap(behind, real, posed)
    try:
        behind.check_one(name)
        yield
    finally:
        _swap(behind, posed, real)


@contextmanager
def no_retry_delays() -> Iterator[None]:
    """Let ``with_retry`` and ``retry_sync`` try again without waiting, for the length of a ``with`` block.

    The number of attempts stays. It holds for the whole process, whichever thread or event loop retries.
    """
    before, retry.waits = retry.waits, False
    try:
        yield
    finally:
        retry.waits = before


@contextmanager
def in_maintenance(
    maintenance: Maintenance, mode: str = "read-only", *, reason: str = "a test"
) -> Iterator[None]:
    """Switch maintenance on for the length of a ``with`` block.

    Afterwards what was ordered before holds again. The environment's variable stands beside it and is left
    alone.

    Args:
        maintenance: the one the app was given, as ``infra.maintenance``.
        mode: ``read-only`` or ``full``.
        reason: why, for events and logs.

    Raises:
        ConfigurationError: there is no such mode.
    """
    before = maintenance._orders
    maintenance.enable(mode=mode, reason=reason, actor="test")
    try:
        yield
    finally:
        maintenance._orders = before
        maintenance._tell()


def _swap(registry: HealthRegistry, old: Lane, new: Lane) -> None:
    """Put *new* in the place of *old*, unless the check was removed meanwhile."""
    with registry._lock:
        registry._lanes = {name: new if lane is old else lane for name, lane in registry._lanes.items()}
