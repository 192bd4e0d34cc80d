"""One circuit of this process, kept in step with the same circuit everywhere else.

The machine goes on deciding as it does alone. This adds three things at its edge, and costs a closed or open
call nothing:

- what happens here is told: a trip, how a trial ended, what was counted (the last with the reporter's next
  sync);
- what happened elsewhere is adopted: a record with a higher epoch than the one known here;
- a trial needs the fleet's permit. This is the one place where a caller waits for the store, as long as an
  answer takes and 60 ms at most, one caller at a time; the others are refused meanwhile.

``_mine`` is set while the circuit here is in a state the store has not confirmed: a trip that is on its way,
or one that the quorum did not follow. Until it is confirmed or overtaken by a higher epoch, the circuit here
decides for itself, trials included; so it does while the store does not answer.

The epoch is written by the reporter's thread alone.
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from ..state.document import SharedDocument, circuit_key
from . import fleet_rules
from .generations import CircuitState, Closed, Open, Outcome, Trial

if TYPE_CHECKING:
    from ..state.document import Document
    from ..state.ledger import Json
    from ..state.reporter import Reporter
    from ..state.store import Store
    from .engine import Engine
    from .generations import Pass
    from .transitions import Change

__all__ = ["Grant", "SharedCircuit"]

PATIENCE = 0.06
"""Seconds a caller waits for a permit: a little longer than the store is given to answer."""
VOTE = 60_000
"""Milliseconds a host's word that the circuit must open counts towards a quorum."""
_HOLD = (0.5, 1.0)
"""Seconds, at least and at most, until a process asks again after all trials were taken. Those who have one
ask again at once when it succeeds, so recovery does not wait for this."""
_LONGEST_REPORT = 4096

_logger = logging.getLogger("flask_svc_infra.state")


@dataclass(frozen=True, slots=True)
class Grant:
    """The fleet's permit for one trial, held by the process that asked for it."""

    permit: str
    epoch: int
    pid: int


class SharedCircuit:
    """Keeps *engine* in step with the store.

    Args:
        engine: the circuit.
        reporter: talks to the store.
        quorum: hosts that must say so before a trip opens the circuit everywhere.
        host: this host's name, for the quorum and the journal.
    """

    def __init__(self, engine: Engine, reporter: Reporter, *, quorum: int, host: str) -> None:
        self._engine = engine
        self._machine = engine.machine
        self._reporter = reporter
        self._quorum = quorum
        self._host = host
        self._rule = self._machine.policy.trip
        self._windows = fleet_rules.windows(self._rule)
        self._epoch = 0
        self._heard = False  # whether the store has ever said anything about it
        self._mine = False
        self._moves = 0
        self._closing = False
        self._accused = False
        self._calls: deque[tuple[Closed, fleet_rules.Call]] = deque(maxlen=_LONGEST_REPORT)
        self._counting: object = self._machine.generation
        self._counted = self._machine.successes
        self._asking = threading.Lock()
        self._ask_again = 0.0
        self._overruled = SharedDocument(reporter, circuit_key(engine.name), self._overrule)

    # For callers

    def ask(self) -> tuple[bool, Grant | None]:
        """Say whether a call may be a trial, and by which permit of the fleet's.

        Without a permit it may where the circuit here decides for itself. A call that is no trial needs
        none of this; by the time it is admitted it may have become one, and then it is refused.
        """
        reporter = self._reporter
        if self._mine:
            return True, None
        if not reporter.up:
            if reporter.down_for is not None:
                return True, None
            reporter.start()  # not asked yet: a forked child
        if not self._machine.would_try(self._engine.clock()):
            return False, None
        if time.monotonic() < self._ask_again or not self._asking.acquire(blocking=False):
            return False, None
        try:
            ask = _Ask(self)
            reporter.submit(ask)
            answer = ask.wait()
        finally:
            self._asking.release()
        if answer is None:
            self._ask_again = time.monotonic() + PATIENCE
            return False, None
        return answer

    def holds(self, grant: Grant) -> bool:
        """Tell whether *grant* is for what the circuit is now."""
        return grant.epoch == self._epoch

    def settled(self, pass_: Pass, outcome: Outcome, seconds: float, change: Change | None) -> None:
        """Tell the fleet how a call ended, and what came of it here. Called without the circuit's lock."""
        if isinstance(pass_, Trial):
            self._settled_trial(pass_, outcome, change)
        elif change is not None:
            self._move()
            self._vote(change.reason)
        elif pass_ is self._machine.generation and pass_.forced is None:
            failed = outcome is Outcome.FAILURE
            if failed or (outcome is Outcome.SUCCESS and seconds > self._engine.slower_than):
                self._calls.append((pass_, (self._machine.successes, failed, seconds)))
                self._reporter.ring()
        else:
            self._reporter.start()  # a forked child may have to learn that it is disabled no more

    def _settled_trial(self, trial: Trial, outcome: Outcome, change: Change | None) -> None:
        grant: Grant | None = trial.grant
        if grant is not None and grant.pid != os.getpid():
            return  # this is a forked child: the trial is its parent's
        said: Literal["success", "failure", "ignored"] = "ignored"
        if change is not None:
            said = "failure" if change.new is CircuitState.OPEN else "success"
            self._move()
        elif outcome is Outcome.SUCCESS and trial.generation is self._machine.generation:
            said = "success"
        if grant is not None:
            self._settle(grant, said, "a trial succeeded" if change is None else change.reason)
        elif change is not None and change.new is CircuitState.OPEN:
            self._vote(change.reason)
        elif change is not None:
            self._reporter.ring()  # to be told what the others are in: see report()

    @property
    def _actor(self) -> str:
        return f"{self._host}:{os.getpid()}"

    def give_back(self, grant: Grant) -> None:
        """Return a permit that made no trial."""
        self._settle(grant, "ignored", "")

    def commanded(self, reason: str | None) -> None:
        """Tell the fleet that a person has overruled the circuit here, or has reset it, and why."""
        forced = self._machine.generation.forced
        self._closing = forced is None
        if forced is not None:
            what = "forced open" if forced.kind == "open" else "disabled"
            body = {"kind": forced.kind, "reason": forced.reason}
            self._overruled.put(body, what=what, reason=forced.reason, actor=self._actor)
            return
        self._move()
        self._reporter.submit(self._close)
        body = {"kind": None, "reason": reason}
        self._overruled.put(body, what="reset", reason=reason, actor=self._actor)

    def _move(self) -> None:
        """Note that the state here has changed of itself; answers to what was asked before are old news."""
        self._moves += 1
        self._mine = True

    # Jobs: in the reporter's thread

    def _arguments(self, reason: str, **more: Any) -> Json:
        generation = self._machine.generation
        left = 0.0
        if isinstance(generation, Open) and generation.forced is None:
            left = max(0.0, generation.until - self._engine.clock())
        return {
            "name": self._engine.name,
            "epoch": self._epoch,
            "opens": self._machine.opens,
            "recovery": math.ceil(left * 1000),
            "reason": reason,
            "actor": self._actor,
            **more,
        }

    def _vote(self, reason: str) -> None:
        moves = self._moves

        def vote(store: Store | None) -> None:
            if store is not None and self._mine and isinstance(self._machine.generation, Open):
                opens = max(0, self._machine.opens - 1)
                more = {"opens": opens, "host": self._host, "quorum": self._quorum, "vote": VOTE}
                record = store.act("open", self._arguments(reason, **more))["record"]
                if self._first_heard(record):
                    record = store.act("open", self._arguments(reason, **more))["record"]
                self._answered(moves, record)

        self._reporter.submit(vote)

    def _settle(self, grant: Grant, outcome: str, reason: str) -> None:
        moves = self._moves

        def settle(store: Store | None) -> None:
            if store is None:
                return  # its lease runs out
            args = self._arguments(
                reason,
                epoch=grant.epoch,
                permit=grant.permit,
                outcome=outcome,
                threshold=self._machine.policy.success_threshold,
            )
            record = store.act("settle", args)["record"]
            if record is not None and moves == self._moves:
                self._mine = False
            self._answered(moves, record)

        self._reporter.submit(settle)

    def _close(self, store: Store | None) -> None:
        """Close the circuit everywhere: a person has reset it here."""
        if store is None or not self._closing:
            return  # done when everything is learned anew, or overtaken by another order
        moves = self._moves
        epoch = self._epoch + 1
        while True:
            args = self._arguments("reset", epoch=epoch, state="closed", opens=0)
            record = store.act("restore", args)["record"]
            if record["state"] == "closed" and record["epoch"] == epoch:
                break
            epoch = record["epoch"] + 1
        self._epoch = epoch
        if moves == self._moves:
            self._closing = self._mine = False

    def acquire(self, store: Store) -> tuple[bool, Grant | None]:
        """Ask for a trial's permit."""
        if self._mine:
            return False, None  # it has changed of itself since the caller asked
        permit = uuid4().hex
        policy = self._machine.policy
        args = self._arguments(
            "as it was",
            permit=permit,
            limit=policy.half_open_max_calls,
            lease=math.ceil(policy.lease * 1000),
        )
        reply = store.act("acquire", args)
        record = reply["record"]
        self.take(record)
        if reply["granted"]:
            return True, Grant(permit, record["epoch"], os.getpid())
        if record["state"] == "half_open":
            self._ask_again = time.monotonic() + random.uniform(*_HOLD)  # noqa: S311 - spreads load
        elif record["state"] == "open":
            self._adopt(record)  # no trial yet, by the store's clock
        return False, None

    # What the store says: in the reporter's thread

    def report(self) -> Json | None:
        """Return what was counted since the last time; None when that is nothing."""
        if not self._heard:
            return None  # it is not known yet in which epoch it was counted
        successes = self._machine.successes
        calls = [self._calls.popleft() for _ in range(len(self._calls))]
        # A failure that came meanwhile may know of a success that would else be reported after it, as newer.
        successes = max([successes, *(by_then for _, (by_then, _, _) in calls)])
        before, self._counted = self._counted, successes
        generation = self._machine.generation
        counting, self._counting = self._counting, generation
        if not isinstance(generation, Closed) or generation.forced is not None:
            return None
        if self._mine:
            self._reporter.unlearn()  # it has closed of itself: what are the others in?
            return None
        own = [call for pass_, call in calls if pass_ is generation]
        self._accused = bool(own)
        if counting is not generation:
            before = generation.began  # what came before it closed was counted before it closed
        if successes == before and not own:
            return None
        counted = fleet_rules.count(self._windows, own, before, successes)
        return {"name": self._engine.name, "epoch": self._epoch, **counted}

    def counted(self, store: Store, tally: Json) -> None:
        """Take what the fleet has counted; open the circuit everywhere if that is enough."""
        if self._mine or self._machine.generation is not self._counting:
            return
        if self._quorum > 1 and not self._accused:
            return  # others have failed, and say so themselves
        sums = [(int(hits), int(calls)) for hits, calls in tally["windows"] or ()]
        reason = fleet_rules.tripped(self._rule, tally["run"], dict(zip(self._windows, sums, strict=True)))
        if reason is None:
            return
        recovery = self._engine.recovery_after(self._machine.opens + 1)
        args = self._arguments(
            reason, recovery=math.ceil(recovery * 1000), host=self._host, quorum=self._quorum, vote=VOTE
        )
        record = store.act("open", args)["record"]
        if record["epoch"] > self._epoch:
            self.take(record)

    def learn(self, record: Json | None, document: Json | None) -> None:
        """Take all there is about this circuit; None for what there is not."""
        self._overruled.learn(document)
        if self._first_heard(record):
            self._vote("as it was")
        elif self._closing:
            self._reporter.submit(self._close)
        else:
            self.take(record)
        if self._calls:
            self._reporter.ring()

    def _first_heard(self, record: Json | None) -> bool:
        """Note that something was heard; tell whether it was closed while the circuit here opened unheard.

        Then its opening is the news, though it could not know after which epoch it came.
        """
        first, self._heard = not self._heard, True
        if not first or record is None or record["state"] != "closed" or record["epoch"] <= self._epoch:
            return False
        if not self._mine or self._closing or not isinstance(self._machine.generation, Open):
            return False
        self._epoch = record["epoch"]
        return True

    def take(self, record: Json | None) -> None:
        """Adopt *record* if it is news; tell the store what this process knows if that is newer."""
        if record is not None and record["epoch"] > self._epoch:
            self._adopt(record)
        elif self._mine:
            self._insist(record)
        elif record is None or record["epoch"] < self._epoch:
            self._put_back()
        elif record["state"] != self._machine.generation.state:
            self._adopt(record)

    def _adopt(self, record: Json) -> None:
        self._epoch = record["epoch"]
        self._mine = False
        self._ask_again = 0.0
        state = CircuitState(record["state"])
        self._engine.adopt(state, record["remaining"] / 1000, record["opens"], record["reason"])

    def _insist(self, record: Json | None) -> None:
        """Tell the store, which has heard of nothing newer, what the circuit here has done of itself."""
        generation = self._machine.generation
        known = record is not None and record["epoch"] == self._epoch
        if generation.forced is not None:
            self._mine = False
        elif known and record is not None and record["state"] == generation.state:
            self._adopt(record)  # so has another process
        elif isinstance(generation, Open):
            self._vote("as it was")
        elif isinstance(generation, Closed):
            self._mine = False
            self._put_back(self._epoch + known)

    def _answered(self, moves: int, record: Json | None) -> None:
        """Take the answer to what was asked after *moves* changes here."""
        if record is None:
            self.take(None)
        elif moves != self._moves:
            self._epoch = max(self._epoch, record["epoch"])  # what has changed since is on its way
        elif not self._mine or record["epoch"] > self._epoch:
            self.take(record)

    def _put_back(self, epoch: int | None = None) -> None:
        """Tell the store what it does not know, or does not know any more."""
        machine = self._machine
        generation = machine.generation
        epoch = self._epoch if epoch is None else epoch
        if generation.forced is not None or epoch == 0:
            return

        def restore(store: Store | None) -> None:
            if store is not None and not self._mine and machine.generation is generation:
                args = self._arguments("as it was", epoch=epoch, state=generation.state.value)
                record = store.act("restore", args)["record"]
                if record["epoch"] > self._epoch:
                    self.take(record)

        self._reporter.submit(restore)

    def _overrule(self, document: Document) -> None:
        kind, reason = document.body.get("kind"), document.body.get("reason")
        if not isinstance(reason, str):
            reason = None
        self._closing = False
        if kind == "open":
            self._engine.decide(lambda machine, now: machine.force_open(reason, now))
        elif kind == "disabled":
            self._engine.decide(lambda machine, now: machine.disable(reason, now))
        elif kind is not None:
            _logger.warning(
                "circuit '%s' is overruled in a way that this version does not know; it is ignored",
                self._engine.name,
            )
        elif self._machine.generation.forced is not None:
            self._engine.decide(lambda machine, now: machine.reset(reason, now))

    def after_fork(self) -> None:
        """In a forked child: the parent tells of what it has counted and asked."""
        self._asking = threading.Lock()
        self._ask_again = 0.0
        self._closing = False
        self._calls.clear()
        self._counting = self._machine.generation
        self._counted = self._machine.successes
        self._machine.refusing = None  # a refusal that asks begins the polls


class _Ask:
    """One caller's question, which the caller may give up before it is answered."""

    __slots__ = ("_answer", "_circuit", "_done", "_fate")

    def __init__(self, circuit: SharedCircuit) -> None:
        self._circuit = circuit
        self._done = threading.Event()
        self._fate: dict[str, str] = {}
        self._answer: tuple[bool, Grant | None] = (True, None)

    def __call__(self, store: Store | None) -> None:
        if store is not None and not self._fate:
            self._answer = self._circuit.acquire(store)
        if self._fate.setdefault("fate", "answered") == "given up":
            grant = self._answer[1]
            if grant is not None:
                self._circuit.give_back(grant)
        self._done.set()

    def wait(self) -> tuple[bool, Grant | None] | None:
        """Return the answer, or None when it did not come in time."""
        if self._done.wait(PATIENCE):
            return self._answer
        # dict.setdefault is atomic: just one of the two, answering and giving up, comes first.
        return self._answer if self._fate.setdefault("fate", "given up") == "answered" else None
