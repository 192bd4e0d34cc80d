"""A stream is one call, from its first item to its last; a reader that stops early says nothing about it."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading

import pytest
from concurrency.scenes import CLOSED, HALF_OPEN, OPEN, Down, recovering
from support.clock import FakeClock

from flask_svc_infra.resilience import CircuitBreaker, CircuitBreakerError


@pytest.fixture
def clock():
    return FakeClock()


def numbers(fail_after=None):
    for number in range(5):
        if number == fail_after:
            raise Down
        yield number


async def async_numbers(fail_after=None):
    for number in numbers(fail_after):
        yield number


def drain(stream):
    return list(stream)


def drain_async(stream):
    async def main():
        return [item async for item in stream]

    return asyncio.run(main())


KINDS = pytest.mark.parametrize(
    ("function", "drain"),
    [(numbers, drain), (async_numbers, drain_async)],
    ids=["generator", "async generator"],
)


@KINDS
def test_stream_read_to_its_end_is_one_success(function, drain):
    breaker = CircuitBreaker("dep")
    assert drain(breaker.protect(function)()) == [0, 1, 2, 3, 4]
    assert (breaker.stats.total_calls, breaker.stats.successful_calls) == (1, 1)


@KINDS
def test_failure_in_the_middle_of_a_stream_is_a_failure(function, drain):
    breaker = CircuitBreaker("dep", failure_threshold=1)
    with pytest.raises(Down):
        drain(breaker.protect(function)(3))
    assert breaker.state is OPEN
    assert breaker.stats.failed_calls == 1


@KINDS
def test_open_circuit_refuses_at_the_first_item(function, drain):
    breaker = CircuitBreaker("dep", failure_threshold=1)
    breaker.force_open()
    stream = breaker.protect(function)()
    with pytest.raises(CircuitBreakerError):
        drain(stream)


@KINDS
def test_fallback_stream_stands_in(function, drain):
    breaker = CircuitBreaker("dep")
    protected = breaker.protect(fallback=lambda: function(None))(function)
    breaker.force_open()
    assert drain(protected()) == [0, 1, 2, 3, 4]
    assert breaker.stats.successful_calls == 0


@KINDS
def test_kind_of_function_is_kept(function, drain):
    protected = CircuitBreaker("dep").protect(function)
    assert inspect.isgeneratorfunction(protected) == inspect.isgeneratorfunction(function)
    assert inspect.isasyncgenfunction(protected) == inspect.isasyncgenfunction(function)
    assert protected.__name__ == function.__name__


def test_reader_that_closes_a_stream_early_is_neutral(clock):
    breaker = recovering(clock, half_open_max_calls=1, success_threshold=1)
    closed = []

    @breaker.protect
    def stream():
        try:
            yield from numbers()
        finally:
            closed.append(True)

    reader = stream()
    assert next(reader) == 0
    with pytest.raises(CircuitBreakerError):
        next(stream())
    reader.close()
    assert breaker.state is HALF_OPEN
    assert breaker.stats.ignored_calls == 1
    assert closed == [True]
    assert drain(stream()) == [0, 1, 2, 3, 4]
    assert breaker.state is CLOSED


def test_reader_that_drops_a_stream_is_neutral(clock):
    breaker = recovering(clock, half_open_max_calls=1, success_threshold=1)
    reader = breaker.protect(numbers)()
    next(reader)
    del reader
    gc.collect()
    assert breaker.state is HALF_OPEN
    assert drain(breaker.protect(numbers)()) == [0, 1, 2, 3, 4]
    assert breaker.state is CLOSED


def test_reader_that_closes_an_async_stream_early_is_neutral(clock):
    breaker = recovering(clock, half_open_max_calls=1, success_threshold=1)
    closed = []

    @breaker.protect
    async def stream():
        try:
            async for number in async_numbers():
                yield number
        finally:
            closed.append(True)

    async def main():
        reader = stream()
        assert await anext(reader) == 0
        await reader.aclose()
        assert closed == [True]
        assert breaker.state is HALF_OPEN
        async for _ in stream():
            break
        await asyncio.sleep(0)

    asyncio.run(main())
    assert breaker.state is HALF_OPEN
    assert breaker.stats.ignored_calls == 2
    drain_async(stream())
    assert breaker.state is CLOSED


def test_cancelled_reader_of_an_async_stream_gives_the_trial_back(clock):
    breaker = recovering(clock, half_open_max_calls=1, success_threshold=1)

    @breaker.protect
    async def stream():
        yield 0
        await asyncio.Event().wait()

    async def read():
        return [item async for item in stream()]

    async def main():
        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert breaker.state is HALF_OPEN
    with breaker:
        pass
    assert breaker.state is CLOSED


def test_what_a_reader_sends_and_throws_reaches_the_stream():
    breaker = CircuitBreaker("dep")

    @breaker.protect
    def echo():
        got = yield "ready"
        while True:
            try:
                got = yield got
            except KeyError:
                got = "caught"
            if got is None:
                return "done"

    reader = echo()
    assert next(reader) == "ready"
    assert reader.send(1) == 1
    assert reader.throw(KeyError()) == "caught"
    with pytest.raises(StopIteration) as stop:
        next(reader)
    assert stop.value.value == "done"
    assert breaker.stats.successful_calls == 1


def test_what_a_reader_sends_and_throws_reaches_the_async_stream():
    breaker = CircuitBreaker("dep")

    @breaker.protect
    async def echo():
        got = yield "ready"
        while got is not None:
            try:
                got = yield got
            except KeyError:
                got = yield "caught"

    async def main():
        reader = echo()
        assert await anext(reader) == "ready"
        assert await reader.asend(1) == 1
        assert await reader.athrow(KeyError()) == "caught"
        with pytest.raises(StopAsyncIteration):
            await reader.asend(None)

    asyncio.run(main())
    assert breaker.stats.successful_calls == 1


def test_stream_resumed_by_other_threads_is_settled_once_in_its_own_generation(clock):
    breaker = recovering(clock, half_open_max_calls=1, success_threshold=1)
    stream = breaker.protect(numbers)()
    items = []
    for _ in range(5):
        thread = threading.Thread(target=lambda: items.append(next(stream)))
        thread.start()
        thread.join()
    assert breaker.state is HALF_OPEN
    assert next(stream, "end") == "end"
    assert items == [0, 1, 2, 3, 4]
    assert breaker.state is CLOSED


def test_stream_begun_before_a_reset_is_stale_after_it():
    breaker = CircuitBreaker("dep", failure_threshold=1)
    stream = breaker.protect(numbers)(3)
    next(stream)
    breaker.reset()
    with pytest.raises(Down):
        drain(stream)
    assert breaker.state is CLOSED
    assert breaker.stats.stale_calls == 1
