"""The circuit's rules, all of them: no lock, no clock, no logging, no framework.

The driver (``engine.py``) holds a lock around every method that is not marked otherwise, reads the clock once
a step and passes it down, and publishes the :class:`Change` that comes back.

A circuit is a sequence of *generations*: one object per incarnation of a state, replaced and never reused. A
call that was let through carries its pass (the closed generation, or a :class:`Trial` of a half-open one)
until it is settled. Invariants:

1. A result counts only in the generation its call began in. A late one is dropped and counted as stale.
2. Only half-open bounds calls, and only those in flight: a trial's place is freed when it is settled,
   whatever its outcome, or when its lease runs out. So no trial can wedge the circuit.
3. The state changes by the table in ``transitions.py`` and by nothing else, and only on a call or a person's
   command.
4. ``quiet`` is the closed generation while one more ordinary success could not change the state; None
   otherwise. The driver then counts a success by ``successes += 1`` without the lock; the machine folds what
   was counted into the trip rule before it looks at it again.
5. ``refusing`` is the open generation while nobody has forced it; None otherwise. Until its time has come the
   driver may refuse a call by ``rejected += 1`` without the lock, for refusing changes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from .generations import CircuitState, Closed, Forced, Generation, HalfOpen, Open, Outcome, Pass, Trial
from .rules import NEVER
from .transitions import COMMANDS, TRANSITIONS, Change, Event

if TYPE_CHECKING:
    from .rules import TripRule

__all__ = ["Machine", "Policy"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a machine decides by.

    Attributes:
        trip: when a closed circuit opens.
        recovery_timeout: seconds an open circuit stays so; for a callable, until the driver has asked it.
        half_open_max_calls: trials in flight at once.
        success_threshold: successful trials that close the circuit.
        lease: seconds after which a trial that was not settled loses its place.
    """

    trip: TripRule
    recovery_timeout: float = 30.0
    half_open_max_calls: int = 3
    success_threshold: int = 2
    lease: float = 30.0


class Machine:
    """One circuit: its current generation and its counters.

    Args:
        policy: what it decides by.
        now: the monotonic time.
        folding: whether successes may be counted without the lock (invariant 4). It needs an ``int += 1``
            that no other thread can tear, which the GIL gives; without it, pass False and every result is
            settled.
        closed: makes a closed generation; the driver may hang its own wiring on it.
    """

    __slots__ = (
        "_closed", "_folding", "failed", "failures", "generation", "ignored", "opens", "policy", "quiet",
        "refusing", "rejected", "stale", "state_changes", "successes",
    )  # fmt: skip

    def __init__(
        self, policy: Policy, *, now: float, folding: bool = True, closed: Callable[[], Closed] = Closed
    ) -> None:
        self.policy = policy
        self._folding = folding
        self._closed = closed
        self.successes = self.failed = self.rejected = self.ignored = self.stale = self.state_changes = 0
        self.failures = 0
        """How far the trip rule had counted when it was last asked; kept while open, cleared by closing."""
        self.opens = 0
        """Times it has opened since it was last closed."""
        self.quiet: Closed | None = None
        self.refusing: Open | None = None
        self.generation: Generation
        self._close(now, forced=None)

    # Passing

    def admit(self, now: float) -> tuple[Pass | None, Change | None]:
        """Let one call pass (or not: None), which may begin half-open."""
        generation = self.generation
        change = None
        if isinstance(generation, Open) and now >= generation.until:
            change = self._enter(Event.RECOVERY_DUE, "recovery timeout elapsed", now)
            generation = self.generation
        if isinstance(generation, Closed):
            return generation, change
        if isinstance(generation, HalfOpen) and self._has_place(generation, now):
            trial = Trial(generation)
            generation.trials[trial] = now + self.policy.lease
            return trial, change
        self.rejected += 1
        return None, change

    def would_try(self, now: float) -> bool:
        """Tell whether the next call would be a trial, if there is a place for one."""
        generation = self.generation
        return isinstance(generation, HalfOpen) or (isinstance(generation, Open) and now >= generation.until)

    def _has_place(self, generation: HalfOpen, now: float) -> bool:
        trials = generation.trials
        if len(trials) < self.policy.half_open_max_calls:
            return True
        oldest = next(iter(trials))
        if now < trials[oldest]:
            return False
        # It hangs, or its thread was killed. Its place goes to another; its result still counts if it comes.
        del trials[oldest]
        return True

    # Settling

    def settle(self, pass_: Pass, outcome: Outcome, now: float, seconds: float) -> Change | None:
        """Judge the call that carried *pass_*, which took *seconds*."""
        generation = self.generation
        if isinstance(pass_, Trial):
            pass_.generation.trials.pop(pass_, None)
        if outcome is Outcome.IGNORED:
            self.ignored += 1
            return None
        if isinstance(pass_, Closed):
            if pass_ is generation:
                return self._settle_call(pass_, outcome is Outcome.FAILURE, now, seconds)
        elif pass_.generation is generation:
            return self._settle_trial(pass_.generation, outcome is Outcome.FAILURE, now, seconds)
        self.stale += 1
        return None

    def _settle_call(self, closed: Closed, failed: bool, now: float, seconds: float) -> Change | None:
        self._fold(closed)
        if failed:
            self.failed += 1
        else:
            self.successes += 1
            closed.folded += 1
        tally = closed.tally
        tally.record(failed, seconds, now)
        self.failures = tally.failures
        if tally.tripped():
            return self._enter(Event.TRIPPED, tally.reason(), now)
        self._listen(closed)
        return None

    def _settle_trial(self, half: HalfOpen, failed: bool, now: float, seconds: float) -> Change | None:
        if failed:
            self.failed += 1
            return self._enter(Event.TRIAL_FAILED, "a trial failed", now)
        self.successes += 1
        if seconds > self.policy.trip.slower_than:
            return self._enter(Event.TRIAL_FAILED, f"a trial took {seconds:.3g}s", now)
        half.successes += 1
        if half.successes >= self.policy.success_threshold:
            return self._enter(
                Event.TRIALS_PASSED,
                "a trial succeeded" if half.successes == 1 else f"{half.successes} trials succeeded",
                now,
            )
        return None

    def _fold(self, closed: Closed) -> None:
        successes = self.successes
        if successes > closed.folded:
            closed.tally.fold(successes - closed.folded)
            closed.folded = successes

    def _listen(self, closed: Closed) -> None:
        closed.rolls_at = closed.tally.rolls_at
        self.quiet = closed if self._folding and closed.tally.quiet() else None

    # Commands

    def force_open(self, reason: str | None, now: float) -> Change:
        """Refuse every call until :meth:`reset`."""
        return self._enter(Event.FORCED_OPEN, reason or "forced open", now, Forced("open", reason))

    def disable(self, reason: str | None, now: float) -> Change:
        """Let every call pass, unjudged, until :meth:`reset`."""
        return self._enter(Event.DISABLED, reason or "disabled", now, Forced("disabled", reason))

    def reset(self, reason: str | None, now: float) -> Change | None:
        """Close, with nothing counted; None when it was closed already and nobody had forced it."""
        untouched = self.generation.state is CircuitState.CLOSED and self.generation.forced is None
        change = self._enter(Event.RESET, reason or "reset", now, forced=None)
        return None if untouched else change

    def begin_again(self, now: float) -> None:
        """Start a new generation of the same kind, in a forked child: the calls in flight are the parent's.

        Half-open becomes open, its recovery timeout elapsed: the child makes trials of its own.
        """
        generation = self.generation
        if isinstance(generation, Closed):
            self._close(now, forced=generation.forced)
        elif isinstance(generation, HalfOpen):
            self._leave_closed(Open(now))

    def put(self, state: CircuitState, now: float) -> None:
        """Begin a generation of *state* without a transition, as tests do."""
        if state is CircuitState.CLOSED:
            self._close(now, forced=None)
        else:
            self._leave_closed(
                HalfOpen() if state is CircuitState.HALF_OPEN else Open(now + self.policy.recovery_timeout)
            )

    # The fleet

    def adopt(self, state: CircuitState, until: float, opens: int, reason: str, now: float) -> Change | None:
        """Become what the circuit is elsewhere; None when the state stays the same.

        Nothing is adopted while a person overrules the circuit. An open generation learns only until when.
        """
        generation = self.generation
        if generation.forced is not None:
            return None
        old = generation.state
        if state is CircuitState.OPEN:
            self.opens = opens
            if isinstance(generation, Open):
                generation.until = until
            else:
                self._leave_closed(Open(until))
        elif state is CircuitState.HALF_OPEN:
            self._leave_closed(HalfOpen())
        elif old is not CircuitState.CLOSED:
            self._close(now, forced=None)
        if old is state:
            return None
        self.state_changes += 1
        return Change(old, state, reason, forced=False)

    # What is so (no lock needed)

    def remaining(self, now: float) -> float | None:
        """Return the seconds until a trial may pass; None when not open, or forced open."""
        generation = self.generation
        if not isinstance(generation, Open) or generation.forced is not None:
            return None
        return max(0.0, generation.until - now)

    def failure_count(self) -> int:
        """Return how far the trip rule has counted, as of the last call."""
        generation = self.generation
        if isinstance(generation, Closed):
            self._fold(generation)
            self.failures = generation.tally.failures
        return self.failures

    # Changing state

    def _enter(self, event: Event, reason: str, now: float, forced: Forced | None = None) -> Change:
        old = self.generation.state
        new = TRANSITIONS[old, event]
        if new is CircuitState.CLOSED:
            self._close(now, forced)
        elif new is CircuitState.HALF_OPEN:
            self._leave_closed(HalfOpen())
        elif forced is not None:
            self._leave_closed(Open(inf, forced))
        else:
            self.opens += 1
            self._leave_closed(Open(now + self.policy.recovery_timeout))
        self.state_changes += old is not new
        return Change(old, new, reason, event in COMMANDS)

    def _leave_closed(self, generation: Open | HalfOpen) -> None:
        self.quiet = None
        self.generation = generation
        self.refusing = generation if isinstance(generation, Open) and generation.forced is None else None

    def _close(self, now: float, forced: Forced | None) -> None:
        # First: whatever interrupts the rest, no call may carry a pass of the old generation.
        self.quiet = None
        self.refusing = None
        closed = self._closed()
        closed.forced = forced
        closed.began = closed.folded = self.successes
        closed.tally = self.policy.trip.start(now) if forced is None else NEVER.start(now)
        self.failures = self.opens = 0
        self.generation = closed
        self._listen(closed)
