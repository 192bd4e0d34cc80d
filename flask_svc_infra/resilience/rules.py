"""When a closed circuit opens.

A rule is frozen and may be shared; two that say the same are equal. What is counted for it, each closed
generation counts in a tally of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf

from ..errors import ConfigurationError
from .checked import count, fraction, seconds_above_zero
from .tallies import Both, Either, Never, Run, Share, Tally

__all__ = ["NEVER", "TripRule", "consecutive", "failure_rate", "slow_rate"]


class TripRule(ABC):
    """When a closed circuit opens.

    Rules combine: ``one | other`` when either says so, ``one & other`` when both do. ``str(rule)`` says it
    in words, ``repr(rule)`` as code.
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
        return Run(self.failures)

    def __repr__(self) -> str:
        return f"consecutive({self.failures})"

    def __str__(self) -> str:
        return "1 failure" if self.failures == 1 else f"{self.failures} failures in a row"


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
        return Share(self, now)

    def __repr__(self) -> str:
        span = f"last={self.last}" if self.last is not None else f"seconds={self.seconds!r}"
        tail = f"{span}, minimum_calls={self.minimum_calls})"
        if self.slower_than < inf:
            return f"slow_rate({self.rate!r}, slower_than={self.slower_than!r}, {tail}"
        return f"failure_rate({self.rate!r}, {tail}"

    def __str__(self) -> str:
        span = f"the last {self.last} calls" if self.last is not None else f"the calls in {self.seconds:g} s"
        said = "failed" if self.slower_than == inf else f"took over {self.slower_than:g} s"
        return f"{self.rate * 100:g} % of {span} {said} (at least {self.minimum_calls})"


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


def _within(rule: TripRule) -> str:
    return f"({rule})" if isinstance(rule, _Pair) else str(rule)


class _Either(_Pair):
    def start(self, now: float) -> Tally:
        return Either(self.one.start(now), self.other.start(now))

    def __repr__(self) -> str:
        return f"({self.one!r} | {self.other!r})"

    def __str__(self) -> str:
        return f"{_within(self.one)}, or {_within(self.other)}"


class _Both(_Pair):
    def start(self, now: float) -> Tally:
        return Both(self.one.start(now), self.other.start(now))

    def __repr__(self) -> str:
        return f"({self.one!r} & {self.other!r})"

    def __str__(self) -> str:
        return f"{_within(self.one)}, and {_within(self.other)}"


class _Never(TripRule):
    """For a circuit that a person has disabled."""

    slower_than = inf
    timed = False

    def start(self, _now: float, /) -> Tally:
        return Never()


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
