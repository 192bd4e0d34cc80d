"""What at least one other breaker does wrong, each by the name of the rule it breaks."""

from __future__ import annotations

import contextlib
import gc
import threading
import time

import pytest
from contract._parts import (
    SOON,
    Boom,
    fail,
    half_open,
    run_python,
    succeed,
    tripped,
    wait_for_recovery,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_svc_infra.resilience import (
    CircuitBreaker,
    CircuitBreakerError,
    CircuitState,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


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
