"""A result counts in the generation its call began in, and in no other."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from concurrency.scenes import CLOSED, HALF_OPEN, OPEN, Down, fail, succeed, together
from support.clock import FakeClock

from flask_svc_infra.resilience import CircuitBreaker, Outcome, consecutive, failure_rate


@pytest.fixture
def clock():
    return FakeClock()


def breaker_with(clock, **options):
    return CircuitBreaker(
        "dep", **{"failure_threshold": 1, "recovery_timeout": 10.0, "clock": clock, **options}
    )


def test_late_success_does_not_close_circuit(clock):
    breaker = breaker_with(clock, success_threshold=1)
    late = [breaker.admit() for _ in range(3)]
    fail(breaker)
    late[0].settle(Outcome.SUCCESS)
    assert breaker.state is OPEN
    clock.advance(10.0)
    with breaker:
        late[1].settle(Outcome.SUCCESS)
        assert breaker.state is HALF_OPEN
    late[2].settle(Outcome.SUCCESS)
    assert breaker.state is CLOSED
    stats = breaker.stats
    assert (stats.successful_calls, stats.stale_calls) == (1, 3)


def test_late_failure_does_not_reopen_circuit(clock):
    breaker = breaker_with(clock, success_threshold=2)
    late = [breaker.admit() for _ in range(3)]
    fail(breaker)
    opened_for = breaker.remaining_timeout
    late[0].settle(Outcome.FAILURE)
    assert breaker.remaining_timeout == opened_for
    clock.advance(10.0)
    succeed(breaker)
    late[1].settle(Outcome.FAILURE)
    assert breaker.state is HALF_OPEN
    succeed(breaker)
    late[2].settle(Outcome.FAILURE)
    assert breaker.state is CLOSED
    assert breaker._failure_count == 0
    assert breaker.stats.stale_calls == 3


def test_late_trial_does_not_decide_a_later_half_open(clock):
    breaker = breaker_with(clock, half_open_max_calls=2, success_threshold=1)
    fail(breaker)
    clock.advance(10.0)
    late = breaker.admit()
    fail(breaker)
    clock.advance(10.0)
    with breaker:
        late.settle(Outcome.FAILURE)
        assert breaker.state is HALF_OPEN
    assert breaker.state is CLOSED


def test_failure_begun_before_reset_does_not_count_after_it(clock):
    breaker = breaker_with(clock, failure_threshold=2)
    late = breaker.admit()
    breaker.reset()
    late.settle(Outcome.FAILURE)
    fail(breaker)
    assert breaker.state is CLOSED
    assert breaker.stats.stale_calls == 1


def test_success_begun_before_reset_does_not_wipe_the_count_after_it(clock):
    breaker = breaker_with(clock, failure_threshold=2)
    late = breaker.admit()
    breaker.reset()
    fail(breaker)
    late.settle(Outcome.SUCCESS)
    fail(breaker)
    assert breaker.state is OPEN


def forms_of(breaker, body):
    """Every form of calling *body*, by name."""

    def in_with():
        with breaker:
            body()

    def in_guard():
        with breaker.guard():
            body()

    async def coroutine():
        body()

    async def in_async_with():
        async with breaker:
            body()

    return {
        "decorator": breaker.protect(body),
        "with": in_with,
        "guard": in_guard,
        "call": lambda: breaker.call(body),
        "async decorator": lambda: asyncio.run(breaker.protect(coroutine)()),
        "async with": lambda: asyncio.run(in_async_with()),
    }


FORMS = pytest.mark.parametrize("form", forms_of(CircuitBreaker(), print))


@FORMS
@pytest.mark.parametrize("failing", [True, False])
@pytest.mark.parametrize("timed", [True, False])
def test_every_form_drops_its_late_result(clock, form, failing, timed):
    trip = failure_rate(0.1, seconds=60, minimum_calls=1) if timed else consecutive(1)
    breaker = CircuitBreaker("dep", trip=trip, clock=clock)

    def body():
        breaker.reset()
        if failing:
            raise Down

    with suppress(Down):
        forms_of(breaker, body)[form]()
    assert breaker.state is CLOSED
    stats = breaker.stats
    assert (stats.stale_calls, stats.total_calls) == (1, 1)


@FORMS
def test_every_form_counts_a_success_in_its_own_second(clock, form):
    """Counted with an older success, it would be forgotten with it, and the share be of too few calls."""
    breaker = CircuitBreaker("dep", trip=failure_rate(0.6, seconds=60, minimum_calls=3), clock=clock)
    call = forms_of(breaker, lambda: None)[form]
    call()
    clock.advance(59.5)
    call()
    clock.advance(1.0)
    fail(breaker, 2)
    assert breaker.state is OPEN


def test_ignored_exception_does_not_wipe_the_count(clock):
    breaker = breaker_with(clock, failure_threshold=2, failure_exceptions=(Down,))
    fail(breaker)
    with pytest.raises(KeyError), breaker:
        raise KeyError
    fail(breaker)
    assert breaker.state is OPEN


def test_ignored_exception_does_not_close_circuit(clock):
    breaker = breaker_with(clock, success_threshold=1, ignored_exceptions=(KeyError,))
    fail(breaker)
    clock.advance(10.0)
    with pytest.raises(KeyError), breaker:
        raise KeyError
    assert breaker.state is HALF_OPEN


def test_successes_of_an_earlier_generation_do_not_dilute_the_next(clock):
    breaker = CircuitBreaker("dep", trip=failure_rate(0.5, last=20, minimum_calls=2), clock=clock)
    succeed(breaker, 10)
    breaker.reset()
    fail(breaker, 2)
    assert breaker.state is OPEN


def test_simultaneous_failures_open_once(clock):
    changes = []
    breaker = breaker_with(clock, failure_threshold=4, on_transition=changes.append)
    permits = [breaker.admit() for _ in range(16)]
    together(16, lambda index: permits[index].settle(Outcome.FAILURE))
    assert [change.new for change in changes] == [OPEN]
    stats = breaker.stats
    assert (stats.failed_calls, stats.stale_calls, stats.state_changes) == (4, 12, 1)


@pytest.mark.parametrize("trip", [None, failure_rate(1.0, last=8000, minimum_calls=8000)])
def test_threads_lose_no_call_from_the_statistics(trip):
    """Half the threads succeed, half fail, all forms at once; every call is found in the counts."""
    options = {"trip": trip} if trip else {"failure_threshold": 10**9}
    breaker = CircuitBreaker("dep", **options)

    @breaker.protect
    def decorated(failing):
        if failing:
            raise Down

    def act(index):
        for _ in range(1000):
            try:
                if index < 3:
                    decorated(index % 2)
                elif index < 6:
                    with breaker:
                        if index % 2:
                            raise Down
                else:
                    with breaker.guard():
                        if index % 2:
                            raise Down
            except Down:
                pass

    together(8, act)
    stats = breaker.stats
    assert (stats.total_calls, stats.successful_calls, stats.failed_calls) == (8000, 4000, 4000)
    assert breaker.state is CLOSED
