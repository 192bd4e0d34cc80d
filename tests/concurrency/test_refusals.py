"""A refusal is a new exception each time, cheap, and tells the truth; the wall clock has no say in it."""

from __future__ import annotations

import gc
import sys
import time
from contextlib import suppress

import pytest
from concurrency.scenes import CLOSED, OPEN, fail, recovering, succeed, together, tripped
from support.clock import FakeClock

from flask_svc_infra.resilience import CircuitBreaker, CircuitBreakerError


@pytest.fixture
def clock():
    return FakeClock()


def refusal_of(call):
    with pytest.raises(CircuitBreakerError) as caught:
        call()
    return caught.value


def depth(error):
    count, traceback = 0, error.__traceback__
    while traceback is not None:
        count, traceback = count + 1, traceback.tb_next
    return count


@pytest.mark.parametrize("form", ["with", "decorator", "guard", "call", "admit"])
def test_refusals_are_new_each_time_and_their_tracebacks_do_not_grow(clock, form):
    breaker = tripped(clock)

    def in_with():
        with breaker:
            pass

    def in_guard():
        with breaker.guard():
            pass

    forms = {
        "with": in_with,
        "guard": in_guard,
        "decorator": breaker.protect(lambda: None),
        "call": lambda: breaker.call(lambda: None),
        "admit": breaker.admit,
    }
    first, *rest = [refusal_of(forms[form]) for _ in range(20)]
    assert len({id(error) for error in [first, *rest]}) == 20
    assert {depth(error) for error in rest} == {depth(first)}
    assert all(error.__context__ is None and error.__cause__ is None for error in rest)


def test_refused_calls_leave_nothing_behind(clock):
    breaker = tripped(clock)
    protected = breaker.protect(lambda payload: payload)

    class Payload:
        pass

    def refuse():
        with suppress(CircuitBreakerError):
            protected(Payload())

    refuse()
    gc.collect()
    before = sum(isinstance(item, Payload) for item in gc.get_objects())
    for _ in range(100):
        refuse()
    assert sum(isinstance(item, Payload) for item in gc.get_objects()) == before == 0


@pytest.mark.parametrize("jump", [1e7, -1e7])
def test_wall_clock_jump_neither_opens_nor_closes_anything(monkeypatch, jump):
    breaker = CircuitBreaker("dep", failure_threshold=1, recovery_timeout=30.0)
    fail(breaker)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    assert 25 < breaker.remaining_timeout <= 30
    assert 25 < refusal_of(breaker.admit).remaining_timeout <= 30
    breaker.reset()
    succeed(breaker)
    assert breaker.state is CLOSED


def test_remaining_timeout_counts_down_in_every_refusal(clock):
    breaker = tripped(clock)
    assert refusal_of(breaker.admit).remaining_timeout == 10.0
    clock.advance(4.0)
    error = refusal_of(breaker.protect(lambda: None))
    assert (error.state, error.remaining_timeout) == (OPEN, 6.0)
    assert str(error) == "circuit 'dep' is open; retry after 6.0s"
    assert breaker.remaining_timeout == breaker._remaining_timeout() == 6.0


def test_refusal_by_the_trial_limit_knows_no_time(clock):
    breaker = recovering(clock, half_open_max_calls=1)
    breaker.admit()
    error = refusal_of(breaker.admit)
    assert (error.state, error.remaining_timeout, error.reason) == ("half_open", None, None)
    assert str(error) == "circuit 'dep' is half_open"


@pytest.mark.parametrize("form", ["admit", "decorator"])
def test_refusal_of_a_forced_circuit_says_why(clock, form):
    breaker = CircuitBreaker("dep", clock=clock)
    breaker.force_open("provider maintenance")
    error = refusal_of(breaker.admit if form == "admit" else breaker.protect(lambda: None))
    assert (error.state, error.remaining_timeout, error.reason) == (OPEN, None, "provider maintenance")
    assert str(error) == "circuit 'dep' is open, forced by hand: provider maintenance"


def test_refusals_of_many_threads_are_all_counted(clock):
    breaker = tripped(clock)
    protected = breaker.protect(lambda: None)

    def act(_index):
        for _ in range(500):
            with suppress(CircuitBreakerError):
                protected()

    kept = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        together(8, act)
    finally:
        sys.setswitchinterval(kept)
    assert breaker.stats.rejected_calls == 4000
