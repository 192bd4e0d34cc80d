"""Each exit of a with statement knows its own entry, however entries and exits are interleaved.

Each test lets a call that began while the circuit was closed overlap a trial. Were the exits mixed up (a
stack on the thread, on the breaker, in a context variable), the late failure would open the half-open
circuit, or the trial's success would be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import unittest
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack

import pytest
from concurrency.scenes import CLOSED, HALF_OPEN, OPEN, Down, run_python
from support.clock import FakeClock

from flask_svc_infra.resilience import CircuitBreaker, CircuitBreakerError, Outcome, failure_rate


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=["consecutive", "timed"])
def breaker(request, clock):
    """Opens after one failure; by a rule that needs no clock, and by one that does."""
    trip = failure_rate(0.01, seconds=60, minimum_calls=1) if request.param == "timed" else None
    options = {"trip": trip} if trip else {"failure_threshold": 1}
    return CircuitBreaker("dep", **options, recovery_timeout=10.0, success_threshold=1, clock=clock)


def trip_and_recover(breaker, clock):
    breaker.admit().settle(Outcome.FAILURE)
    assert breaker.state is OPEN
    clock.advance(10.0)


def test_tasks_of_one_loop(breaker, clock):
    async def late(entered, leave):
        async with breaker:
            entered.set()
            await leave.wait()
            raise Down

    async def trial(entered, leave):
        async with breaker:
            entered.set()
            await leave.wait()

    async def main():
        events = [asyncio.Event() for _ in range(4)]
        first = asyncio.create_task(late(*events[:2]))
        await events[0].wait()
        trip_and_recover(breaker, clock)
        second = asyncio.create_task(trial(*events[2:]))
        await events[2].wait()
        assert breaker.state is HALF_OPEN
        events[1].set()
        with pytest.raises(Down):
            await first
        assert breaker.state is HALF_OPEN
        events[3].set()
        await second

    asyncio.run(main())
    assert breaker.state is CLOSED
    assert breaker.stats.stale_calls == 1


def test_plain_with_around_an_await(breaker, clock):
    async def late(leave):
        with breaker:
            await leave.wait()
            raise Down

    async def main():
        leave = asyncio.Event()
        task = asyncio.create_task(late(leave))
        await asyncio.sleep(0)
        trip_and_recover(breaker, clock)
        with breaker:
            leave.set()
            with pytest.raises(Down):
                await task
            assert breaker.state is HALF_OPEN

    asyncio.run(main())
    assert breaker.state is CLOSED


def block(breaker, error=None):
    with breaker:
        yield
        if error:
            raise error


def test_generators_left_in_the_order_they_were_entered(breaker, clock):
    late, trial = block(breaker, Down), block(breaker)
    next(late)
    trip_and_recover(breaker, clock)
    next(trial)
    with pytest.raises(Down):
        next(late)
    assert breaker.state is HALF_OPEN
    assert next(trial, "end") == "end"
    assert breaker.state is CLOSED


def test_generator_entered_in_one_thread_and_left_in_another(breaker, clock):
    late, trial = block(breaker, Down), block(breaker)
    next(late)
    trip_and_recover(breaker, clock)
    next(trial)

    def elsewhere():
        with pytest.raises(Down):
            next(late)
        assert next(trial, "end") == "end"

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert breaker.state is CLOSED
    assert breaker.stats.stale_calls == 1


def test_two_trials_left_in_the_order_they_were_entered(breaker, clock):
    trip_and_recover(breaker, clock)
    breaker2 = CircuitBreaker(
        "two", failure_threshold=1, recovery_timeout=1.0, success_threshold=2, clock=clock
    )
    breaker2.admit().settle(Outcome.FAILURE)
    clock.advance(1.0)
    first, second = block(breaker2), block(breaker2)
    next(first)
    next(second)
    next(first, None)
    assert breaker2.state is HALF_OPEN
    next(second, None)
    assert breaker2.state is CLOSED


def test_exit_stack(breaker, clock):
    """ExitStack loads the exit from the class, enters in one function and leaves in another."""
    late, trial = ExitStack(), ExitStack()
    late.enter_context(breaker)
    trip_and_recover(breaker, clock)
    trial.enter_context(breaker)
    with pytest.raises(Down), late:
        raise Down
    assert breaker.state is HALF_OPEN
    trial.close()
    assert breaker.state is CLOSED
    with pytest.raises(Down), ExitStack() as stack:
        stack.enter_context(breaker)
        raise Down
    assert breaker.state is OPEN
    with pytest.raises(CircuitBreakerError), ExitStack() as stack:
        stack.enter_context(breaker)


def test_async_exit_stack(breaker, clock):
    async def main():
        late, trial = AsyncExitStack(), AsyncExitStack()
        await late.enter_async_context(breaker)
        trip_and_recover(breaker, clock)
        await trial.enter_async_context(breaker)
        with pytest.raises(Down):
            async with late:
                raise Down
        assert breaker.state is HALF_OPEN
        await trial.aclose()

    asyncio.run(main())
    assert breaker.state is CLOSED


def test_nested_in_one_function(breaker, clock):
    with pytest.raises(Down), breaker:
        trip_and_recover(breaker, clock)
        with breaker:
            assert breaker.state is HALF_OPEN
        assert breaker.state is CLOSED
        raise Down
    assert breaker.state is CLOSED
    assert breaker.stats.stale_calls == 1


def test_unittest_and_contextlib_helpers(breaker):
    class Case(unittest.TestCase):
        def runTest(self):  # noqa: N802
            self.enterContext(breaker)

    assert Case().run().wasSuccessful()
    with contextlib.nullcontext(), breaker, contextlib.suppress(KeyError), breaker:
        raise KeyError
    assert breaker.stats.total_calls == 3
    assert isinstance(breaker, AbstractContextManager)
    assert isinstance(breaker, AbstractAsyncContextManager)


def test_bare_calls_of_enter_and_exit(breaker, clock):
    breaker.__enter__()
    breaker.__exit__(None, None, None)
    trip_and_recover(breaker, clock)
    breaker.__enter__()
    assert breaker.state is HALF_OPEN
    breaker.__exit__(None, None, None)
    assert breaker.state is CLOSED
    breaker.admit().settle(Outcome.FAILURE)
    with pytest.raises(CircuitBreakerError):
        breaker.__enter__()


def test_bare_calls_again_and_again(clock):
    breaker = CircuitBreaker(
        "dep", failure_threshold=1, recovery_timeout=1.0, success_threshold=4, clock=clock
    )
    breaker.admit().settle(Outcome.FAILURE)
    clock.advance(1.0)
    for _ in range(2):
        breaker.__enter__()
        breaker.__enter__()
        breaker.__exit__(None, None, None)
        breaker.__exit__(None, None, None)
    assert breaker.state is CLOSED
    assert breaker.stats.successful_calls == 4


def test_bare_calls_on_the_class(breaker, clock):
    CircuitBreaker.__enter__(breaker)
    leave = CircuitBreaker.__exit__
    leave(breaker, Down, Down(), None)
    assert breaker.state is OPEN
    clock.advance(10.0)
    leave = CircuitBreaker.__exit__
    CircuitBreaker.__enter__(breaker)
    leave(breaker, None, None, None)
    assert breaker.state is CLOSED


def test_looking_at_the_exit_takes_no_place(breaker, clock):
    """hasattr and the like load the exit and never enter."""
    trip_and_recover(breaker, clock)
    for _ in range(10):
        assert hasattr(breaker, "__exit__")
        assert hasattr(breaker, "__aexit__")
        assert hasattr(CircuitBreaker, "__exit__")
    assert breaker.state is OPEN
    with breaker:
        pass
    assert breaker.state is CLOSED
    for _ in range(10):
        assert hasattr(breaker, "__exit__")
    with pytest.raises(Down), breaker:
        raise Down
    assert breaker.state is OPEN


def test_exit_that_was_never_entered_counts_nothing(clock):
    breaker = CircuitBreaker("dep", clock=clock)
    breaker.force_open()
    breaker.__exit__(Down, Down(), None)
    CircuitBreaker.__exit__(breaker, Down, Down(), None)
    assert breaker.stats.total_calls == 0


def test_two_breakers_in_one_statement_keep_apart(clock):
    one = CircuitBreaker("one", failure_threshold=1, recovery_timeout=10.0, success_threshold=1, clock=clock)
    two = CircuitBreaker("two", failure_threshold=1, recovery_timeout=10.0, success_threshold=1, clock=clock)
    for breaker in (one, two):
        breaker.admit().settle(Outcome.FAILURE)
    clock.advance(10.0)
    with one, two:
        assert (one.state, two.state) == (HALF_OPEN, HALF_OPEN)
    assert (one.state, two.state) == (CLOSED, CLOSED)
    one.force_open()
    with pytest.raises(CircuitBreakerError), two, one:
        pass
    assert two.state is OPEN


@pytest.mark.needs("gevent")
@pytest.mark.needs("gevent")
def test_greenlets_of_one_thread():
    """Under gevent, greenlets take turns inside the blocks."""
    run_python("""
        from gevent import monkey
        monkey.patch_all()
        import gevent
        from gevent.event import Event
        from flask_svc_infra.resilience import CircuitBreaker, Outcome
        from flask_svc_infra.testing import FakeClock

        clock = FakeClock()
        breaker = CircuitBreaker(
            "dep", failure_threshold=1, recovery_timeout=10.0, success_threshold=1, clock=clock
        )
        entered, leave = Event(), Event()

        def late():
            with breaker:
                entered.set()
                leave.wait(10)
                raise ValueError

        def trial():
            with breaker:
                assert breaker.state == "half_open"
                leave.set()
                first.join()
                assert breaker.state == "half_open"

        first = gevent.spawn(late)
        assert entered.wait(10)
        breaker.admit().settle(Outcome.FAILURE)
        clock.advance(10.0)
        second = gevent.spawn(trial)
        second.get(timeout=10)
        assert isinstance(first.exception, ValueError)
        assert breaker.state == "closed" and breaker.stats.stale_calls == 1

        # Calls run side by side, a killed greenlet is neutral, trials stay bounded.
        inside = []
        @breaker.protect
        def call():
            inside.append(1)
            gevent.sleep(0.01)
        gevent.joinall([gevent.spawn(call) for _ in range(50)], raise_error=True, timeout=10)
        assert len(inside) == 50
        breaker.admit().settle(Outcome.FAILURE)
        clock.advance(10.0)
        hung = gevent.spawn(breaker.call, gevent.sleep, 60)
        gevent.sleep(0.01)
        hung.kill()
        assert breaker.state == "half_open"
        with breaker:
            pass
        assert breaker.state == "closed"
    """)
