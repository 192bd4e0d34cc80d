"""A forked child has its parent's circuits, but none of its locks, calls in flight or undelivered news."""

from __future__ import annotations

from concurrency.scenes import run_python

PRELUDE = """
import os, threading
from contextlib import suppress
from flask_svc_infra.testing import FakeClock
from flask_svc_infra.resilience import Bulkhead, BulkheadFullError, CircuitBreaker, Outcome

clock = FakeClock()

def in_child(act):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0

def breaker_with(**options):
    defaults = {"failure_threshold": 1, "recovery_timeout": 10.0, "clock": clock}
    return CircuitBreaker("dep", **{**defaults, **options})

def busy_thread(held):
    '''A thread that holds something open while the main thread forks.'''
    inside, release = threading.Event(), threading.Event()
    def run():
        with held:
            inside.set()
            release.wait(20)
    thread = threading.Thread(target=run)
    thread.start()
    assert inside.wait(10)
    return lambda: (release.set(), thread.join(10))
"""


def scene(script: str) -> None:
    import textwrap

    run_python(PRELUDE + textwrap.dedent(script))


def test_fork_with_a_call_in_flight_leaves_a_child_that_works():
    scene("""
        breaker = breaker_with(failure_threshold=2)
        end = busy_thread(breaker)
        def act():
            with breaker:
                pass
            assert breaker.stats.total_calls == 1
            for _ in range(2):
                breaker.admit().settle(Outcome.FAILURE)
            assert breaker.state == "open"
        in_child(act)
        end()
        assert breaker.state == "closed" and breaker.stats.total_calls == 1
    """)


def test_fork_while_half_open_opens_the_child_which_makes_trials_of_its_own():
    scene("""
        breaker = breaker_with(half_open_max_calls=1, success_threshold=1)
        breaker.admit().settle(Outcome.FAILURE)
        clock.advance(10.0)
        end = busy_thread(breaker)
        assert breaker.state == "half_open"
        def act():
            assert breaker.state == "open", breaker.state
            assert breaker.remaining_timeout == 0.0
            with breaker:
                assert breaker.state == "half_open"
            assert breaker.state == "closed"
        in_child(act)
        assert breaker.state == "half_open"
        end()
        assert breaker.state == "closed"
    """)


def test_trial_of_the_forking_thread_is_stale_in_the_child():
    scene("""
        breaker = breaker_with(half_open_max_calls=1, success_threshold=1)
        breaker.admit().settle(Outcome.FAILURE)
        clock.advance(10.0)
        permit = breaker.admit()
        def act():
            permit.settle(Outcome.SUCCESS)
            assert breaker.state == "open"
            assert breaker.stats.stale_calls == 1
        in_child(act)
        permit.settle(Outcome.SUCCESS)
        assert breaker.state == "closed"
    """)


def test_fork_while_another_thread_decides_leaves_a_child_that_works():
    scene("""
        breaker = breaker_with(failure_threshold=2)
        breaker.admit().settle(Outcome.FAILURE)
        end = busy_thread(breaker._engine._lock)
        def act():
            assert breaker._failure_count == 0, "half made counts were kept"
            for _ in range(2):
                breaker.admit().settle(Outcome.FAILURE)
            assert breaker.state == "open"
            breaker.reset()
        in_child(act)
        end()
        assert breaker._failure_count == 1
    """)


def test_fork_keeps_an_open_circuit_open_and_a_forced_one_forced():
    scene("""
        breaker = breaker_with()
        breaker.admit().settle(Outcome.FAILURE)
        forced, disabled = breaker_with(), breaker_with()
        forced.force_open("maintenance")
        disabled.disable("test")
        ends = [busy_thread(circuit._engine._lock) for circuit in (breaker, forced, disabled)]
        def act():
            assert breaker.state == "open" and breaker.remaining_timeout == 10.0
            assert forced.forced.reason == "maintenance"
            assert disabled.forced.kind == "disabled"
            for _ in range(3):
                disabled.admit().settle(Outcome.FAILURE)
            assert disabled.state == "closed"
        in_child(act)
        for end in ends:
            end()
    """)


def test_fork_while_another_thread_tells_listeners_leaves_a_child_that_tells_its_own():
    scene("""
        inside, release, told = threading.Event(), threading.Event(), []
        def listener(event):
            told.append((os.getpid(), event.new.value))
            inside.set()
            if event.new == "open":
                release.wait(20)
        breaker = breaker_with(on_transition=listener)
        thread = threading.Thread(target=lambda: breaker.admit().settle(Outcome.FAILURE))
        thread.start()
        assert inside.wait(10)
        breaker.force_open()
        release_child = release
        def act():
            told.clear()
            release.set()
            breaker.reset()
            assert told == [(os.getpid(), "closed")], told
        in_child(act)
        release.set()
        thread.join(10)
        assert told == [(os.getpid(), "open"), (os.getpid(), "open")], told
    """)


def test_fork_with_a_full_bulkhead_leaves_an_empty_one():
    scene("""
        bulkhead = Bulkhead("dep", max_concurrent=1)
        end = busy_thread(bulkhead)
        def act():
            assert bulkhead.in_flight == 0
            with bulkhead:
                with suppress(BulkheadFullError):
                    bulkhead.admit()
                    raise AssertionError("two at once")
            assert bulkhead.in_flight == 0
        in_child(act)
        assert bulkhead.in_flight == 1
        end()
        assert bulkhead.in_flight == 0
    """)


def test_fork_while_another_thread_takes_a_place_leaves_a_bulkhead_that_works():
    scene("""
        bulkhead = Bulkhead("dep", max_concurrent=1)
        end = busy_thread(bulkhead._free)
        def act():
            with bulkhead:
                assert bulkhead.in_flight == 1
        in_child(act)
        end()
    """)


def test_place_held_by_the_forking_thread_is_not_given_back_in_the_child():
    scene("""
        bulkhead = Bulkhead("dep", max_concurrent=1)
        place = bulkhead.admit()
        def act():
            place.release()
            assert bulkhead.in_flight == 0
        in_child(act)
        assert bulkhead.in_flight == 1
    """)
