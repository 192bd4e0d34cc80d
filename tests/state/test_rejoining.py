"""Particular histories of a fleet, step by step: who went its own way, and how all agree again."""

from __future__ import annotations

import logging

import pytest
from state.still_fleet import Server, StillWorker, stop_time
from support.clock import FakeClock

from flask_svc_infra.resilience import CircuitBreakerError, CircuitState, Outcome, consecutive, failure_rate
from flask_svc_infra.state import orders
from flask_svc_infra.state.document import SharedDocument, order
from flask_svc_infra.state.store import encoded

FAILURE, SUCCESS = Outcome.FAILURE, Outcome.SUCCESS
ORDER = order("x", {"kind": None}, what="x", reason=None, actor="cli")


@pytest.fixture
def clock(monkeypatch):
    clock = FakeClock()
    stop_time(monkeypatch, clock)
    return clock


@pytest.fixture
def server(clock):
    return Server(clock)


@pytest.fixture
def fleet(server, clock):
    def make(hosts="aab", **options):
        usual = {"trip": consecutive(3), "recovery_timeout": 2.0, "success_threshold": 1}
        workers = [StillWorker(server, host, clock, lease=30.0, **usual | options) for host in hosts]
        poll(*workers)
        return workers

    return make


def poll(*workers, times=1):
    for _ in range(times):
        for worker in workers:
            worker.reporter.turn()


def states(workers):
    return [str(worker.circuit_breaker.state) for worker in workers]


def calls(worker, *outcomes):
    return [worker.call(outcome) for outcome in outcomes]


def test_who_has_not_failed_does_not_second_the_vote_of_who_has(fleet):
    workers = one, two, good = fleet("aab", trip=failure_rate(0.5, last=10, minimum_calls=3), quorum=2)
    for bad in (one, two):
        calls(bad, FAILURE, FAILURE)
        poll(bad)
    calls(good, SUCCESS)
    poll(*workers, times=3)
    assert good.circuit_breaker.state is CircuitState.CLOSED


def test_who_recovered_alone_counts_with_the_others_again(fleet, server):
    workers = fleet("aab")
    server.up = False
    poll(*workers)
    calls(workers[0], FAILURE, FAILURE, FAILURE)
    workers[0].circuit_breaker._clock.advance(2.0)
    calls(workers[0], SUCCESS)
    server.up = True
    poll(*workers, times=2)
    for worker in workers:  # each fails once: only together are they three
        calls(worker, FAILURE)
        poll(worker)
    poll(*workers)
    assert states(workers) == ["open"] * 3


def test_who_recovered_while_the_store_was_down_closes_the_circuit_for_all(fleet, server, clock):
    workers = fleet()
    calls(workers[0], FAILURE, FAILURE, FAILURE)
    poll(*workers, times=2)
    assert states(workers) == ["open"] * 3
    server.up = False
    poll(*workers)
    clock.advance(2.0)
    assert calls(workers[0], SUCCESS) == [True]
    assert states(workers) == ["closed", "open", "open"]
    server.up = True
    poll(*workers, times=2)
    assert states(workers) == ["closed"] * 3
    assert server.record()["state"] == "closed"


def test_a_settlement_nobody_heard_of_does_not_hold_the_fleet_back(fleet, clock):
    workers = fleet(half_open_max_calls=1)
    calls(workers[0], FAILURE, FAILURE, FAILURE)
    poll(*workers, times=2)
    clock.advance(2.0)
    permit = workers[0].circuit_breaker.admit()
    workers[0].link.cut = True
    permit.settle(SUCCESS)
    poll(workers[0])
    workers[0].link.cut = False
    poll(*workers, times=2)
    assert states(workers) == ["closed"] * 3


def test_no_call_becomes_a_trial_between_asking_and_being_admitted(fleet, clock):
    workers = one, other, _ = fleet(half_open_max_calls=1)
    calls(one, FAILURE, FAILURE, FAILURE)
    poll(*workers, times=2)
    clock.advance(1.99)
    ask = one.circuit.ask

    def meanwhile():
        answer = ask()  # too early for a trial
        clock.advance(0.02)
        assert other.circuit_breaker.admit().trial
        poll(one)
        return answer

    one.circuit.ask = meanwhile
    with pytest.raises(CircuitBreakerError) as refused:
        one.circuit_breaker.admit()
    assert refused.value.state is CircuitState.HALF_OPEN


def test_a_permit_of_a_time_that_is_over_makes_no_trial(fleet, clock):
    workers = one, other, _ = fleet(half_open_max_calls=1)
    calls(one, FAILURE, FAILURE, FAILURE)
    poll(*workers, times=2)
    clock.advance(2.0)
    ask = one.circuit.ask

    def meanwhile():
        answer = ask()
        assert answer[1] is not None
        orders.reset(other.link, "payments", reason="repaired", actor="cli")
        poll(*workers, times=2)
        calls(other, FAILURE, FAILURE, FAILURE)
        poll(*workers, times=2)
        clock.advance(2.0)
        return answer

    one.circuit.ask = meanwhile
    with pytest.raises(CircuitBreakerError):
        one.circuit_breaker.admit()


def test_the_stores_clock_says_when_a_trial_may_be(fleet, server, clock):
    workers = fleet("aa", recovery_timeout=60.0)
    calls(workers[0], FAILURE, FAILURE, FAILURE)
    poll(*workers, times=2)
    workers[1].circuit_breaker._machine.generation.until = clock()  # its own clock runs fast
    assert calls(workers[1], SUCCESS) == [False]
    assert workers[1].circuit_breaker.remaining_timeout == pytest.approx(60.0, abs=0.1)
    assert server.record()["state"] == "open"


def test_an_order_given_while_another_is_on_its_way_is_not_lost(fleet):
    one, other = fleet("aa")
    act = one.link.act

    def slow(operation, args):
        reply = act(operation, args)
        if operation == "put" and "first" in args["body"]:
            one.circuit_breaker.disable("second")
        return reply

    one.link.act = slow
    one.circuit_breaker.force_open("first")
    poll(one, other, times=2)
    assert one.circuit_breaker.forced == other.circuit_breaker.forced
    assert other.circuit_breaker.forced.reason == "second"


def test_an_order_given_behind_a_cut_does_not_undo_a_later_one(fleet, server, clock):
    one, other = fleet("aa")
    one.link.cut = True
    one.circuit_breaker.force_open("before")
    poll(one)
    clock.advance(5.0)
    orders.overrule(server, "payments", "disabled", reason="after", actor="cli")
    one.link.cut = False
    poll(one, other, times=2)
    assert one.circuit_breaker.forced == other.circuit_breaker.forced
    assert one.circuit_breaker.forced.reason == "after"


def test_a_later_order_in_the_same_words_may_still_differ_in_its_end(fleet, clock):
    told = []
    one, other = fleet("aa")
    documents = [SharedDocument(worker.reporter, "x", told.append) for worker in (one, other)]
    words = {"what": "x", "reason": None, "actor": "api"}
    documents[0].put({}, duration=600.0, **words)
    clock.advance(1.0)
    documents[1].put({}, **words)
    poll(other)
    poll(one)
    assert [document.remaining for document in told] == [None], "who ordered an end follows who ordered none"


def test_a_reporter_that_was_stopped_leaves_its_process_to_decide(fleet, clock):
    workers = fleet("a")
    workers[0].reporter.stop()
    calls(workers[0], FAILURE, FAILURE, FAILURE)
    clock.advance(2.0)
    assert calls(workers[0], SUCCESS) == [True]
    assert states(workers) == ["closed"]
    assert not workers[0].reporter._jobs


def test_an_order_to_an_emptied_store_is_not_undone_by_what_others_remember(fleet, server, clock):
    workers = fleet()
    for _ in range(3):
        workers[0].circuit_breaker.force_open("old")
        poll(*workers)
    clock.advance(1.0)
    server.empty()
    orders.reset(server, "payments", reason="new", actor="cli")
    poll(*workers, times=3)
    assert {worker.circuit_breaker.forced for worker in workers} == {None}
    assert states(workers) == ["closed"] * 3


def test_an_order_lost_before_anyone_polled_is_put_back(fleet, server):
    workers = fleet()
    workers[0].circuit_breaker.force_open("kept")
    poll(workers[0])
    workers[0].reporter._seen = 0  # it was emptied before the order's own revision was seen
    server.empty()
    poll(*workers, times=2)
    assert {worker.circuit_breaker.forced.reason for worker in workers} == {"kept"}


def test_a_reset_from_elsewhere_closes_also_what_no_quorum_followed(fleet, server):
    workers = fleet(quorum=2)
    calls(workers[0], FAILURE, FAILURE, FAILURE)
    poll(*workers, times=2)
    assert states(workers) == ["open", "closed", "closed"]
    orders.reset(server, "payments", reason="repaired", actor="cli")
    poll(*workers, times=2)
    assert states(workers) == ["closed"] * 3


def test_a_way_to_overrule_that_is_not_known_is_ignored_with_a_line(fleet, server, caplog):
    workers = fleet()
    orders.overrule(server, "payments", "open", reason="kept", actor="cli")
    poll(*workers)
    caplog.set_level(logging.WARNING)
    body = {"kind": "throttled", "reason": None}
    server.act("put", order("circuit:payments", body, what="x", reason=None, actor="cli"))
    poll(*workers)
    assert {worker.circuit_breaker.forced.reason for worker in workers} == {"kept"}
    assert "circuit 'payments' is overruled in a way" in caplog.text


def test_an_order_that_cannot_be_read_is_mentioned_once(fleet, server, caplog):
    workers = fleet("a")
    for turn in range(3):
        server.act("put", {**ORDER, "key": f"circuit:other{turn}"})
        if turn == 0:
            server.act("put", {**ORDER, "key": "circuit:payments", "body": encoded([1])})
        poll(*workers)
    assert caplog.text.count("'circuit:payments' cannot be read") == 1
