"""What is asynchronous is guarded while it is awaited, however it came to be asynchronous."""

from __future__ import annotations

import asyncio
import functools
import inspect

import pytest
from concurrency.scenes import CLOSED, HALF_OPEN, OPEN, Down
from support.clock import FakeClock

from flask_svc_infra.resilience import CircuitBreaker, CircuitBreakerError, Outcome, slow_rate


async def failing():
    await asyncio.sleep(0)
    raise Down


class Service:
    async def method(self):
        await failing()

    async def __call__(self):
        await failing()


def hidden():
    """A plain function that gives a coroutine: nothing marks it as asynchronous."""
    return failing()


WAYS = pytest.mark.parametrize(
    "function",
    [failing, functools.partial(failing), Service().method, Service(), hidden, lambda: failing()],  # noqa: PLW0108
    ids=["coroutine function", "partial", "method", "callable object", "plain function", "lambda"],
)


@WAYS
@pytest.mark.parametrize("measured", [False, True])
def test_async_def_is_never_silently_unprotected(function, measured):
    """Counted as a success at once, as a plain function's wrapper would, it could never open the circuit."""
    rule = {"failure_result": lambda _result: False} if measured else {}
    breaker = CircuitBreaker("dep", failure_threshold=2, **rule)
    protected = breaker.protect(function)
    for _ in range(2):
        with pytest.raises(Down):
            asyncio.run(protected())
    assert breaker.state is OPEN
    assert breaker.stats.successful_calls == 0

    async def refused():
        await protected()

    with pytest.raises(CircuitBreakerError):
        asyncio.run(refused())


@WAYS
def test_call_guards_what_it_gives_until_it_is_awaited(function):
    breaker = CircuitBreaker("dep", failure_threshold=1)

    async def main():
        with pytest.raises(Down):
            await breaker.call(function)

    asyncio.run(main())
    assert breaker.state is OPEN


def test_protected_coroutine_function_is_one():
    protected = CircuitBreaker("dep").protect(failing)
    assert inspect.iscoroutinefunction(protected)
    assert protected.__name__ == "failing"


def test_refusal_comes_when_awaited_not_when_called():
    breaker = CircuitBreaker("dep")
    protected = breaker.protect(failing)
    breaker.force_open()
    coroutine = protected()

    async def main():
        with pytest.raises(CircuitBreakerError):
            await coroutine

    asyncio.run(main())


def test_many_tasks_run_side_by_side():
    breaker = CircuitBreaker("dep")

    async def main():
        meeting = asyncio.Barrier(50)

        @breaker.protect
        async def call():
            await meeting.wait()

        await asyncio.wait_for(asyncio.gather(*(call() for _ in range(50))), 10)

    asyncio.run(main())
    assert breaker.stats.successful_calls == 50


def test_timeout_inside_the_breaker_is_a_failure_and_outside_it_is_neutral():
    breaker = CircuitBreaker("dep", failure_threshold=1)

    @breaker.protect
    async def bounded():
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    @breaker.protect
    async def unbounded():
        await asyncio.Event().wait()

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await unbounded()
        assert breaker.state is CLOSED
        assert breaker.stats.ignored_calls == 1
        with pytest.raises(TimeoutError):
            await bounded()

    asyncio.run(main())
    assert breaker.state is OPEN


@pytest.mark.parametrize("asynchronous", [False, True])
def test_fallback_may_be_sync_or_async(asynchronous):
    async def soon(x):
        return f"later {x}"

    breaker = CircuitBreaker("dep")
    protected = breaker.protect(fallback=soon if asynchronous else lambda x: f"now {x}")(Service().method)
    breaker.force_open()
    assert asyncio.run(protected(1)) == ("later 1" if asynchronous else "now 1")


def test_async_guard_settles_by_what_comes_out():
    breaker = CircuitBreaker("dep", failure_threshold=1)

    async def main():
        async with breaker.guard() as permit:
            permit.settle(Outcome.SUCCESS)
        with pytest.raises(Down):
            async with breaker.guard():
                raise Down
        with pytest.raises(CircuitBreakerError):
            async with breaker.guard():
                pass

    asyncio.run(main())
    assert (breaker.stats.successful_calls, breaker.stats.failed_calls) == (1, 1)


@pytest.mark.parametrize("form", ["decorator", "async with", "with", "guard", "hidden"])
def test_slow_awaits_are_slow_calls(form):
    clock = FakeClock()
    breaker = CircuitBreaker("dep", trip=slow_rate(1.0, slower_than=1.0, last=2), clock=clock)

    async def slow():
        await asyncio.sleep(0)
        clock.advance(1.5)

    async def in_async_with():
        async with breaker:
            await slow()

    async def in_with():
        with breaker:
            await slow()

    async def in_guard():
        async with breaker.guard():
            await slow()

    forms = {
        "decorator": breaker.protect(slow),
        "hidden": breaker.protect(lambda: slow()),  # noqa: PLW0108 - unmarked on purpose
        "async with": in_async_with,
        "with": in_with,
        "guard": in_guard,
    }

    async def main():
        await forms[form]()
        assert breaker.state is CLOSED
        await forms[form]()

    asyncio.run(main())
    assert breaker.state is OPEN


def test_slow_trial_opens_again():
    clock = FakeClock()
    breaker = CircuitBreaker(
        "dep",
        trip=slow_rate(1.0, slower_than=1.0, last=1),
        recovery_timeout=10.0,
        success_threshold=2,
        clock=clock,
    )

    @breaker.protect
    async def call(seconds):
        clock.advance(seconds)

    asyncio.run(call(2.0))
    assert breaker.state is OPEN
    clock.advance(10.0)
    asyncio.run(call(0.5))
    assert breaker.state is HALF_OPEN
    asyncio.run(call(2.0))
    assert breaker.state is OPEN
