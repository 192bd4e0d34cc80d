"""Every way to put a call under a circuit breaker, and what its listeners may do."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading

import pytest
from contract._parts import (
    SOON,
    Boom,
    fail,
    half_open,
    succeed,
    tripped,
    wait_for_recovery,
)

from flask_svc_infra.resilience import (
    CircuitBreaker,
    CircuitBreakerError,
    CircuitState,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


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
