"""What is told of a circuit: to the listener, on the signal, in the log."""

from __future__ import annotations

import logging
import time

import pytest
from support.clock import FakeClock

from flask_svc_infra.events import circuit_transition
from flask_svc_infra.resilience import CircuitBreaker, CircuitState, Outcome, Transition, failure_rate

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


@pytest.fixture
def clock():
    return FakeClock()


def whole_life(clock, **options):
    breaker = CircuitBreaker(
        "dep", failure_threshold=2, recovery_timeout=1.0, success_threshold=1, clock=clock, **options
    )
    for _ in range(2):
        breaker.admit().settle(Outcome.FAILURE)
    clock.advance(1.0)
    breaker.admit().settle(Outcome.SUCCESS)
    return breaker


def test_listener_and_signal_hear_the_same_in_order(clock):
    heard, received = [], []

    def receiver(sender, event):
        received.append((sender, event))

    circuit_transition.connect(receiver)
    breaker = whole_life(clock, on_transition=heard.append)
    assert [(event.old, event.new, event.reason, event.forced) for event in heard] == [
        (CLOSED, OPEN, "2 failures in a row", False),
        (OPEN, HALF_OPEN, "recovery timeout elapsed", False),
        (HALF_OPEN, CLOSED, "a trial succeeded", False),
    ]
    assert received == [(breaker, event) for event in heard]
    assert all(isinstance(event, Transition) and event.name == "dep" for event in heard)
    assert all(abs(event.at - time.time()) < 60 for event in heard)


def test_nothing_is_told_when_nothing_changed(clock):
    heard = []
    breaker = CircuitBreaker("dep", on_transition=heard.append, clock=clock)
    with breaker:
        pass
    breaker.reset()
    breaker.admit().settle(Outcome.FAILURE)
    assert heard == []


def test_commands_are_told_with_the_persons_reason(clock):
    heard = []
    breaker = CircuitBreaker("dep", on_transition=heard.append, clock=clock)
    breaker.force_open("outage at the provider")
    breaker.disable("false alarms")
    breaker.reset()
    assert [(event.old, event.new, event.reason, event.forced) for event in heard] == [
        (CLOSED, OPEN, "outage at the provider", True),
        (OPEN, CLOSED, "false alarms", True),
        (CLOSED, CLOSED, "reset", True),
    ]


def test_one_log_record_for_each_transition(clock, caplog):
    with caplog.at_level(logging.DEBUG, logger="flask_svc_infra.resilience"):
        whole_life(clock)
    records = [record for record in caplog.records if record.name == "flask_svc_infra.resilience"]
    assert [(record.levelname, record.getMessage()) for record in records] == [
        ("WARNING", "circuit 'dep' went from closed to open: 2 failures in a row"),
        ("INFO", "circuit 'dep' went from open to half_open: recovery timeout elapsed"),
        ("INFO", "circuit 'dep' went from half_open to closed: a trial succeeded"),
    ]
    first = records[0]
    assert (first.circuit, first.old_state, first.new_state, first.forced) == ("dep", "closed", "open", False)
    assert first.reason == "2 failures in a row"


def test_what_an_exception_says_is_not_told(clock, caplog):
    """Messages of drivers carry passwords."""
    heard = []
    breaker = CircuitBreaker(
        "dep", trip=failure_rate(1.0, last=1), recovery_timeout=1.0, on_transition=heard.append, clock=clock
    )
    for _ in range(2):
        with pytest.raises(ConnectionError), breaker:
            raise ConnectionError("postgresql://admin:hunter2@db")
        clock.advance(1.0)
    assert len(heard) == 3
    assert "hunter2" not in caplog.text + repr(heard) + repr(breaker.stats)


def test_state_is_already_new_when_it_is_told(clock):
    seen = []
    breaker = CircuitBreaker(
        "dep",
        failure_threshold=1,
        on_transition=lambda event: seen.append(breaker.state is event.new),
        clock=clock,
    )
    breaker.admit().settle(Outcome.FAILURE)
    breaker.reset()
    assert seen == [True, True]
