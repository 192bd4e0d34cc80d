"""What goes into a breaker, and what it has counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from ..events import Transition
    from .rules import TripRule

__all__ = ["BreakerOptions", "CircuitBreakerStats"]


@dataclass(frozen=True, slots=True)
class CircuitBreakerStats:
    """What a breaker has counted since it was made: a snapshot.

    Every call that ended or was refused is in ``total_calls`` and in just one of the other counts of calls.

    Attributes:
        total_calls: all of them.
        successful_calls: those that succeeded.
        failed_calls: those that failed.
        rejected_calls: those that were refused.
        state_changes: how often the state changed.
        ignored_calls: those that gave no verdict: an ignored or unlisted exception, cancellation, a stream
            whose reader stopped early.
        stale_calls: those that ended after the state they began in had; they decided nothing.
        forced: ``open`` or ``disabled`` while a person overrules the circuit, else None.
        reason: why, as the person said.
    """

    total_calls: int = 0
    successful_calls: int = 0
    failed_calls: int = 0
    rejected_calls: int = 0
    state_changes: int = 0
    ignored_calls: int = 0
    stale_calls: int = 0
    forced: str | None = None
    reason: str | None = None


class BreakerOptions(TypedDict, total=False):
    """The keyword arguments of :class:`CircuitBreaker`."""

    failure_threshold: int
    recovery_timeout: float | Callable[[int], float]
    half_open_max_calls: int
    success_threshold: int
    failure_exceptions: tuple[type[Exception], ...]
    trip: TripRule | None
    ignored_exceptions: tuple[type[Exception], ...]
    failure_result: Callable[[Any], bool] | None
    on_transition: Callable[[Transition], object] | None
    clock: Callable[[], float] | None
    quorum: int
