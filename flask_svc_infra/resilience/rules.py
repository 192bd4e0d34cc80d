"""When a closed circuit opens: rules that say it, and the tallies that count for them.

A rule is frozen and may be shared; two that say the same are equal. A tally is what one closed generation
counts for it. No tally locks or reads a clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from typing import Protocol

from ..errors import ConfigurationError
from .checked import count, fraction, seconds_above_zero
from .window import CountWindow, TimeWindow

__all__ = ["NEVER", "Tally", "TripRule", "consecutive", "failure_rate", "slow_rate"]


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


class TripRule(ABC):
    """When a closed circuit opens.

    Rules combine: ``one | other`` when either says so, ``one & other`` when both do.
    """

    __slots__ = ()

    slower_than: float
    """Seconds above which a call is slow for this rule; infinite when it does not look. A half-open trial
    slower than this does not prove recovery."""
    timed: bool
    """Whether it needs to know when calls end or how long they take."""

    @abstractmethod
    def start(self, now: float, /) -> Tally:
        """Begin counting for a new closed generation."""

    def __or__(self, other: TripRule) -> TripRule:
        return _Either(self, _rule(other))

    def __and__(self, other: TripRule) -> TripRule:
        return _Both(self, _rule(other))


def _rule(value: object) -> TripRule:
    if not isinstance(value, TripRule):
        raise ConfigurationError(
            f"{value!r} is not a trip rule and cannot be combined with one; "
            "use consecutive(), failure_rate() or slow_rate()."
        )
    return value


@dataclass(frozen=True)
class _Consecutive(TripRule):
    failures: int
    slower_than = inf
    timed = False

    def start(self, _now: float, /) -> Tally:
        return _Run(self.failures)

    def __repr__(self) -> str:
        return f"consecutive({self.failures})"


class _Run:
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
        return f"{self.failures} failures in a row"


@dataclass(frozen=True)
class _Rate(TripRule):
    """A share of the calls in a window: of failures, or with *slower_than* of slow ones."""

    rate: float
    last: int | None
    seconds: float | None
    minimum_calls: int
    slower_than: float = inf

    @property
    def timed(self) -> bool:  # type: ignore[override]
        return self.seconds is not None or self.slower_than < inf

    def start(self, now: float) -> Tally:
        return _Share(self, now)

    def __repr__(self) -> str:
        span = f"last={self.last}" if self.last is not None else f"seconds={self.seconds!r}"
        tail = f"{span}, minimum_calls={self.minimum_calls})"
        if self.slower_than < inf:
            return f"slow_rate({self.rate!r}, slower_than={self.slower_than!r}, {tail}"
        return f"failure_rate({self.rate!r}, {tail}"


class _Share:
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


@dataclass(frozen=True)
class _Pair(TripRule):
    one: TripRule
    other: TripRule

    @property
    def slower_than(self) -> float:  # type: ignore[override]
        return min(self.one.slower_than, self.other.slower_than)

    @property
    def timed(self) -> bool:  # type: ignore[override]
        return self.one.timed or self.other.timed


class _Either(_Pair):
    def start(self, now: float) -> Tally:
        return _EitherTally(self.one.start(now), self.other.start(now))

    def __repr__(self) -> str:
        return f"({self.one!r} | {self.other!r})"


class _Both(_Pair):
    def start(self, now: float) -> Tally:
        return _BothTally(self.one.start(now), self.other.start(now))

    def __repr__(self) -> str:
        return f"({self.one!r} & {self.other!r})"


class _PairTally(ABC):
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


class _EitherTally(_PairTally):
    __slots__ = ()

    def tripped(self) -> bool:
        return self._one.tripped() or self._other.tripped()

    def reason(self) -> str:
        return self._one.reason() if self._one.tripped() else self._other.reason()


class _BothTally(_PairTally):
    __slots__ = ()

    def tripped(self) -> bool:
        return self._one.tripped() and self._other.tripped()

    def reason(self) -> str:
        return f"{self._one.reason()} and {self._other.reason()}"


class _Never(TripRule):
    """For a circuit that a person has disabled."""

    slower_than = inf
    timed = False

    def start(self, _now: float, /) -> Tally:
        return _NeverTally()


class _NeverTally:
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


NEVER = _Never()


def consecutive(failures: int) -> TripRule:
    """Trip after *failures* failed calls in a row.

    Raises:
        ConfigurationError: *failures* is not a whole number of at least 1.
    """
    return _Consecutive(count("consecutive(failures)", failures))


def failure_rate(
    rate: float, *, last: int | None = None, seconds: float | None = None, minimum_calls: int | None = None
) -> TripRule:
    """Trip when at least *rate* of the calls in a window failed.

    Args:
        rate: the share, above 0 and at most 1.
        last: the window as a number of calls; 100 when *seconds* is not given either.
        seconds: the window as a time; a call is forgotten when it is 59/60 to 60/60 of this old.
        minimum_calls: how many calls the window must hold before the share means anything; 20, or *last* if
            that is less. The call that completes them may trip the circuit, a success too.

    Raises:
        ConfigurationError: a number cannot work, or both *last* and *seconds* are given.
    """
    return _rate(
        "failure_rate", rate, last=last, seconds=seconds, minimum_calls=minimum_calls, slower_than=inf
    )


def slow_rate(
    rate: float,
    *,
    slower_than: float,
    last: int | None = None,
    seconds: float | None = None,
    minimum_calls: int | None = None,
) -> TripRule:
    """Trip when at least *rate* of the calls in a window took longer than *slower_than* seconds.

    Failed calls count like the others. A half-open trial that takes longer than *slower_than* opens the
    circuit again.

    Args:
        rate: the share, above 0 and at most 1.
        slower_than: seconds above which a call is slow.
        last: the window as a number of calls; 100 when *seconds* is not given either.
        seconds: the window as a time.
        minimum_calls: as for :func:`failure_rate`.

    Raises:
        ConfigurationError: a number cannot work, or both *last* and *seconds* are given.
    """
    slower_than = seconds_above_zero("slow_rate(slower_than)", slower_than)
    return _rate(
        "slow_rate", rate, last=last, seconds=seconds, minimum_calls=minimum_calls, slower_than=slower_than
    )


_LAST = 100
_MINIMUM_CALLS = 20


def _rate(
    rule: str,
    rate: float,
    *,
    last: int | None,
    seconds: float | None,
    minimum_calls: int | None,
    slower_than: float,
) -> TripRule:
    rate = fraction(f"{rule}(rate)", rate)
    if last is not None and seconds is not None:
        raise ConfigurationError(
            f"{rule}() was given last={last!r} and seconds={seconds!r}; a window has one measure. "
            "Give one of them."
        )
    if seconds is not None:
        seconds = seconds_above_zero(f"{rule}(seconds)", seconds)
    else:
        last = count(f"{rule}(last)", _LAST if last is None else last)
    if minimum_calls is None:
        minimum_calls = _MINIMUM_CALLS if last is None else min(_MINIMUM_CALLS, last)
    count(f"{rule}(minimum_calls)", minimum_calls)
    if last is not None and minimum_calls > last:
        raise ConfigurationError(
            f"{rule}() was given minimum_calls={minimum_calls} and last={last}; a window of {last} "
            f"calls never holds {minimum_calls}, so the circuit could never open. "
            "Lower minimum_calls or raise last."
        )
    return _Rate(rate, last, seconds, minimum_calls, slower_than)
