"""The documented async use of breakers and retries, under the facade's import path."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from flask_svc_infra.aio import (
    CircuitBreaker,
    CircuitBreakerError,
    CircuitState,
    RetryConfig,
    RetryExhaustedError,
    retry_sync,
    with_retry,
)


class Boom(Exception):
    """A failure of the dependency."""


async def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Boom):
            async with breaker:
                await asyncio.sleep(0)
                raise Boom


def test_breaker_opens_rejects_recovers_and_closes(clock):
    async def main() -> None:
        breaker = CircuitBreaker(
            "test", failure_threshold=3, recovery_timeout=30.0, success_threshold=1, clock=clock
        )
        assert breaker.state is CircuitState.CLOSED
        await fail(breaker, 3)
        assert breaker.state is CircuitState.OPEN
        with pytest.raises(CircuitBreakerError) as caught:
            async with breaker:
                pytest.fail("an open circuit let a call pass")
        assert (caught.value.name, caught.value.state.value) == ("test", "open")
        assert caught.value.remaining_timeout == pytest.approx(30.0)
        clock.advance(30.0)
        async with breaker:
            assert breaker.state is CircuitState.HALF_OPEN
        assert breaker.state is CircuitState.CLOSED

    asyncio.run(main())


def test_success_resets_the_failure_count():
    async def main() -> None:
        breaker = CircuitBreaker("test", failure_threshold=3)
        await fail(breaker, 2)
        async with breaker:
            pass
        await fail(breaker, 2)
        assert breaker.state is CircuitState.CLOSED

    asyncio.run(main())


def test_protect_keeps_a_coroutine_function_one():
    breaker = CircuitBreaker("test", failure_threshold=1)

    @breaker.protect
    async def charge(amount: int) -> str:
        """Charge."""
        if amount < 0:
            raise Boom
        return f"charged {amount}"

    async def main() -> None:
        assert inspect.iscoroutinefunction(charge)
        assert charge.__doc__ == "Charge."
        assert await charge(3) == "charged 3"
        with pytest.raises(Boom):
            await charge(-1)
        with pytest.raises(CircuitBreakerError):
            await charge(3)

    asyncio.run(main())


def test_cancelled_trials_do_not_wedge_the_circuit(clock):
    async def main() -> None:
        breaker = CircuitBreaker(
            "test", failure_threshold=1, recovery_timeout=1.0, half_open_max_calls=2, clock=clock
        )
        await fail(breaker)
        clock.advance(1.0)

        async def hang() -> None:
            async with breaker:
                await asyncio.sleep(60)

        for _ in range(5):
            tasks = [asyncio.create_task(hang()) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(CircuitBreakerError):
                async with breaker:
                    pytest.fail("more trials in flight than half_open_max_calls")
            for task in tasks:
                task.cancel()
            assert all(
                isinstance(e, asyncio.CancelledError)
                for e in await asyncio.gather(*tasks, return_exceptions=True)
            )
        assert breaker.state is CircuitState.HALF_OPEN
        for _ in range(2):
            async with breaker:
                pass
        assert breaker.state is CircuitState.CLOSED

    asyncio.run(main())


def test_interleaved_tasks_settle_their_own_calls():
    """One task's failure must not be booked on another's call."""

    async def main() -> None:
        breaker = CircuitBreaker("test", failure_threshold=100)

        async def call(i: int) -> None:
            async with breaker:
                await asyncio.sleep(0.001 * (i % 3))
                if i % 2:
                    raise Boom

        await asyncio.gather(*(call(i) for i in range(50)), return_exceptions=True)
        assert (breaker.stats.successful_calls, breaker.stats.failed_calls) == (25, 25)

    asyncio.run(main())


def test_one_breaker_serves_both_worlds():
    breaker = CircuitBreaker("shared", failure_threshold=2)
    with pytest.raises(Boom), breaker:
        raise Boom
    asyncio.run(fail(breaker))
    with pytest.raises(CircuitBreakerError), breaker:
        pytest.fail("an open circuit let a call pass")


def test_reset_closes_it():
    breaker = CircuitBreaker("test", failure_threshold=1)
    asyncio.run(fail(breaker))
    breaker.reset()
    assert breaker.state is CircuitState.CLOSED


def test_retry_config_delays():
    config = RetryConfig(base_delay=1.0, max_delay=5.0, jitter=0.0)
    assert [config.calculate_delay(n) for n in (1, 2, 3, 10)] == [1.0, 2.0, 4.0, 5.0]


def test_with_retry_tries_again_and_tells():
    told = []

    @with_retry(
        max_attempts=3, base_delay=0.001, on_retry=lambda attempt, exc: told.append((attempt, type(exc)))
    )
    async def fetch() -> str:
        if len(told) < 2:
            raise ValueError("not yet")
        return "success"

    assert asyncio.run(fetch()) == "success"
    assert told == [(1, ValueError), (2, ValueError)]


def test_with_retry_gives_up():
    @with_retry(max_attempts=3, base_delay=0.001)
    async def fetch() -> None:
        raise ValueError("always")

    with pytest.raises(RetryExhaustedError) as caught:
        asyncio.run(fetch())
    assert caught.value.attempts == 3
    assert isinstance(caught.value.last_exception, ValueError)


def test_with_retry_leaves_other_exceptions_alone():
    calls = []

    @with_retry(max_attempts=3, retry_on=(ValueError,))
    async def fetch() -> None:
        calls.append(1)
        raise TypeError("not retryable")

    with pytest.raises(TypeError):
        asyncio.run(fetch())
    assert calls == [1]


def test_waiting_between_attempts_does_not_block_the_loop():
    attempts = []

    @with_retry(max_attempts=2, base_delay=0.2, jitter=0)
    async def fetch() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError

    async def main() -> int:
        task = asyncio.create_task(fetch())
        ticks = 0
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        await task
        return ticks

    assert asyncio.run(main()) >= 5


def test_retry_around_a_breaker_stops_when_it_is_open():
    breaker = CircuitBreaker("external-api", failure_threshold=2)
    calls = []

    @with_retry(max_attempts=5, base_delay=0.001, retry_on=(ConnectionError,))
    async def fetch() -> None:
        async with breaker:
            calls.append(1)
            raise ConnectionError

    with pytest.raises(CircuitBreakerError):
        asyncio.run(fetch())
    assert len(calls) == 2


def test_retry_sync_is_for_sync_functions():
    calls = []

    @retry_sync(max_attempts=3, base_delay=0.001)
    def fetch() -> str:
        calls.append(1)
        if len(calls) < 2:
            raise ValueError
        return "success"

    assert fetch() == "success"
    assert len(calls) == 2
