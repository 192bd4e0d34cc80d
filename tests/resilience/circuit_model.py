"""The breaker once more, as plainly as it can be said: lists that are never pruned, and no short cuts.

Nothing here is shared with the package but the names of states and outcomes. It is what the real breaker is
compared with, step by step, in test_model.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flask_svc_infra.resilience import CircuitState, Outcome

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
BUCKETS = 60


@dataclass
class Seen:
    """One call that was judged in the current closed generation."""

    failed: bool
    seconds: float
    bucket_of: float


@dataclass(frozen=True)
class Run:
    """So many failures in a row."""

    failures: int

    def trips(self, seen: list[Seen], _now: float) -> bool:
        return len(seen) >= self.failures and all(call.failed for call in seen[-self.failures :])


@dataclass(frozen=True)
class Share:
    """A share of the last calls, or of those of the last seconds, that failed or were slow."""

    rate: float
    minimum: int
    last: int | None = None
    seconds: float | None = None
    slower_than: float | None = None

    def trips(self, seen: list[Seen], now: float) -> bool:
        if self.last is not None:
            window = seen[-self.last :]
        else:
            width = self.seconds / BUCKETS
            window = [call for call in seen if now // width - call.bucket_of // width < BUCKETS]
        hits = [
            call
            for call in window
            if (call.seconds > self.slower_than if self.slower_than is not None else call.failed)
        ]
        return len(window) >= self.minimum and len(hits) >= self.rate * len(window)


@dataclass(frozen=True)
class Either:
    one: Any
    other: Any

    def trips(self, seen: list[Seen], now: float) -> bool:
        return self.one.trips(seen, now) or self.other.trips(seen, now)


@dataclass(frozen=True)
class Both:
    one: Any
    other: Any

    def trips(self, seen: list[Seen], now: float) -> bool:
        return self.one.trips(seen, now) and self.other.trips(seen, now)


@dataclass
class Call:
    """A call that was let through."""

    incarnation: int
    started: float
    trial: bool
    lease_ends: float
    has_place: bool = True


@dataclass
class Circuit:
    """The model."""

    trip: Any
    recovery: Any
    max_trials: int
    success_threshold: int
    slow_trial: float
    lease: float
    now: float
    state: CircuitState = CLOSED
    forced: str | None = None
    incarnation: int = 0
    closed_at: float = 0.0
    until: float = 0.0
    opens: int = 0
    trial_successes: int = 0
    seen: list[Seen] = field(default_factory=list)
    trials: list[Call] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            (
                "successful_calls",
                "failed_calls",
                "rejected_calls",
                "ignored_calls",
                "stale_calls",
                "state_changes",
            ),
            0,
        )
    )
    transitions: list[tuple[CircuitState, CircuitState, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.closed_at = self.now

    def enter(self, state: CircuitState, *, forced: str | None = None, by_hand: bool = False) -> None:
        self.transitions.append((self.state, state, by_hand))
        if state is not self.state:
            self.counts["state_changes"] += 1
        self.state, self.forced = state, forced
        self.incarnation += 1
        self.trials, self.trial_successes = [], 0
        if state is CLOSED:
            self.seen, self.closed_at, self.opens = [], self.now, 0
        if state is OPEN and not forced:
            self.opens += 1
            self.until = self.now + self.recovery(self.opens)

    def admit(self) -> Call | None:
        if self.state is OPEN and not self.forced and self.now >= self.until:
            self.enter(HALF_OPEN)
        if self.state is HALF_OPEN:
            placed = [trial for trial in self.trials if trial.has_place]
            if len(placed) >= self.max_trials:
                if self.now < placed[0].lease_ends:
                    self.counts["rejected_calls"] += 1
                    return None
                placed[0].has_place = False
        elif self.state is OPEN:
            self.counts["rejected_calls"] += 1
            return None
        call = Call(self.incarnation, self.now, self.state is HALF_OPEN, self.now + self.lease)
        if call.trial:
            self.trials.append(call)
        return call

    def settle(self, call: Call, outcome: Outcome) -> None:
        call.has_place = False
        if outcome is Outcome.IGNORED:
            self.counts["ignored_calls"] += 1
            return
        if call.incarnation != self.incarnation:
            self.counts["stale_calls"] += 1
            return
        failed = outcome is Outcome.FAILURE
        self.counts["failed_calls" if failed else "successful_calls"] += 1
        if self.forced:
            return
        seconds = self.now - call.started
        if self.state is CLOSED:
            self.seen.append(Seen(failed, seconds, self.now - self.closed_at))
            if self.trip.trips(self.seen, self.now - self.closed_at):
                self.enter(OPEN)
        elif failed or seconds > self.slow_trial:
            self.enter(OPEN)
        else:
            self.trial_successes += 1
            if self.trial_successes >= self.success_threshold:
                self.enter(CLOSED)

    def force_open(self) -> None:
        self.enter(OPEN, forced="open", by_hand=True)

    def disable(self) -> None:
        self.enter(CLOSED, forced="disabled", by_hand=True)

    def reset(self) -> None:
        untouched = self.state is CLOSED and self.forced is None
        self.enter(CLOSED, by_hand=True)
        if untouched:
            self.transitions.pop()

    @property
    def remaining(self) -> float | None:
        return max(0.0, self.until - self.now) if self.state is OPEN and not self.forced else None
