"""Whatever befalls a fleet: trials stay few, nothing moves back, and in the end all agree."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from state.still_fleet import Server, StillWorker, stop_time
from support.clock import FakeClock

from flask_svc_infra.resilience import CircuitBreakerError, CircuitState, Outcome, consecutive, failure_rate
from flask_svc_infra.resilience.machine import Trial
from flask_svc_infra.state import orders

LEASE = 5.0
RECOVERY = 1.5
LONGEST = 2 * LEASE + 4 * RECOVERY + 10
"""Seconds within which a fleet must have recovered once everything works."""
TRIPS = st.sampled_from([consecutive(3), failure_rate(0.5, last=10, minimum_calls=3)])
OUTCOMES = st.sampled_from([Outcome.SUCCESS] * 2 + [Outcome.FAILURE] * 3 + [Outcome.IGNORED])
WORKERS = st.integers(0, 2)


class Fleet(RuleBasedStateMachine):
    """Three processes on two hosts, and one store."""

    @initialize(
        trip=TRIPS,
        quorum=st.integers(1, 2),
        places=st.integers(1, 2),
        threshold=st.integers(1, 3),
        faults=st.booleans(),
        people=st.booleans(),
    )
    def begin(self, *, trip, quorum, places, threshold, faults, people):
        self.faults, self.people = faults, people
        self.monkeypatch = pytest.MonkeyPatch()
        self.clock = FakeClock()
        stop_time(self.monkeypatch, self.clock)
        self.server = Server(self.clock)
        self.quorum, self.places, self.threshold = quorum, places, threshold
        self.one_bad_host = quorum > 1 and not people
        self.options = {
            "trip": trip, "quorum": quorum, "half_open_max_calls": places, "success_threshold": threshold,
            "recovery_timeout": RECOVERY,
        }  # fmt: skip
        self.workers = [self.new(number) for number in range(3)]
        self.held = []
        self.copied = self.server.copy()
        self.lost = 0
        self.orders = 0
        self.last = None
        for worker in self.workers:
            worker.reporter.turn()

    def new(self, number):
        worker = StillWorker(self.server, "ab"[number % 2], self.clock, lease=LEASE, **self.options)
        worker.calls = 0
        worker.epoch = 0
        return worker

    # What users do

    def admit(self, worker):
        unsure = worker.circuit._mine or not worker.reporter.up
        worker.calls += 1
        try:
            permit = worker.circuit_breaker.admit()
        except CircuitBreakerError:
            return None
        pass_ = permit._pass
        if isinstance(pass_, Trial):
            assert pass_.grant is not None or unsure or not worker.reporter.up, "a trial nobody has permitted"
        return permit

    def may_fail(self, worker, outcome):
        return Outcome.SUCCESS if self.one_bad_host and worker.host == "b" else outcome

    @rule(number=WORKERS, outcomes=st.lists(OUTCOMES, min_size=1, max_size=4))
    def calls(self, number, outcomes):
        worker = self.workers[number]
        for outcome in outcomes:
            permit = self.admit(worker)
            if permit is not None:
                permit.settle(self.may_fail(worker, outcome))

    @rule(number=WORKERS)
    def a_storm(self, number):
        self.calls(number=number, outcomes=[Outcome.FAILURE] * 4)
        self.all_turn(1)

    @rule()
    def all_try_what_may_be_tried(self):
        self.clock.advance(RECOVERY)
        for number in [0, 1, 2, 0, 1, 2]:
            self.a_call_begins(number=number)

    @rule(number=WORKERS)
    def a_call_begins(self, number):
        worker = self.workers[number]
        permit = self.admit(worker)
        if permit is not None:
            worker.calls -= 1
            self.held.append((worker, permit, self.clock(), self.lost))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=OUTCOMES)
    def a_call_ends(self, data, outcome):
        worker, permit, *_ = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if worker not in self.workers:
            return  # it was killed
        breaker, pass_ = worker.circuit_breaker, permit._pass
        generation = breaker._machine.generation
        late = (pass_.generation if isinstance(pass_, Trial) else pass_) is not generation
        before = (breaker.state, breaker._machine.opens, worker.circuit._epoch, worker.circuit._moves)
        worker.calls += 1
        permit.settle(self.may_fail(worker, outcome))
        if late:
            assert breaker._machine.generation is generation, "a late result decided something"
            assert before == (
                breaker.state, breaker._machine.opens, worker.circuit._epoch, worker.circuit._moves
            )  # fmt: skip

    # What reporters do

    @rule()
    def all_poll(self):
        self.all_turn(1)

    @rule(number=WORKERS)
    def turn(self, number):
        self.workers[number].reporter.turn()

    @rule(number=WORKERS, busy=st.booleans())
    def a_reporter_is_busy(self, number, busy):
        self.workers[number].reporter.busy = busy

    @rule(seconds=st.sampled_from([0.1, 0.6, 1.1, RECOVERY, LEASE + 0.1]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    # What people do

    @precondition(lambda self: self.people)
    @rule(number=WORKERS, what=st.sampled_from(["force_open", "disable", "reset", "reset"]))
    def an_order(self, number, what):
        self.orders += 1
        self.clock.advance(0.01)  # the last order is that which is given last by a hundredth of a second
        worker = self.workers[number]
        getattr(worker.circuit_breaker, what)(f"order {self.orders}")
        self.last = (None if what == "reset" else f"order {self.orders}"), self.orders

    @precondition(lambda self: self.people)
    @rule(kind=st.sampled_from(["open", "disabled", None]))
    def a_command(self, kind):
        if self.server.up:
            self.orders += 1
            self.clock.advance(0.01)
            reason = f"order {self.orders}"
            if kind is None:
                orders.reset(self.server, "payments", reason=reason, actor="cli")
            else:
                orders.overrule(self.server, "payments", kind, reason=reason, actor="cli")
            self.last = reason if kind else None, self.orders

    # What befalls them

    @precondition(lambda self: self.faults)
    @rule(number=WORKERS, fault=st.sampled_from(["cut", "deaf"]), on=st.booleans())
    def a_link(self, number, fault, on):
        setattr(self.workers[number].link, fault, on)

    @precondition(lambda self: self.faults)
    @rule(up=st.booleans())
    def the_server(self, up):
        self.server.up = up

    @precondition(lambda self: self.faults)
    @rule()
    def a_copy(self):
        self.copied = self.server.copy()

    @precondition(lambda self: self.faults)
    @rule(empty=st.booleans())
    def loss(self, empty):
        self.clock.advance(0.01)
        if empty:
            self.server.empty()
        else:  # as when another server takes over: that breaks the connections
            self.server.fall_back(self.copied)
            for worker in self.workers:
                worker.link.broken = True
        self.lost += 1
        if self.lost > 1 and any(worker.circuit._overruled._unsent for worker in self.workers):
            self.last = None  # one unsent since before may have the higher version: all agree, on either
        self.forget_orders_nobody_knows()

    @precondition(lambda self: self.faults)
    @rule(number=WORKERS)
    def a_kill(self, number):
        self.workers[number] = self.new(number)
        self.forget_orders_nobody_knows()

    def forget_orders_nobody_knows(self):
        """What only the dead and a lost store knew is lost."""
        if self.last is not None and not any(self.last_known(worker) for worker in self.workers):
            self.last = None

    def last_known(self, worker):
        document = worker.circuit._overruled
        known = document._unsent or document._known
        return known is not None and json.loads(known.said["body"])["reason"] == f"order {self.last[1]}"

    # What must hold

    @invariant()
    def trials_are_bounded(self):
        if not hasattr(self, "held"):
            return
        trials = {}
        for _worker, permit, since, lost in self.held:
            pass_ = permit._pass
            if not isinstance(pass_, Trial) or pass_.grant is None or self.clock() >= since + LEASE:
                continue
            epoch = pass_.grant.epoch, lost
            trials[epoch] = trials.get(epoch, 0) + 1
        assert all(count <= self.places for count in trials.values()), trials

    @invariant()
    def epochs_never_go_back(self):
        for worker in getattr(self, "workers", ()):
            assert worker.circuit._epoch >= worker.epoch
            worker.epoch = worker.circuit._epoch

    @invariant()
    def every_call_is_counted_once(self):
        for worker in getattr(self, "workers", ()):
            assert worker.circuit_breaker.stats.total_calls == worker.calls

    @invariant()
    def one_bad_host_opens_nothing_elsewhere(self):
        if getattr(self, "one_bad_host", False) and self.orders == 0:
            for worker in self.workers:
                if worker.host == "b":
                    assert worker.circuit_breaker.state is CircuitState.CLOSED

    def teardown(self):
        if not hasattr(self, "workers"):
            return
        try:
            self.peace()
        finally:
            self.monkeypatch.undo()

    def all_turn(self, times=3):
        for _ in range(times):
            for worker in self.workers:
                worker.reporter.turn()

    def peace(self):
        self.server.up = True
        for worker in self.workers:
            worker.link.cut = worker.link.deaf = worker.reporter.busy = False
        for worker, permit, *_ in self.held:
            if worker in self.workers:
                permit.settle(Outcome.SUCCESS)
        self.all_turn()
        forced = {worker.circuit_breaker.forced for worker in self.workers}
        assert len(forced) == 1, f"forced here and not there: {forced}"
        overruled = forced.pop()
        if self.last is not None:
            assert (overruled and overruled.reason) == self.last[0], "the last order does not hold"
        if overruled is not None:
            self.workers[self.orders % 3].circuit_breaker.reset("peace")
            self.all_turn()
        else:
            self.recover()
        self.agree(CircuitState.CLOSED)
        self.fail_everywhere()

    def recover(self):
        for _ in range(round(LONGEST / 0.55)):
            if all(worker.circuit_breaker.state is CircuitState.CLOSED for worker in self.workers):
                break
            self.clock.advance(0.55)
            for worker in self.workers:
                worker.call()
                worker.reporter.turn()
        self.all_turn()

    def agree(self, state):
        shown = [
            (str(w.circuit_breaker.state), w.circuit._epoch, w.circuit._mine, w.circuit_breaker.forced)
            for w in self.workers
        ]
        assert all(each == (str(state), shown[0][1], False, None) for each in shown), shown
        epoch = shown[0][1]
        record = self.server.record()
        kept = (record["state"], record["epoch"]) if record else (str(state), 0)
        assert kept == (str(state), epoch), f"the store says {kept}, the fleet {state} in epoch {epoch}"

    def fail_everywhere(self):
        """A fleet that has recovered still counts together: no process has its three failures alone."""
        for worker in self.workers:
            worker.call()
        self.all_turn()
        self.clock.advance(0.2)
        for _ in range(2 + 8 * (not isinstance(self.options["trip"], type(consecutive(1))))):
            for worker in self.workers:
                worker.call(Outcome.FAILURE)
                worker.reporter.turn()
        self.all_turn()
        self.agree(CircuitState.OPEN)


def run(examples):
    run_state_machine_as_test(
        Fleet,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_fleet_agrees_whatever_befalls_it():
    run(150)


@pytest.mark.nightly
def test_a_fleet_agrees_whatever_befalls_it_for_an_hour():
    run(100_000)
