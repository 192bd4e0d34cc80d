"""The circuit breaker: documented behaviour, settled answers, and the hazards other breakers fall into."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import inspect
import logging
import pickle
import threading
import time

import pytest
from contract._parts import Boom, eventually, fail, run_python, succeed
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_svc_infra.errors import SvcInfraError
from flask_svc_infra.resilience import (
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerStats,
    CircuitState,
    Outcome,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
SOON = 0.02


def wait_for_recovery():
    time.sleep(SOON * 1.5)


def tripped(**options) -> CircuitBreaker:
    """A breaker opened by one failure, that lets trials through after a moment."""
    breaker = CircuitBreaker("dep", **{"failure_threshold": 1, "recovery_timeout": SOON, **options})
    fail(breaker, breaker.failure_threshold if hasattr(breaker, "failure_threshold") else 1)
    assert breaker.state is OPEN
    return breaker


def half_open(**options) -> CircuitBreaker:
    """A breaker whose recovery timeout has passed: the next call is a trial."""
    breaker = tripped(**options)
    wait_for_recovery()
    return breaker


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


# --- late results -------------------------------------------------------------------------------------------


def test_late_failure_does_not_reopen_a_half_open_circuit():
    breaker = CircuitBreaker("x", failure_threshold=1, recovery_timeout=SOON, success_threshold=2)
    late = breaker.guard()
    late.__enter__()
    fail(breaker)
    wait_for_recovery()
    succeed(breaker)
    assert breaker.state is HALF_OPEN
    late.__exit__(Boom, Boom("late"), None)
    assert breaker.state is HALF_OPEN
    succeed(breaker)
    assert breaker.state is CLOSED


def test_late_success_does_not_close_an_open_or_half_open_circuit():
    breaker = CircuitBreaker("x", failure_threshold=1, recovery_timeout=SOON, success_threshold=2)
    lates = [breaker.guard() for _ in range(4)]
    for late in lates:
        late.__enter__()
    fail(breaker)
    lates[0].__exit__(None, None, None)
    assert breaker.state is OPEN
    wait_for_recovery()
    succeed(breaker)
    for late in lates[1:]:
        late.__exit__(None, None, None)
    assert breaker.state is HALF_OPEN


def test_failure_begun_before_reset_does_not_count_after_it():
    breaker = CircuitBreaker("x", failure_threshold=1)
    late = breaker.guard()
    late.__enter__()
    breaker.reset()
    late.__exit__(Boom, Boom("late"), None)
    succeed(breaker)
    # Were the reset to begin no new generation, the first line below would open the circuit by itself.
    breaker2 = CircuitBreaker("y", failure_threshold=2)
    late = breaker2.guard()
    late.__enter__()
    fail(breaker2, 2)
    breaker2.reset()
    late.__exit__(Boom, Boom("late"), None)
    fail(breaker2)
    assert breaker2.state is CLOSED


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


# --- forms --------------------------------------------------------------------------------------------------


def test_protect_keeps_result_name_and_arguments():
    breaker = CircuitBreaker("x")

    @breaker.protect
    def add(a: int, *, b: int = 2) -> int:
        """Add two numbers."""
        return a + b

    assert add(1, b=3) == 4
    assert add.__name__ == "add"
    assert add.__doc__ == "Add two numbers."
    assert list(inspect.signature(add).parameters) == ["a", "b"]
    assert breaker.stats.successful_calls == 1


def test_protect_counts_failures_and_rejects():
    breaker = CircuitBreaker("x", failure_threshold=2)

    @breaker.protect
    def call():
        raise Boom

    for _ in range(2):
        with pytest.raises(Boom):
            call()
    with pytest.raises(CircuitBreakerError):
        call()


def test_protect_works_on_methods():
    breaker = CircuitBreaker("x")

    class Api:
        base = "api"

        @breaker.protect
        def get(self, path):
            return self.base + path

        @staticmethod
        @breaker.protect
        def ping():
            return "pong"

        @classmethod
        @breaker.protect
        def make(cls):
            return cls.__name__

    assert (Api().get("/x"), Api.ping(), Api().ping(), Api.make()) == ("api/x", "pong", "pong", "Api")
    assert breaker.stats.total_calls == 4


def test_async_function_is_really_protected():
    breaker = CircuitBreaker("x", failure_threshold=2)

    @breaker.protect
    async def call(fails=True):
        await asyncio.sleep(0)
        if fails:
            raise Boom
        return "result"

    assert inspect.iscoroutinefunction(call)
    assert asyncio.run(call(fails=False)) == "result"
    for _ in range(2):
        with pytest.raises(Boom):
            asyncio.run(call())
    assert breaker.state is OPEN
    with pytest.raises(CircuitBreakerError):
        asyncio.run(call())


def test_async_with_counts_and_rejects():
    breaker = CircuitBreaker("x", failure_threshold=1)

    async def main():
        async with breaker as entered:
            assert entered is breaker
        with pytest.raises(Boom):
            async with breaker:
                raise Boom
        with pytest.raises(CircuitBreakerError):
            async with breaker:
                raise AssertionError("not reached")

    asyncio.run(main())
    assert breaker.stats.total_calls == 3


def test_generator_is_guarded_to_its_end():
    breaker = CircuitBreaker("x", failure_threshold=1)

    @breaker.protect
    def rows(fail_at):
        for n in range(5):
            if n == fail_at:
                raise Boom
            yield n

    assert inspect.isgeneratorfunction(rows)
    assert list(rows(9)) == [0, 1, 2, 3, 4]
    assert breaker.stats.successful_calls == 1
    with pytest.raises(Boom):
        list(rows(3))
    assert breaker.state is OPEN
    with pytest.raises(CircuitBreakerError):
        list(rows(9))


def test_generator_send_throw_and_return_value_pass_through():
    breaker = CircuitBreaker("x")

    @breaker.protect
    def echo():
        got = yield "first"
        try:
            yield got
        except KeyError:
            yield "caught"
        return "end"

    gen = echo()
    assert next(gen) == "first"
    assert gen.send("hello") == "hello"
    assert gen.throw(KeyError) == "caught"
    with pytest.raises(StopIteration) as stop:
        next(gen)
    assert stop.value.value == "end"
    assert breaker.stats.successful_calls == 1


def test_consumer_that_stops_early_is_neutral():
    breaker = half_open(half_open_max_calls=1, success_threshold=1)

    @breaker.protect
    def rows():
        yield from range(100)

    for _ in range(3):
        gen = rows()
        assert next(gen) == 0
        assert breaker.state is HALF_OPEN
        gen.close()
    assert breaker.state is HALF_OPEN
    succeed(breaker)
    assert breaker.state is CLOSED


def test_async_generator_is_guarded_to_its_end():
    breaker = CircuitBreaker("x", failure_threshold=1)

    @breaker.protect
    async def rows(fail_at):
        for n in range(3):
            if n == fail_at:
                raise Boom
            yield n

    async def drain(fail_at):
        return [row async for row in rows(fail_at)]

    assert inspect.isasyncgenfunction(rows)
    assert asyncio.run(drain(9)) == [0, 1, 2]

    async def stop_early():
        stream = rows(9)
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(stop_early())
    assert breaker.stats.failed_calls == 0
    with pytest.raises(Boom):
        asyncio.run(drain(2))
    assert breaker.state is OPEN
    with pytest.raises(CircuitBreakerError):
        asyncio.run(drain(9))


def test_tasks_of_one_loop_may_interleave():
    breaker = CircuitBreaker("x", failure_threshold=1, failure_exceptions=(Boom,))

    async def call(pause, error=None):
        async with breaker:
            await asyncio.sleep(pause)
            if error:
                raise error

    async def main():
        return await asyncio.gather(
            call(0.03), call(0.01, KeyError()), call(0.02), call(0.0), return_exceptions=True
        )

    results = asyncio.run(main())
    assert [type(r).__name__ for r in results] == ["NoneType", "KeyError", "NoneType", "NoneType"]
    stats = breaker.stats
    assert (stats.total_calls, stats.successful_calls, stats.failed_calls) == (4, 3, 0)


def test_with_may_be_nested_in_one_thread():
    breaker = half_open(half_open_max_calls=2, success_threshold=2)
    with breaker:
        with breaker:
            pass
        assert breaker.state is HALF_OPEN
    assert breaker.state is CLOSED


def test_call_passes_arguments_and_counts():
    breaker = CircuitBreaker("x", failure_threshold=1)
    assert breaker.call(lambda a, *, b: a + b, 1, b=2) == 3

    def down():
        raise Boom

    with pytest.raises(Boom):
        breaker.call(down)
    with pytest.raises(CircuitBreakerError):
        breaker.call(down)


def test_fallback_answers_for_an_open_circuit():
    breaker = CircuitBreaker("x", failure_threshold=1)

    @breaker.protect(fallback=lambda user: f"popular for {user}")
    def recommend(user):
        raise Boom

    with contextlib.suppress(Boom):
        recommend("ann")
    assert breaker.state is OPEN
    assert recommend("bob") == "popular for bob"


def test_breaker_is_reusable_by_many_threads_without_serialising_them():
    breaker = CircuitBreaker("x")
    inside = threading.Barrier(8, timeout=5)

    def call():
        with breaker:
            inside.wait()

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(6)
    assert not inside.broken
    assert breaker.stats.successful_calls == 8


def test_threads_lose_no_call_from_the_statistics():
    breaker = CircuitBreaker("x", failure_threshold=10**9)
    start = threading.Barrier(4, timeout=5)

    def work(fails):
        start.wait()
        for _ in range(2000):
            with contextlib.suppress(Boom), breaker:
                if fails:
                    raise Boom

    threads = [threading.Thread(target=work, args=(n % 2,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    stats = breaker.stats
    assert (stats.total_calls, stats.successful_calls, stats.failed_calls) == (8000, 4000, 4000)


# --- callbacks ----------------------------------------------------------------------------------------------


def test_listener_that_raises_disturbs_nothing_and_is_logged(caplog):
    seen = []

    def listener(event):
        seen.append((event.name, event.old, event.new))
        raise RuntimeError("listener broke")

    breaker = CircuitBreaker(
        "x", failure_threshold=1, recovery_timeout=SOON, success_threshold=1, on_transition=listener
    )
    with caplog.at_level(logging.WARNING):
        fail(breaker)
        wait_for_recovery()
        succeed(breaker)
    assert breaker.state is CLOSED
    assert seen == [("x", CLOSED, OPEN), ("x", OPEN, HALF_OPEN), ("x", HALF_OPEN, CLOSED)]
    assert "listener broke" in caplog.text


def test_listener_may_use_the_breaker():
    states = []

    def listener(event):
        states.append(breaker.state)
        breaker.stats  # noqa: B018 - a deadlock here is the failure
        if event.new is OPEN:
            breaker.reset()

    breaker = CircuitBreaker("x", failure_threshold=1, on_transition=listener)
    done = threading.Thread(target=lambda: fail(breaker), daemon=True)
    done.start()
    done.join(3)
    assert not done.is_alive()
    assert breaker.state is CLOSED


def test_result_classifier_that_raises_does_not_wedge_half_open():
    def broken(result):
        raise RuntimeError("classifier broke")

    breaker = CircuitBreaker(
        "x",
        failure_threshold=1,
        recovery_timeout=SOON,
        half_open_max_calls=1,
        success_threshold=1,
        failure_result=broken,
    )
    fail(breaker)
    for _ in range(3):
        wait_for_recovery()
        with contextlib.suppress(RuntimeError):
            breaker.call(lambda: "result")
    wait_for_recovery()
    succeed(breaker)
    assert breaker.state is CLOSED


def test_failure_result_counts_a_returned_value_as_failure():
    breaker = CircuitBreaker("x", failure_threshold=2, failure_result=lambda status: status >= 500)
    assert breaker.call(lambda: 200) == 200
    assert breaker.call(lambda: 503) == 503
    assert breaker.call(lambda: 503) == 503
    assert breaker.state is OPEN


def test_transitions_are_logged_with_the_name(caplog):
    with caplog.at_level(logging.INFO):
        tripped()
    assert any("dep" in record.getMessage() and "open" in record.getMessage() for record in caplog.records)


# --- further hazards ----------------------------------------------------------------------------------------


def test_traceback_of_a_rejection_does_not_grow():
    breaker = tripped(recovery_timeout=30.0)

    def depth():
        try:
            with breaker:
                pass
        except CircuitBreakerError as error:
            count, tb = 0, error.__traceback__
            while tb is not None:
                count, tb = count + 1, tb.tb_next
            return count, error.__context__
        raise AssertionError("not rejected")

    first = depth()
    for _ in range(50):
        depth()
    assert depth() == first


def test_rejected_calls_leave_nothing_behind():
    breaker = tripped(recovery_timeout=30.0)

    class Payload:
        alive = 0

        def __init__(self):
            Payload.alive += 1

        def __del__(self):
            Payload.alive -= 1

    def call(payload):
        with contextlib.suppress(CircuitBreakerError), breaker:
            return payload

    for _ in range(20):
        call(Payload())
    gc.collect()
    assert Payload.alive == 0


def test_fork_with_a_call_in_flight_leaves_a_working_child():
    run_python("""
        import os, threading, time
        from flask_svc_infra.resilience import CircuitBreaker, CircuitState
        breaker = CircuitBreaker("x", failure_threshold=1, recovery_timeout=0.01, half_open_max_calls=1,
                                 success_threshold=1)
        try:
            with breaker:
                raise ValueError
        except ValueError:
            pass
        time.sleep(0.02)
        inside, release = threading.Event(), threading.Event()
        def call():
            with breaker:
                inside.set()
                release.wait(10)
        thread = threading.Thread(target=call)
        thread.start()
        inside.wait(5)
        assert breaker.state is CircuitState.HALF_OPEN
        child = os.fork()
        if child == 0:
            assert breaker.state is CircuitState.OPEN, breaker.state
            time.sleep(0.02)
            with breaker:
                pass
            os._exit(0 if breaker.state is CircuitState.CLOSED else 1)
        assert os.waitpid(child, 0)[1] == 0
        release.set()
        thread.join()
        assert breaker.state is CircuitState.CLOSED
    """)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["success", "failure", "ignored", "reset"]), max_size=30), st.integers(1, 4))
def test_closed_circuit_opens_exactly_at_threshold_failures_in_a_row(calls, threshold):
    breaker = CircuitBreaker(
        "x", failure_threshold=threshold, recovery_timeout=60, failure_exceptions=(Boom,)
    )
    row, is_open = 0, False
    for call in calls:
        if call == "reset":
            breaker.reset()
            row, is_open = 0, False
            continue
        error = {"success": None, "failure": Boom(), "ignored": KeyError()}[call]
        try:
            with breaker:
                if error:
                    raise error
        except CircuitBreakerError:
            assert is_open
            continue
        except (Boom, KeyError):
            pass
        assert not is_open
        if call == "success":
            row = 0
        elif call == "failure":
            row += 1
            is_open = row >= threshold
        assert (breaker.state is OPEN) == is_open
    stats = breaker.stats
    assert stats.total_calls == len(calls) - calls.count("reset")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["success", "ignored"]), max_size=12),
    st.integers(1, 3),
    st.integers(1, 6),
)
def test_half_open_always_recovers_when_the_dependency_does(calls, max_calls, threshold):
    breaker = CircuitBreaker(
        "x",
        failure_threshold=1,
        recovery_timeout=0.0005,
        half_open_max_calls=max_calls,
        success_threshold=threshold,
        failure_exceptions=(Boom,),
    )
    fail(breaker)
    time.sleep(0.002)
    for call in calls:
        with contextlib.suppress(KeyError), breaker:
            if call == "ignored":
                raise KeyError
    succeed(breaker, threshold)
    assert breaker.state is CLOSED


def test_breaker_made_before_the_fork_works_in_both_processes():
    run_python("""
        import os
        from flask_svc_infra.resilience import CircuitBreaker
        breaker = CircuitBreaker("x", failure_threshold=1)
        child = os.fork()
        try:
            with breaker:
                raise ValueError
        except ValueError:
            pass
        assert breaker.state == "open"
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert breaker.stats.total_calls == 1
    """)


def test_with_statements_suspended_in_generators_end_in_any_order():
    """A stack of permits for each thread would settle the wrong one."""
    breaker = half_open(half_open_max_calls=2, success_threshold=2)

    def holding():
        with breaker:
            yield

    first, second = holding(), holding()
    next(first)
    next(second)
    with pytest.raises(Boom):
        first.throw(Boom("first"))
    assert breaker.state is OPEN
    assert list(second) == []
    assert breaker.state is OPEN
    assert (breaker.stats.failed_calls, breaker.stats.successful_calls) == (2, 0)


def test_generator_resumed_in_another_thread_settles_its_own_permit():
    breaker = half_open(half_open_max_calls=1, success_threshold=1)

    def holding():
        with breaker:
            yield

    generator = holding()
    next(generator)
    thread = threading.Thread(target=lambda: list(generator))
    thread.start()
    thread.join(3)
    assert breaker.state is CLOSED


def test_exit_stacks_may_hold_the_breaker_and_close_in_any_order():
    breaker = half_open(half_open_max_calls=2, success_threshold=2)
    stacks = [contextlib.ExitStack(), contextlib.ExitStack()]
    for stack in stacks:
        stack.enter_context(breaker)
    for stack in stacks:
        stack.close()
    assert breaker.state is CLOSED


def test_subclass_that_extends_both_ends_of_with_still_works():
    class Noted(CircuitBreaker):
        notes: list[str] = []

        def __enter__(self):
            self.notes.append("in")
            return super().__enter__()

        def __exit__(self, *raised):
            self.notes.append("out")
            return super().__exit__(*raised)

    breaker = Noted("x", failure_threshold=1)
    fail(breaker)
    assert breaker.state is OPEN
    assert breaker.notes == ["in", "out"]


def test_recovery_callable_that_misbehaves_leaves_an_open_circuit_that_recovers_later(caplog, clock):
    for recovery in (lambda opens: 1 / 0, lambda opens: None, lambda opens: -1, lambda opens: float("nan")):
        breaker = CircuitBreaker(
            "x", failure_threshold=1, recovery_timeout=recovery, success_threshold=1, clock=clock
        )
        fail(breaker)
        assert breaker.state is OPEN
        assert 0 < breaker.remaining_timeout <= 60
        clock.advance(61)
        succeed(breaker)
        assert breaker.state is CLOSED
    assert caplog.records


def test_greenlets_may_interleave_their_with_statements():
    pytest.importorskip("gevent")
    run_python("""
        from gevent import monkey; monkey.patch_all()
        import gevent, time
        from flask_svc_infra.resilience import CircuitBreaker
        breaker = CircuitBreaker("x", failure_threshold=1, recovery_timeout=0.01, half_open_max_calls=2,
                                 success_threshold=2)
        try:
            with breaker:
                raise ValueError
        except ValueError:
            pass
        time.sleep(0.02)
        def call(pause):
            with breaker:
                gevent.sleep(pause)
        gevent.joinall([gevent.spawn(call, 0.02), gevent.spawn(call, 0.01)], raise_error=True)
        assert breaker.state == "closed", (breaker.state, breaker.stats)
    """)
