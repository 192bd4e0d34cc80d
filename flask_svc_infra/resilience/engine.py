"""Drives one machine: the lock, the clock, the judging of outcomes, and telling what happened.

The lock is held to admit and to settle, never during the user's call, a classifier, a recovery callable, a
listener or a log line. It is re-entrant because the garbage collector may run a finalizer inside it that
settles a call of the same circuit.

The engine knows its breaker only weakly, so that a breaker nobody uses dies at once and leaves the metrics.
"""

from __future__ import annotations

import logging
import sys
import time
import weakref
from collections.abc import Callable
from threading import RLock
from typing import TYPE_CHECKING, Any

from ..errors import CircuitBreakerError
from ..events import Announcer, Transition, circuit_transition, publish
from . import recovery
from .checked import seconds_or_zero
from .generations import CircuitState, Closed, HalfOpen, Open, Outcome, Trial
from .machine import Machine, Policy

if TYPE_CHECKING:
    from .generations import Generation, Pass
    from .shared import SharedCircuit
    from .transitions import Change

__all__ = ["FOLDING", "Engine"]

FOLDING: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether successes of a quiet circuit are counted without the lock. The GIL makes ``int += 1`` whole: no
thread is switched between its load and its store. Without a GIL every result is settled under the lock, and
only ``rejected``, which decides nothing, may lose a count."""

_logger = logging.getLogger("flask_svc_infra.resilience")
_OPEN = CircuitState.OPEN
_refusal = CircuitBreakerError.__new__


class Engine:
    """What every form of protection is built on: :meth:`admit` a call, then :meth:`settle` it, once."""

    __slots__ = (
        "_announcer", "_failures", "_ignored", "_lock", "_on_transition", "_owner", "_recovery", "clock",
        "failure_result", "machine", "name", "shared", "slower_than", "timed",
    )  # fmt: skip

    def __init__(
        self,
        owner: object,
        name: str,
        policy: Policy,
        *,
        failures: tuple[type[Exception], ...],
        ignored: tuple[type[Exception], ...],
        failure_result: Callable[[Any], bool] | None,
        recovery_timeout: Callable[[int], float] | None,
        on_transition: Callable[[Transition], object] | None,
        clock: Callable[[], float],
        closed: Callable[[Engine], Closed],
    ) -> None:
        self.name = name
        self.shared: SharedCircuit | None = None
        """What keeps the circuit in step with the fleet; asked only off the closed path, and before a
        trial."""
        self.clock = clock
        self.failure_result = failure_result
        self.timed = policy.trip.timed
        self.slower_than = policy.trip.slower_than
        self.machine = Machine(policy, now=clock(), folding=FOLDING, closed=lambda: closed(self))
        self._failures = failures
        self._ignored = ignored
        self._recovery = recovery_timeout
        self._on_transition = on_transition
        self._owner = weakref.ref(owner)
        self._lock = RLock()
        self._announcer: Announcer[Transition] = Announcer(self._tell)

    # Admitting

    def admit(self) -> Pass:
        """Let one call pass; the caller owes a :meth:`settle`.

        Raises:
            CircuitBreakerError: the circuit does not let it pass.
        """
        machine = self.machine
        generation = machine.generation
        if isinstance(generation, Closed):
            return generation
        shared = self.shared
        may_try, grant = (True, None) if shared is None else shared.ask()
        pass_: Pass | None = None
        change: Change | None = None
        with self._lock:
            now = self.clock()
            if shared is not None and grant is not None:
                may_try = shared.holds(grant)
            if may_try or not machine.would_try(now):
                pass_, change = machine.admit(now)
            else:
                machine.rejected += 1
            generation = machine.generation
            if change is not None:
                self._note(change)
        if change is not None:
            self._announcer.announce()
        if shared is not None and grant is not None:
            if isinstance(pass_, Trial):
                pass_.grant = grant
            else:
                shared.give_back(grant)
        if pass_ is None:
            raise self._refuse(generation, now)
        return pass_

    def admits(self) -> Pass | None:
        """Let one call pass, or return None where :meth:`admit` raises."""
        try:
            return self.admit()
        except CircuitBreakerError:
            return None

    def _refuse(self, generation: Generation, now: float) -> CircuitBreakerError:
        forced = generation.forced
        if forced is not None:
            return _refusal(CircuitBreakerError, self.name, _OPEN, None, forced.reason)
        remaining = max(0.0, generation.until - now) if isinstance(generation, Open) else None
        return _refusal(CircuitBreakerError, self.name, generation.state, remaining, None)

    # Settling

    def settle(self, pass_: Pass, outcome: Outcome, seconds: float = 0.0) -> None:
        """Report how the call that carried *pass_* ended, and after how many *seconds* (0 if nobody asks)."""
        with self._lock:
            now = self.clock()
            change = self.machine.settle(pass_, outcome, now, seconds)
            if change is not None:
                self._note(change)
            opened = self.machine.generation
            opens = self.machine.opens
        if change is not None and self._recovery is not None and isinstance(opened, Open):
            opened.until = now + self._ask_recovery(self._recovery, opens)
        if self.shared is not None:
            self.shared.settled(pass_, outcome, seconds, change)
        if change is not None:
            self._announcer.announce()

    def raised(self, pass_: Pass, error: BaseException, seconds: float = 0.0) -> None:
        """Report that the call that carried *pass_* raised *error*."""
        outcome = Outcome.IGNORED
        try:
            outcome = self.judge(error)
        finally:
            self.settle(pass_, outcome, seconds)

    def returned(self, pass_: Pass, result: object, seconds: float = 0.0) -> None:
        """Report that the call that carried *pass_* returned *result*."""
        outcome = Outcome.IGNORED
        try:
            failed = self.failure_result is not None and self.failure_result(result)
            outcome = Outcome.FAILURE if failed else Outcome.SUCCESS
        finally:
            # A classifier that raises has given no verdict, but the permit is given back.
            self.settle(pass_, outcome, seconds)

    def judge(self, error: BaseException) -> Outcome:
        """Say what *error* means.

        No verdict are exceptions that are ignored or not listed, and whatever is not an ``Exception``.
        """
        if not isinstance(error, self._failures) or isinstance(error, self._ignored):
            return Outcome.IGNORED
        if isinstance(error, CircuitBreakerError) and error.name == self.name:
            # The circuit's own refusal of a nested call says nothing about the dependency.
            return Outcome.IGNORED
        return Outcome.FAILURE

    def _ask_recovery(self, recovery_timeout: Callable[[int], float], opens: int) -> float:
        try:
            return seconds_or_zero("recovery_timeout()", recovery_timeout(opens))
        except Exception:
            _logger.exception(
                "circuit '%s' opened, but its recovery_timeout failed; it waits %gs",
                self.name,
                recovery.DEFAULT,
            )
            return recovery.DEFAULT

    # Commands

    def command(self, decide: Callable[[Machine, float], Change | None]) -> None:
        """Apply a person's decision, here and in the fleet."""
        change = self.decide(decide)
        if self.shared is not None:
            self.shared.commanded(None if change is None else change.reason)

    def adopt(self, state: CircuitState, remaining: float, opens: int, reason: str) -> None:
        """Become what the circuit is elsewhere, open for *remaining* seconds if it is open there."""

        def adopted(machine: Machine, now: float) -> Change | None:
            return machine.adopt(state, now + remaining, opens, reason, now)

        self.decide(adopted)

    def share(self, shared: SharedCircuit) -> SharedCircuit:
        """Keep in step with the fleet by *shared*, or by what does so already; returns which."""
        with self._lock:
            if self.shared is None:
                self.shared = shared
            return self.shared

    def recovery_after(self, opens: int) -> float:
        """Return the seconds to stay open after opening for the *opens*-th time without closing."""
        if self._recovery is None:
            return self.machine.policy.recovery_timeout
        return self._ask_recovery(self._recovery, opens)

    def decide(self, decide: Callable[[Machine, float], Change | None]) -> Change | None:
        """Apply a decision here; return what it changed."""
        with self._lock:
            change = decide(self.machine, self.clock())
            if change is not None:
                self._note(change)
        self._announcer.announce()
        return change

    def failure_count(self) -> int:
        """Return how far the trip rule has counted."""
        with self._lock:
            return self.machine.failure_count()

    def after_fork(self) -> None:
        """Forget, in a forked child, the parent's locks, calls in flight and undelivered news."""
        held = not self._lock.acquire(blocking=False)
        self._lock = RLock()
        self._announcer.renew()
        machine = self.machine
        if held or isinstance(machine.generation, HalfOpen):
            # Held: another thread of the parent was in the middle of a decision, so its counts may be half
            # made.
            machine.begin_again(self.clock())
        if self.shared is not None:
            self.shared.after_fork()

    # Telling

    def _note(self, change: Change) -> None:
        self._announcer.note(
            Transition(self.name, change.old, change.new, change.reason, change.forced, time.time())
        )

    def _tell(self, event: Transition) -> None:
        _logger.log(
            logging.WARNING if event.new is _OPEN else logging.INFO,
            "circuit '%s' went from %s to %s: %s",
            event.name,
            event.old.value,
            event.new.value,
            event.reason,
            extra={
                "circuit": event.name,
                "old_state": event.old.value,
                "new_state": event.new.value,
                "reason": event.reason,
                "forced": event.forced,
            },
        )
        if self._on_transition is not None:
            try:
                self._on_transition(event)
            except Exception:
                _logger.exception("on_transition of circuit '%s' raised; the transition stands", self.name)
        publish(circuit_transition, self._owner(), event)
