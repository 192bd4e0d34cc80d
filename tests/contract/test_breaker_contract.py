"""The circuit breaker's states: documented behaviour and settled answers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pickle
import threading
import time

import pytest
from contract._parts import (
    SOON,
    Boom,
    eventually,
    fail,
    half_open,
    succeed,
    tripped,
    wait_for_recovery,
)

from flask_svc_infra.errors import SvcInfraError
from flask_svc_infra.resilience import (
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerStats,
    CircuitState,
    Outcome,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


# --- closed -------------------------------------------------------------------------------------------------


def test_starts_closed():
    assert CircuitBreaker("x").state is CLOSED
    assert CircuitBreaker().name == "default"
    assert CircuitBreaker("payment").name == "payment"


def test_closed_circuit_lets_calls_and_their_exceptions_through():
    breaker = CircuitBreaker("x", failure_threshold=10)
    with breaker as entered:
        pass
    assert entered is breaker
    fail(breaker)
    assert breaker.state is CLOSED


def test_opens_after_threshold_failures_in_a_row():
    breaker = CircuitBreaker("x", failure_threshold=3)
    fail(breaker, 2)
    assert breaker.state is CLOSED
    fail(breaker)
    assert breaker.state is OPEN


def test_default_threshold_is_five():
    breaker = CircuitBreaker()
    fail(breaker, 4)
    assert breaker.state is CLOSED
    fail(breaker)
    assert breaker.state is OPEN


def test_success_resets_the_failure_count():
    breaker = CircuitBreaker("x", failure_threshold=3)
    fail(breaker, 2)
    succeed(breaker)
    fail(breaker, 2)
    assert breaker.state is CLOSED


def test_only_failure_exceptions_count():
    breaker = CircuitBreaker("x", failure_threshold=1, failure_exceptions=(Boom,))
    for _ in range(5):
        with pytest.raises(KeyError), breaker:
            raise KeyError("ours to fix")
    assert breaker.state is CLOSED
    fail(breaker)
    assert breaker.state is OPEN


def test_subclass_of_a_failure_exception_counts():
    class Worse(Boom):
        pass

    breaker = CircuitBreaker("x", failure_threshold=1, failure_exceptions=(Boom,))
    with pytest.raises(Worse), breaker:
        raise Worse
    assert breaker.state is OPEN


def test_ignored_exception_does_not_wipe_the_failure_count():
    breaker = CircuitBreaker("x", failure_threshold=2, failure_exceptions=(Boom,))
    fail(breaker)
    with pytest.raises(KeyError), breaker:
        raise KeyError
    fail(breaker)
    assert breaker.state is OPEN


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_ends_the_program_is_no_failure_of_the_dependency(error):
    breaker = CircuitBreaker("x", failure_threshold=1)
    with pytest.raises(error), breaker:
        raise error
    assert breaker.state is CLOSED
    assert breaker.stats.failed_calls == 0


def test_ignored_exceptions_are_neutral_even_when_they_match_failures():
    breaker = CircuitBreaker("x", failure_threshold=1, ignored_exceptions=(KeyError,))
    with pytest.raises(KeyError), breaker:
        raise KeyError
    assert breaker.state is CLOSED
    fail(breaker)
    assert breaker.state is OPEN


# --- open ---------------------------------------------------------------------------------------------------


def test_open_circuit_rejects_without_calling():
    breaker = tripped(recovery_timeout=30.0)
    called = []
    with pytest.raises(CircuitBreakerError), breaker:
        called.append(1)
    assert called == []


def test_rejection_says_name_state_and_remaining_time():
    breaker = tripped(recovery_timeout=30.0)
    with pytest.raises(CircuitBreakerError) as caught, breaker:
        pass
    error = caught.value
    assert error.name == "dep"
    assert error.state is OPEN
    assert error.state.value == "open"
    assert 29.0 < error.remaining_timeout <= 30.0
    assert "circuit 'dep' is open; retry after" in str(error)


def test_error_can_be_made_by_hand_as_documented():
    error = CircuitBreakerError("test", state=CircuitState.OPEN)
    assert (error.name, error.state, error.remaining_timeout) == ("test", OPEN, None)
    assert isinstance(error, SvcInfraError)
    assert str(CircuitBreakerError("billing", state=OPEN, remaining_timeout=12.5)) == (
        "circuit 'billing' is open; retry after 12.5s"
    )


def test_error_survives_pickling():
    error = CircuitBreakerError("x", state=OPEN, remaining_timeout=1.5)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.name, copy.state, copy.remaining_timeout) == ("x", OPEN, 1.5)


def test_state_changes_only_on_a_call():
    breaker = half_open()
    assert breaker.state is OPEN
    assert breaker.remaining_timeout == 0.0
    assert breaker._remaining_timeout() == 0.0


def test_remaining_timeout_is_none_when_closed():
    breaker = CircuitBreaker("x")
    assert breaker.remaining_timeout is None
    assert breaker._remaining_timeout() is None


def test_remaining_timeout_counts_down_while_open():
    breaker = tripped(recovery_timeout=30.0)
    first = breaker.remaining_timeout
    time.sleep(0.02)
    assert 0 < breaker.remaining_timeout < first <= 30.0
    assert breaker._remaining_timeout() == pytest.approx(breaker.remaining_timeout, abs=0.5)


def test_wall_clock_jump_neither_opens_nor_closes_anything(monkeypatch):
    breaker = tripped(recovery_timeout=30.0)
    real = time.time
    for jump in (1e7, -1e7):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        assert 25 < breaker.remaining_timeout <= 30
        with pytest.raises(CircuitBreakerError), breaker:
            pass


# --- half-open ----------------------------------------------------------------------------------------------


def test_call_after_the_recovery_timeout_is_a_trial():
    breaker = half_open(success_threshold=1)
    with breaker:
        assert breaker.state is HALF_OPEN
        assert breaker.remaining_timeout is None
    assert breaker.state is CLOSED


def test_success_threshold_successes_close():
    breaker = half_open(success_threshold=2)
    succeed(breaker)
    assert breaker.state is HALF_OPEN
    succeed(breaker)
    assert breaker.state is CLOSED


def test_failed_trial_opens_again_for_the_whole_recovery_timeout(clock):
    breaker = CircuitBreaker(
        "x", failure_threshold=1, recovery_timeout=30.0, success_threshold=2, clock=clock
    )
    fail(breaker)
    clock.advance(30)
    succeed(breaker)
    fail(breaker)
    assert breaker.state is OPEN
    assert breaker.remaining_timeout == 30.0
    clock.advance(29)
    with pytest.raises(CircuitBreakerError), breaker:
        pass
    clock.advance(1)
    succeed(breaker, 2)
    assert breaker.state is CLOSED


def test_closed_again_it_counts_from_zero():
    breaker = CircuitBreaker("x", failure_threshold=2, recovery_timeout=SOON, success_threshold=1)
    fail(breaker, 2)
    wait_for_recovery()
    succeed(breaker)
    fail(breaker)
    assert breaker.state is CLOSED


def test_trials_in_flight_are_bounded_and_the_rejection_knows_no_time():
    breaker = half_open(half_open_max_calls=2, success_threshold=2)
    with contextlib.ExitStack() as trials:
        trials.enter_context(breaker.guard())
        trials.enter_context(breaker.guard())
        with pytest.raises(CircuitBreakerError) as caught, breaker:
            pass
        assert caught.value.state is HALF_OPEN
        assert caught.value.remaining_timeout is None
    assert breaker.state is CLOSED


def test_trial_limit_is_of_those_in_flight_not_of_all():
    breaker = half_open(half_open_max_calls=1, success_threshold=5)
    succeed(breaker, 4)
    assert breaker.state is HALF_OPEN
    succeed(breaker)
    assert breaker.state is CLOSED


def test_half_open_stampede_lets_the_allowed_number_through():
    breaker = half_open(half_open_max_calls=3, success_threshold=3)
    gate, admitted, rejected = threading.Barrier(24, timeout=5), [], []
    release = threading.Event()

    def call():
        gate.wait()
        try:
            with breaker:
                admitted.append(1)
                release.wait(5)
        except CircuitBreakerError:
            rejected.append(1)

    threads = [threading.Thread(target=call) for _ in range(24)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: len(admitted) + len(rejected) == 24)
    release.set()
    for thread in threads:
        thread.join(5)
    assert (len(admitted), len(rejected)) == (3, 21)
    assert breaker.state is CLOSED


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_ignored_trial_gives_its_permit_back_and_decides_nothing(error):
    breaker = half_open(half_open_max_calls=1, success_threshold=1, failure_exceptions=(Boom,))
    for _ in range(5):
        with pytest.raises(error), breaker:
            raise error
        assert breaker.state is HALF_OPEN
    succeed(breaker)
    assert breaker.state is CLOSED


def test_cancelled_trial_gives_its_permit_back():
    breaker = half_open(half_open_max_calls=1, success_threshold=1)

    async def hang():
        async with breaker:
            await asyncio.sleep(60)

    async def main():
        for _ in range(3):
            task = asyncio.create_task(hang())
            await asyncio.sleep(0)
            assert breaker.state is HALF_OPEN
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with breaker:
            pass

    asyncio.run(main())
    assert breaker.state is CLOSED


def test_hung_trial_holds_its_place_for_a_while_and_not_for_ever(clock):
    breaker = CircuitBreaker(
        "x", failure_threshold=1, half_open_max_calls=1, success_threshold=1, clock=clock
    )
    fail(breaker)
    clock.advance(30)
    hung = breaker.admit()
    with pytest.raises(CircuitBreakerError):
        breaker.admit()
    clock.advance(3600)
    succeed(breaker)
    assert breaker.state is CLOSED
    hung.settle(Outcome.FAILURE)
    assert breaker.state is CLOSED


# --- statistics ---------------------------------------------------------------------------------------------


def test_statistics_count_every_call():
    breaker = CircuitBreaker("x", failure_threshold=2, failure_exceptions=(Boom,))
    succeed(breaker, 3)
    fail(breaker, 1)
    with pytest.raises(KeyError), breaker:
        raise KeyError
    fail(breaker, 1)
    for _ in range(4):
        with pytest.raises(CircuitBreakerError), breaker:
            pass
    stats = breaker.stats
    assert isinstance(stats, CircuitBreakerStats)
    assert stats.total_calls == 10
    assert stats.successful_calls == 3
    assert stats.failed_calls == 2
    assert stats.rejected_calls == 4
    assert stats.state_changes == 1


def test_new_statistics_are_zero():
    stats = CircuitBreaker("x").stats
    assert [getattr(stats, f.name) for f in dataclasses.fields(stats)][:5] == [0] * 5


def test_stats_is_a_frozen_snapshot():
    breaker = CircuitBreaker("x")
    before = breaker.stats
    succeed(breaker)
    assert before.total_calls == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.total_calls = 9


def test_open_half_open_closed_are_three_state_changes():
    breaker = half_open(success_threshold=1)
    succeed(breaker)
    assert breaker.stats.state_changes == 3


# --- reset, force_open, disable -----------------------------------------------------------------------------


def test_reset_closes_and_forgets_failures_and_keeps_the_statistics():
    breaker = CircuitBreaker("x", failure_threshold=2, recovery_timeout=30.0)
    fail(breaker, 2)
    breaker.reset()
    assert breaker.state is CLOSED
    assert breaker.remaining_timeout is None
    assert breaker.stats.failed_calls == 2
    assert breaker.stats.state_changes == 2
    fail(breaker)
    assert breaker.state is CLOSED


def test_reset_of_a_closed_circuit_is_no_state_change_but_clears_the_count():
    breaker = CircuitBreaker("x", failure_threshold=2)
    fail(breaker)
    breaker.reset()
    fail(breaker)
    assert breaker.state is CLOSED
    assert breaker.stats.state_changes == 0


def test_forced_open_rejects_until_reset_and_knows_no_time():
    breaker = CircuitBreaker("x", recovery_timeout=0.001)
    breaker.force_open(reason="provider maintenance")
    time.sleep(0.01)
    assert breaker.state is OPEN
    assert breaker.forced
    assert breaker.remaining_timeout is None
    with pytest.raises(CircuitBreakerError) as caught, breaker:
        pass
    assert caught.value.remaining_timeout is None
    breaker.reset()
    assert not breaker.forced
    succeed(breaker)


def test_disabled_circuit_lets_everything_through_and_never_opens():
    breaker = CircuitBreaker("x", failure_threshold=1)
    breaker.disable(reason="false alarm")
    assert breaker.forced
    fail(breaker, 5)
    succeed(breaker)
    assert breaker.state is CLOSED
    breaker.reset()
    fail(breaker)
    assert breaker.state is OPEN


def test_disable_lets_calls_through_an_open_circuit():
    breaker = tripped(recovery_timeout=30.0)
    breaker.disable(reason="we know better")
    succeed(breaker)
