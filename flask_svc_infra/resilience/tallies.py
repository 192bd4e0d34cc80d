"""What one closed generation counts for its trip rule.

No tally locks or reads a clock: the machine tells it of each call, under the circuit's lock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf
from typing import TYPE_CHECKING, Protocol

from .window import CountWindow, TimeWindow

if TYPE_CHECKING:
    from .rules import _Rate

# ruff: noqa: D101, D102 - Tally says once what each method does

__all__ = ["Both", "Either", "Never", "Run", "Share", "Tally"]


class Tally(Protocol):
    """What one closed generation counts for its rule."""

    @property
    def failures(self) -> int:
        """How many calls count against the dependency at present."""
        ...

    @property
    def rolls_at(self) -> float:
        """Until when successes may be folded: past it, the next one must be recorded with its time."""
        ...

    def record(self, failed: bool, seconds: float, now: float, /) -> None:
        """Count one call that took *seconds* and ended at *now*."""

    def fold(self, successes: int, /) -> None:
        """Count *successes* calls that were ordinary: not slow, and ended before ``rolls_at``."""

    def tripped(self) -> bool:
        """Tell whether the circuit must open."""
        ...

    def quiet(self) -> bool:
        """Tell whether no number of ordinary successes before ``rolls_at`` could make it trip."""
        ...

    def reason(self) -> str:
        """Say what made it trip."""
        ...


class Run:
    """Failures in a row."""

    __slots__ = ("_threshold", "failures")
    rolls_at = inf

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self.failures = 0

    def record(self, failed: bool, _seconds: float, _now: float, /) -> None:
        self.failures = self.failures + 1 if failed else 0

    def fold(self, _successes: int, /) -> None:
        self.failures = 0

    def tripped(self) -> bool:
        return self.failures >= self._threshold

    def quiet(self) -> bool:
        return True

    def reason(self) -> str:
        return "a failure" if self.failures == 1 else f"{self.failures} failures in a row"


class Share:
    """The share of a window's calls that failed, or were slow."""

    __slots__ = ("_rule", "_slow", "_window")

    def __init__(self, rule: _Rate, now: float) -> None:
        self._rule = rule
        self._slow = rule.slower_than < inf
        self._window: CountWindow | TimeWindow
        if rule.last is not None:
            self._window = CountWindow(rule.last)
        else:
            assert rule.seconds is not None  # noqa: S101 - one of the two is given
            self._window = TimeWindow(rule.seconds, now)

    @property
    def failures(self) -> int:
        return self._window.hits

    @property
    def rolls_at(self) -> float:
        return self._window.rolls_at

    def record(self, failed: bool, seconds: float, now: float) -> None:
        self._window.push(seconds > self._rule.slower_than if self._slow else failed, now)

    def fold(self, successes: int) -> None:
        self._window.push_misses(successes)

    def tripped(self) -> bool:
        window, rule = self._window, self._rule
        return window.total >= rule.minimum_calls and window.hits >= rule.rate * window.total

    def quiet(self) -> bool:
        # Past minimum_calls a success can only lower the share. Before that, the one that completes them may
        # trip, if the hits so far are a large enough share of that number.
        window, rule = self._window, self._rule
        return window.total >= rule.minimum_calls or window.hits < rule.rate * rule.minimum_calls

    def reason(self) -> str:
        window, rule = self._window, self._rule
        what = f"took longer than {rule.slower_than:g}s" if self._slow else "failed"
        span = f"of the last {window.total} calls"
        if rule.seconds is not None:
            span = f"of {window.total} calls in {rule.seconds:g}s"
        return f"{window.hits} {span} {what} ({window.hits / window.total:.0%})"


class _Pair(ABC):
    """Two tallies that see the same calls."""

    __slots__ = ("_one", "_other")

    def __init__(self, one: Tally, other: Tally) -> None:
        self._one = one
        self._other = other

    @property
    def failures(self) -> int:
        return max(self._one.failures, self._other.failures)

    @property
    def rolls_at(self) -> float:
        return min(self._one.rolls_at, self._other.rolls_at)

    def record(self, failed: bool, seconds: float, now: float) -> None:
        self._one.record(failed, seconds, now)
        self._other.record(failed, seconds, now)

    def fold(self, successes: int) -> None:
        self._one.fold(successes)
        self._other.fold(successes)

    @abstractmethod
    def tripped(self) -> bool: ...

    def quiet(self) -> bool:
        return self._one.quiet() and self._other.quiet()

    @abstractmethod
    def reason(self) -> str: ...


class Either(_Pair):
    __slots__ = ()

    def tripped(self) -> bool:
        return self._one.tripped() or self._other.tripped()

    def reason(self) -> str:
        return self._one.reason() if self._one.tripped() else self._other.reason()


class Both(_Pair):
    __slots__ = ()

    def tripped(self) -> bool:
        return self._one.tripped() and self._other.tripped()

    def reason(self) -> str:
        return f"{self._one.reason()} and {self._other.reason()}"


class Never:
    failures = 0
    rolls_at = inf

    def record(self, failed: bool, seconds: float, now: float, /) -> None:
        """Count nothing."""

    def fold(self, successes: int) -> None:
        """Count nothing."""

    def tripped(self) -> bool:
        return False

    def quiet(self) -> bool:
        return True

    def reason(self) -> str:
        return "never"
