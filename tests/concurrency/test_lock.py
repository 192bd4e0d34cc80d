"""The lock decides and never waits: for no call, listener, classifier, recovery callable or finalizer."""

from __future__ import annotations

import gc
import logging
import threading
from itertools import pairwise

import pytest
from concurrency.scenes import CLOSED, OPEN, Down, fail, recovering, succeed, together
from support.clock import FakeClock

from flask_svc_infra.events import circuit_transition
from flask_svc_infra.resilience import CircuitBreaker, Outcome, engine, failure_rate


@pytest.fixture
def clock():
    return FakeClock()


@pytest.mark.parametrize("trip", [None, failure_rate(0.5, last=10)])
@pytest.mark.parametrize("form", ["with", "decorator", "guard", "call"])
def test_calls_run_side_by_side(form, trip):
    """Eight threads meet inside the protected call; were it serialised, they never would."""
    breaker = CircuitBreaker("dep", trip=trip)
    meeting = threading.Barrier(8, timeout=10)

    def in_with():
        with breaker:
            meeting.wait()

    def in_guard():
        with breaker.guard():
            meeting.wait()

    forms = {
        "with": in_with,
        "guard": in_guard,
        "decorator": breaker.protect(meeting.wait),
        "call": lambda: breaker.call(meeting.wait),
    }
    together(8, lambda _index: forms[form]())
    assert not meeting.broken
    assert breaker.stats.successful_calls == 8


def test_trials_run_side_by_side(clock):
    breaker = recovering(clock, half_open_max_calls=4, success_threshold=4)
    meeting = threading.Barrier(4, timeout=10)
    together(4, lambda _index: breaker.call(meeting.wait))
    assert breaker.state is CLOSED


def test_lock_is_free_while_users_code_runs(clock):
    """Whatever the breaker calls can take the lock in another thread."""
    free = []

    def probe(*_args, **_kwargs):
        def take():
            taken = breaker._engine._lock.acquire(timeout=5)
            free.append(taken)
            breaker._engine._lock.release()

        thread = threading.Thread(target=take)
        thread.start()
        thread.join()

    def recovery(_opens):
        probe()
        return 10.0

    def failure_result(_result):
        probe()
        return True

    breaker = CircuitBreaker(
        "dep",
        failure_threshold=1,
        recovery_timeout=recovery,
        failure_result=failure_result,
        on_transition=probe,
        clock=clock,
    )
    circuit_transition.connect(probe, sender=breaker)
    handler = logging.Handler()
    handler.emit = probe
    logger = logging.getLogger("flask_svc_infra.resilience")
    logger.addHandler(handler)
    try:
        breaker.call(probe)
    finally:
        logger.removeHandler(handler)
    assert breaker.state is OPEN
    assert free == [True] * 6


def test_listener_that_raises_stops_nothing(clock, caplog):
    told = []

    def listener(event):
        told.append(event.new)
        raise RuntimeError("listener broke")

    def receiver(_sender, event):
        raise RuntimeError("receiver broke")

    breaker = CircuitBreaker(
        "dep",
        failure_threshold=1,
        success_threshold=1,
        recovery_timeout=1.0,
        on_transition=listener,
        clock=clock,
    )
    circuit_transition.connect(receiver, sender=breaker)
    with caplog.at_level(logging.ERROR):
        fail(breaker)
        clock.advance(1.0)
        succeed(breaker)
    assert told == ["open", "half_open", "closed"]
    assert breaker.state is CLOSED
    assert "listener broke" in caplog.text
    assert "receiver broke" in caplog.text


def test_listener_may_use_the_breaker_and_events_stay_in_order(clock):
    told = []

    def listener(event):
        told.append((event.old, event.new))
        if event.new is OPEN and not event.forced:
            breaker.reset("by the listener")
            fail(breaker)
            told.append("told of the first")

    breaker = CircuitBreaker("dep", failure_threshold=1, on_transition=listener, clock=clock)
    done = threading.Thread(target=fail, args=(breaker,), daemon=True)

    def limited(event, listener=listener):
        return listener(event) if len(told) < 5 else told.append((event.old, event.new))

    breaker._engine._on_transition = limited
    done.start()
    done.join(10)
    assert not done.is_alive()
    assert told[:3] == [(CLOSED, OPEN), "told of the first", (OPEN, CLOSED)]
    pairs = [entry for entry in told if isinstance(entry, tuple)]
    assert all(before[1] is after[0] for before, after in pairwise(pairs))


def test_events_of_many_threads_come_in_order_and_none_is_lost():
    told = []
    breaker = CircuitBreaker("dep", on_transition=lambda event: told.append((event.old, event.new)))

    def act(index):
        for _ in range(200):
            breaker.force_open() if index % 2 else breaker.reset()

    together(8, act)
    assert all(before[1] is after[0] for before, after in pairwise(told))
    assert breaker.stats.state_changes == sum(old is not new for old, new in told)
    assert told[-1][1] is breaker.state


def test_finalizer_that_settles_inside_the_lock_does_not_deadlock(clock):
    """The collector may run anywhere, in the middle of a decision too; an abandoned stream settles then."""
    breaker = CircuitBreaker("dep", failure_threshold=2, clock=clock)

    @breaker.protect
    def stream():
        yield 1
        yield 2

    class Cycle:
        pass

    def abandon():
        cycle = Cycle()
        cycle.self, cycle.stream = cycle, stream()
        next(cycle.stream)

    def settle_with_a_collection_inside():
        abandon()
        with breaker._engine._lock:
            gc.collect()
        fail(breaker)

    thread = threading.Thread(target=settle_with_a_collection_inside, daemon=True)
    gc.disable()
    try:
        thread.start()
        thread.join(10)
    finally:
        gc.enable()
    assert not thread.is_alive()
    assert breaker.stats.ignored_calls == 1
    assert breaker._failure_count == 1


def test_recovery_callable_that_fails_leaves_the_default_timeout(clock, caplog):
    for broken in (
        lambda _opens: 1 / 0,
        lambda _opens: "soon",
        lambda _opens: -1.0,
        lambda _opens: float("nan"),
    ):
        breaker = CircuitBreaker("dep", failure_threshold=1, recovery_timeout=broken, clock=clock)
        fail(breaker)
        assert breaker.remaining_timeout == 30.0
    assert caplog.text.count("its recovery_timeout failed; it waits 30s") == 4


@pytest.mark.parametrize("folding", [True, False])
def test_windows_count_every_call_of_every_thread(folding, monkeypatch):
    """1 failure in 4 of 8000 calls: the share seen at the end is exact, whoever counted the successes."""
    monkeypatch.setattr(engine, "FOLDING", folding)
    breaker = CircuitBreaker("dep", trip=failure_rate(1.0, last=8000, minimum_calls=8000))

    def act(index):
        for _ in range(1000):
            permit = breaker.admit()
            permit.settle(Outcome.FAILURE if index % 4 == 0 else Outcome.SUCCESS)

    together(8, act)
    window = breaker._machine.generation.tally._window
    assert breaker._failure_count == 2000
    assert (window.total, window.hits) == (8000, 2000)


def test_exception_in_the_middle_of_a_reset_leaves_a_circuit_that_works(clock, monkeypatch):
    """A signal handler may raise between any two steps."""
    breaker = CircuitBreaker("dep", failure_threshold=1, clock=clock)
    machine = breaker._machine

    def interrupted(_machine, _closed):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(machine), "_listen", interrupted)
        with pytest.raises(KeyboardInterrupt):
            breaker.reset()
    fail(breaker)
    assert breaker.state is OPEN


def test_breaker_nobody_uses_dies_at_once():
    """Without waiting for the collector, so that it leaves the metrics."""
    import weakref

    breaker = CircuitBreaker("dep", failure_threshold=1)
    breaker.protect(lambda: None)()
    with breaker.guard():
        pass
    fail(breaker)
    gc.disable()
    try:
        seen = weakref.ref(breaker)
        del breaker
        assert seen() is None
    finally:
        gc.enable()


def test_breakers_that_died_leave_nothing_behind():
    from flask_svc_infra.resilience.breaker import _live

    before = len(_live._refs)
    for _ in range(100):
        CircuitBreaker("short-lived")
    assert len(_live._refs) == before


def test_protected_function_keeps_its_breaker_alive():
    from flask_svc_infra.resilience import live_breakers

    wrapped = CircuitBreaker("kept by its function").protect(lambda: None)
    assert "kept by its function" in [breaker.name for breaker in live_breakers()]
    assert wrapped.circuit_breaker.name == "kept by its function"


def test_failing_calls_are_judged_by_their_own_error():
    breaker = CircuitBreaker("dep", failure_threshold=10**6, failure_exceptions=(Down,))

    def act(index):
        error = Down if index % 2 else KeyError
        for _ in range(500):
            with pytest.raises(error), breaker:
                raise error

    together(6, act)
    assert (breaker.stats.failed_calls, breaker.stats.ignored_calls) == (1500, 1500)
