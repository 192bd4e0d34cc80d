"""Half-open lets a few trials through, whatever becomes of them, and always finds its way out."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest
from concurrency.scenes import CLOSED, HALF_OPEN, OPEN, Down, recovering, succeed, together
from support.clock import FakeClock

from flask_svc_infra.resilience import CircuitBreakerError, Outcome


@pytest.fixture
def clock():
    return FakeClock()


def test_stampede_on_half_open_lets_no_more_than_the_limit_through(clock):
    breaker = recovering(clock, half_open_max_calls=3, success_threshold=3)
    release, inside = threading.Event(), threading.Semaphore(0)
    highest, running, lock = 0, 0, threading.Lock()

    @breaker.protect
    def trial():
        nonlocal highest, running
        with lock:
            running += 1
            highest = max(highest, running)
        inside.release()
        release.wait(10)
        with lock:
            running -= 1

    def act(_index):
        try:
            trial()
        except CircuitBreakerError as refused:
            inside.release()
            return refused
        return None

    opener = threading.Thread(target=lambda: ([inside.acquire(timeout=10) for _ in range(24)], release.set()))
    opener.start()
    results = together(24, act)
    opener.join()
    assert highest == 3
    assert sum(isinstance(result, CircuitBreakerError) for result in results) == 21
    assert all(result.state is HALF_OPEN for result in results if result)
    assert breaker.state is CLOSED


@pytest.mark.parametrize(
    "error", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]
)
def test_ignored_trial_gives_its_place_back_and_decides_nothing(clock, error):
    breaker = recovering(clock, half_open_max_calls=1, success_threshold=1, failure_exceptions=(Down,))
    for _ in range(5):
        with pytest.raises(error), breaker:
            raise error
        assert breaker.state is HALF_OPEN
    succeed(breaker)
    assert breaker.state is CLOSED


def test_cancelled_trial_gives_its_place_back(clock):
    breaker = recovering(clock, half_open_max_calls=1, success_threshold=1)

    @breaker.protect
    async def hang():
        await asyncio.Event().wait()

    async def main():
        for _ in range(3):
            task = asyncio.create_task(hang())
            await asyncio.sleep(0)
            with pytest.raises(CircuitBreakerError):
                await hang()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert breaker.state is HALF_OPEN

    asyncio.run(main())
    succeed(breaker)
    assert breaker.state is CLOSED


def test_hung_trials_lose_their_places_when_their_leases_end(clock):
    breaker = recovering(clock, half_open_max_calls=2, success_threshold=1)
    hung = [breaker.admit(), breaker.admit()]
    clock.advance(29.9)
    with pytest.raises(CircuitBreakerError):
        breaker.admit()
    clock.advance(0.1)
    succeed(breaker)
    assert breaker.state is CLOSED
    for permit in hung:
        permit.settle(Outcome.FAILURE)
    assert breaker.state is CLOSED
    assert breaker.stats.stale_calls == 2


def test_lease_is_as_long_as_a_longer_recovery_timeout(clock):
    breaker = recovering(clock, half_open_max_calls=1, recovery_timeout=100.0)
    clock.advance(90.0)
    breaker.admit()
    clock.advance(99.0)
    with pytest.raises(CircuitBreakerError):
        breaker.admit()
    clock.advance(1.0)
    breaker.admit()


def test_trial_that_outlived_its_lease_still_counts_while_half_open_lasts(clock):
    """A dependency that answers slowly, but answers, must be able to close the circuit."""
    breaker = recovering(clock, half_open_max_calls=1, success_threshold=2)
    for _ in range(2):
        permit = breaker.admit()
        clock.advance(45.0)
        permit.settle(Outcome.SUCCESS)
    assert breaker.state is CLOSED


def test_expired_trial_frees_one_place_only(clock):
    breaker = recovering(clock, half_open_max_calls=1, success_threshold=9)
    first = breaker.admit()
    clock.advance(30.0)
    second = breaker.admit()
    with pytest.raises(CircuitBreakerError):
        breaker.admit()
    first.settle(Outcome.SUCCESS)
    with pytest.raises(CircuitBreakerError):
        breaker.admit()
    second.settle(Outcome.SUCCESS)
    breaker.admit()


@pytest.mark.parametrize("form", ["call", "decorator", "async"])
def test_classifier_that_raises_gives_the_trial_back(clock, form):
    def classify(_result):
        raise RuntimeError("classifier broke")

    breaker = recovering(clock, half_open_max_calls=1, success_threshold=1, failure_result=classify)

    async def answer():
        return "answer"

    forms = {
        "call": lambda: breaker.call(lambda: "answer"),
        "decorator": breaker.protect(lambda: "answer"),
        "async": lambda: asyncio.run(breaker.protect(answer)()),
    }
    for _ in range(3):
        with pytest.raises(RuntimeError, match="classifier broke"):
            forms[form]()
        assert breaker.state is HALF_OPEN
    assert breaker.stats.ignored_calls == 3
    succeed(breaker)
    assert breaker.state is CLOSED


def test_exception_class_that_cannot_be_compared_gives_the_trial_back(clock):
    class Broken(type):
        def __instancecheck__(cls, instance):
            raise RuntimeError("comparison broke")

    class Odd(Exception, metaclass=Broken):
        pass

    breaker = recovering(clock, half_open_max_calls=1, success_threshold=1, ignored_exceptions=(Odd,))
    with pytest.raises(RuntimeError, match="comparison broke"), breaker:
        raise Down
    succeed(breaker)
    assert breaker.state is CLOSED


def test_more_successes_than_places_can_be_required(clock):
    breaker = recovering(clock, half_open_max_calls=1, success_threshold=5)
    succeed(breaker, 4)
    assert breaker.state is HALF_OPEN
    succeed(breaker)
    assert breaker.state is CLOSED


def test_failed_trial_beats_successes_in_flight(clock):
    breaker = recovering(clock, half_open_max_calls=3, success_threshold=2)
    first, second, third = (breaker.admit() for _ in range(3))
    first.settle(Outcome.SUCCESS)
    second.settle(Outcome.FAILURE)
    third.settle(Outcome.SUCCESS)
    assert breaker.state is OPEN
    assert breaker.remaining_timeout == 10.0


def test_refusal_of_its_own_nested_call_does_not_fail_a_trial(clock):
    breaker = recovering(clock, half_open_max_calls=1, success_threshold=1)
    with pytest.raises(CircuitBreakerError), breaker, breaker:
        pass
    assert breaker.state is HALF_OPEN
    succeed(breaker)
    assert breaker.state is CLOSED


def test_refusal_by_another_circuit_is_a_failure_like_any_other(clock):
    breaker = recovering(clock)
    with suppress(CircuitBreakerError), breaker:
        raise CircuitBreakerError("another", state=OPEN)
    assert breaker.state is OPEN


def test_threads_that_trial_for_long_never_exceed_the_limit(clock):
    """Trials come and go in eight threads; the number in flight is watched from inside."""
    breaker = recovering(clock, half_open_max_calls=2, success_threshold=10**9)
    running, highest, lock = 0, 0, threading.Lock()

    def act(_index):
        nonlocal running, highest
        for _ in range(300):
            try:
                with breaker:
                    with lock:
                        running += 1
                        highest = max(highest, running)
                    with lock:
                        running -= 1
            except CircuitBreakerError:
                pass

    together(8, act)
    assert 1 <= highest <= 2
    stats = breaker.stats
    assert stats.total_calls == 8 * 300 + 1
    assert stats.successful_calls + stats.rejected_calls == 8 * 300
