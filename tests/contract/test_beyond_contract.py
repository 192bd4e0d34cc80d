"""Names the documentation does not have and the design promises: trip rules, recovery, permits, listeners."""

from __future__ import annotations

import contextlib
import itertools
import time

import pytest
from contract._parts import Boom, fail, succeed

from flask_svc_infra.resilience import (
    CircuitBreaker,
    CircuitBreakerError,
    CircuitState,
    consecutive,
    exponential_recovery,
    failure_rate,
    slow_rate,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def test_failure_threshold_is_short_for_consecutive():
    one, two = CircuitBreaker("a", failure_threshold=3), CircuitBreaker("b", trip=consecutive(3))
    for breaker in (one, two):
        fail(breaker, 2)
        succeed(breaker)
        fail(breaker, 2)
        assert breaker.state is CLOSED
        fail(breaker)
        assert breaker.state is OPEN


def test_failure_rate_over_calls_needs_its_minimum():
    breaker = CircuitBreaker("x", trip=failure_rate(0.5, last=10, minimum_calls=4))
    fail(breaker, 3)
    assert breaker.state is CLOSED
    fail(breaker)
    assert breaker.state is OPEN


def test_failure_rate_forgets_what_left_the_window():
    breaker = CircuitBreaker("x", trip=failure_rate(0.5, last=4, minimum_calls=4))
    fail(breaker)
    succeed(breaker, 3)
    succeed(breaker, 4)
    fail(breaker)
    assert breaker.state is CLOSED
    fail(breaker)
    assert breaker.state is OPEN


def test_success_that_completes_the_minimum_may_trip_too():
    breaker = CircuitBreaker("x", trip=failure_rate(0.5, last=10, minimum_calls=4))
    fail(breaker, 3)
    succeed(breaker)
    assert breaker.state is OPEN


def test_failure_rate_over_time():
    breaker = CircuitBreaker("x", trip=failure_rate(0.5, seconds=60, minimum_calls=3))
    succeed(breaker)
    fail(breaker, 2)
    assert breaker.state is OPEN


def test_slow_calls_trip():
    breaker = CircuitBreaker("x", trip=slow_rate(0.5, slower_than=0.01, last=10, minimum_calls=2))
    for _ in range(2):
        with breaker:
            time.sleep(0.015)
    assert breaker.state is OPEN


@pytest.mark.parametrize(("combine", "after_two"), [(lambda a, b: a | b, OPEN), (lambda a, b: a & b, CLOSED)])
def test_rules_compose(combine, after_two):
    rule = combine(consecutive(2), failure_rate(0.5, last=10, minimum_calls=4))
    breaker = CircuitBreaker("x", trip=rule)
    fail(breaker, 2)
    assert breaker.state is after_two


def test_rule_may_be_shared_by_two_breakers_without_sharing_their_counts():
    rule = failure_rate(0.5, last=4, minimum_calls=2) | consecutive(9)
    one, two = CircuitBreaker("a", trip=rule), CircuitBreaker("b", trip=rule)
    fail(one)
    fail(two)
    assert (one.state, two.state) == (CLOSED, CLOSED)


def test_exponential_recovery_doubles_up_to_its_maximum():
    wait = exponential_recovery(1.0, factor=2.0, maximum=5.0, jitter=0.0)
    assert [wait(n) for n in (1, 2, 3, 4, 5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_recovery_timeout_may_be_a_callable_of_consecutive_opens():
    asked = []

    def recovery(opens):
        asked.append(opens)
        return 0.01

    breaker = CircuitBreaker("x", failure_threshold=1, recovery_timeout=recovery, success_threshold=1)
    fail(breaker)
    time.sleep(0.02)
    fail(breaker)
    time.sleep(0.02)
    succeed(breaker)
    fail(breaker)
    assert [key for key, _ in itertools.groupby(asked)] == [1, 2, 1]


def test_permit_is_admitted_and_settled():
    breaker = CircuitBreaker("x", failure_threshold=1)
    from flask_svc_infra.resilience import Outcome

    permit = breaker.admit()
    permit.settle(Outcome.SUCCESS)
    assert breaker.stats.successful_calls == 1
    breaker.admit().settle(Outcome.IGNORED)
    assert breaker.state is CLOSED
    breaker.admit().settle(Outcome.FAILURE)
    assert breaker.state is OPEN
    with pytest.raises(CircuitBreakerError):
        breaker.admit()


def test_permit_is_settled_once():
    from flask_svc_infra.resilience import Outcome

    breaker = CircuitBreaker("x", failure_threshold=2)
    permit = breaker.admit()
    permit.settle(Outcome.FAILURE)
    with contextlib.suppress(RuntimeError, ValueError):
        permit.settle(Outcome.FAILURE)
    assert breaker.state is CLOSED
    assert breaker.stats.failed_calls == 1


def test_transition_signal_is_sent():
    from flask_svc_infra.events import circuit_transition

    breaker, seen = CircuitBreaker("signalled", failure_threshold=1), []

    def listener(sender, event):
        seen.append((sender, event.old, event.new, event.forced, bool(event.reason)))

    circuit_transition.connect(listener, sender=breaker)
    fail(breaker)
    breaker.reset()
    assert seen == [(breaker, CLOSED, OPEN, False, True), (breaker, OPEN, CLOSED, True, True)]


def test_transition_carries_the_reason_of_a_person():
    seen = []
    breaker = CircuitBreaker("x", on_transition=seen.append)
    breaker.force_open(reason="provider maintenance")
    assert (seen[0].new, seen[0].forced) == (OPEN, True)
    assert "provider maintenance" in seen[0].reason


def test_guard_gives_the_permit():
    breaker = CircuitBreaker("x", failure_threshold=1)
    with breaker.guard() as permit:
        assert permit is not None
    assert breaker.stats.successful_calls == 1
    with pytest.raises(Boom), breaker.guard():
        raise Boom
    assert breaker.state is OPEN
