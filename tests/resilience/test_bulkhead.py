"""The bulkhead: so many at once, in every form; waiting for a place, giving it back."""

from __future__ import annotations

import asyncio
import threading

import pytest
from concurrency.scenes import run_python, together

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.resilience import Bulkhead, BulkheadFullError, live_bulkheads


class Down(Exception):
    pass


def test_so_many_and_no_more():
    bulkhead = Bulkhead("reports", max_concurrent=2)
    first, second = bulkhead.admit(), bulkhead.admit()
    with pytest.raises(BulkheadFullError) as refused:
        bulkhead.admit()
    assert str(refused.value) == "bulkhead 'reports' is full; 2 calls are in flight and this one was refused"
    assert (refused.value.name, refused.value.max_concurrent) == ("reports", 2)
    assert (bulkhead.in_flight, bulkhead.rejected) == (2, 1)
    first.release()
    first.release()
    assert bulkhead.in_flight == 1
    with bulkhead:
        assert bulkhead.in_flight == 2
    second.release()
    assert bulkhead.in_flight == 0
    assert repr(bulkhead) == "<Bulkhead 'reports' 0/2>"


def full(**options):
    bulkhead = Bulkhead("full", max_concurrent=1, **options)
    return bulkhead, bulkhead.admit()


async def coroutine():
    return "answer"


def generator():
    yield "answer"


async def async_generator():
    yield "answer"


def use(function):
    """Call *function* and take the one answer it has, of whatever kind it is."""

    async def awaited(result):
        return await result if hasattr(result, "__await__") else await anext(result)

    result = function()
    if isinstance(result, str):
        return result
    return next(result) if hasattr(result, "__next__") else asyncio.run(awaited(result))


KINDS = pytest.mark.parametrize(
    "function",
    [lambda: "answer", coroutine, lambda: coroutine(), generator, async_generator],  # noqa: PLW0108
    ids=["function", "coroutine function", "lambda of a coroutine", "generator", "async generator"],
)


@KINDS
def test_every_kind_of_function_holds_a_place(function):
    bulkhead = Bulkhead("x", max_concurrent=1)
    protected = bulkhead.protect(function)
    assert [use(protected) for _ in range(3)] == ["answer"] * 3
    assert use(lambda: bulkhead.call(function)) == "answer"
    assert bulkhead.in_flight == 0
    with bulkhead, pytest.raises(BulkheadFullError):
        use(protected)
    assert bulkhead.in_flight == 0


@KINDS
def test_fallback_answers_for_the_refused_call(function):
    bulkhead, _place = full()
    protected = bulkhead.protect(fallback=function)(function)
    assert use(protected) == "answer"
    assert bulkhead.rejected == 1


@pytest.mark.parametrize("error", [Down, KeyboardInterrupt, GeneratorExit])
def test_place_is_given_back_whatever_happens(error):
    bulkhead = Bulkhead("x", max_concurrent=1)

    def work():
        raise error

    for _ in range(3):
        for call in (bulkhead.protect(work), lambda: bulkhead.call(work)):
            with pytest.raises(error):
                call()
        with pytest.raises(error), bulkhead:
            raise error
        with pytest.raises(error), bulkhead.guard():
            raise error
    assert bulkhead.in_flight == 0


def test_stream_closed_early_gives_its_place_back():
    bulkhead = Bulkhead("x", max_concurrent=1)
    stream = bulkhead.protect(lambda: None)
    assert stream() is None

    @bulkhead.protect
    def numbers():
        yield 1
        yield 2

    reader = numbers()
    next(reader)
    assert bulkhead.in_flight == 1
    reader.close()
    assert bulkhead.in_flight == 0


def test_thread_waits_for_a_place():
    bulkhead, place = full(max_wait=10.0)
    waiting, got = threading.Event(), []

    def wait():
        waiting.set()
        with bulkhead:
            got.append(bulkhead.in_flight)

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait(10)
    assert got == []
    place.release()
    thread.join(10)
    assert got == [1]


def test_waiting_has_an_end():
    bulkhead, place = full(max_wait=0.01)
    with pytest.raises(BulkheadFullError):
        bulkhead.admit()
    place.release()
    with bulkhead:
        pass


def test_waiting_coroutine_does_not_block_the_loop():
    bulkhead, place = full(max_wait=10.0)

    async def main():
        async def wait():
            async with bulkhead:
                return bulkhead.in_flight

        task = asyncio.create_task(wait())
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not task.done()
        place.release()
        assert await task == 1
        assert bulkhead.in_flight == 0
        held = bulkhead.admit()
        cancelled = asyncio.create_task(wait())
        await asyncio.sleep(0.002)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert bulkhead.in_flight == 1
        held.release()

    asyncio.run(main())
    assert (bulkhead.in_flight, bulkhead.rejected) == (0, 0)


def test_unmarked_coroutine_holds_its_place_while_it_is_awaited():
    bulkhead, seen = Bulkhead("x", max_concurrent=1), []

    async def look():
        seen.append(bulkhead.in_flight)

    protected = bulkhead.protect(lambda: look())  # noqa: PLW0108 - unmarked on purpose

    async def main():
        later = protected()
        assert bulkhead.in_flight == 0
        await later
        refused = protected()
        with bulkhead, pytest.raises(BulkheadFullError):
            await refused

    asyncio.run(main())
    assert seen == [1]
    assert bulkhead.in_flight == 0


def test_waiting_of_a_coroutine_has_an_end():
    bulkhead, _place = full(max_wait=0.01)

    async def main():
        with pytest.raises(BulkheadFullError) as refused:
            async with bulkhead.guard():
                pass
        assert refused.value.__cause__ is None

    asyncio.run(main())
    assert bulkhead.rejected == 1


def test_threads_never_exceed_the_limit():
    bulkhead = Bulkhead("x", max_concurrent=3, max_wait=10.0)
    highest = []

    def act(_index):
        for _ in range(50):
            with bulkhead:
                highest.append(bulkhead.in_flight)

    together(8, act)
    assert len(highest) == 400
    assert max(highest) <= 3
    assert bulkhead.in_flight == 0


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"max_concurrent": 0},
        {"max_concurrent": True},
        {"max_wait": -1},
        {"max_wait": float("inf")},
    ],
)
def test_options_that_cannot_work_are_refused(options):
    with pytest.raises(ConfigurationError):
        Bulkhead(**{"name": "x", **options})


def test_arguments_may_be_given_by_position():
    bulkhead = Bulkhead("reports", 4, 0.5)
    assert (bulkhead.name, bulkhead.max_concurrent, bulkhead.max_wait) == ("reports", 4, 0.5)


def test_live_bulkheads_are_those_in_use():
    bulkhead = Bulkhead("only while used")
    assert bulkhead in live_bulkheads()
    del bulkhead
    assert "only while used" not in [other.name for other in live_bulkheads()]


@pytest.mark.needs("gevent")
def test_greenlets_wait_without_blocking_each_other():
    run_python("""
        from gevent import monkey
        monkey.patch_all()
        import gevent
        from flask_svc_infra.resilience import Bulkhead
        bulkhead, seen = Bulkhead("x", max_concurrent=2, max_wait=10.0), []
        def work():
            with bulkhead:
                seen.append(bulkhead.in_flight)
                gevent.sleep(0.002)
        gevent.joinall([gevent.spawn(work) for _ in range(20)], raise_error=True, timeout=20)
        assert len(seen) == 20 and max(seen) == 2, seen
    """)


def test_what_cannot_be_called_cannot_be_protected():
    with pytest.raises(TypeError, match="bulkhead 'x' cannot protect 5"):
        Bulkhead("x").protect(5)
