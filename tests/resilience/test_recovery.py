"""How long an open circuit waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clock import FakeClock

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.resilience import CircuitBreaker, CircuitState, Outcome, exponential_recovery


def test_each_opening_waits_longer_up_to_the_maximum():
    wait = exponential_recovery(1.0, factor=3.0, maximum=20.0, jitter=0)
    assert [wait(opens) for opens in (1, 2, 3, 4, 5)] == [1.0, 3.0, 9.0, 20.0, 20.0]
    assert wait(10_000) == 20.0


@given(st.integers(1, 2000))
def test_jitter_spreads_and_never_exceeds_the_maximum(opens):
    wait = exponential_recovery(2.0, jitter=0.25)
    plain = min(300.0, 2.0 * 2.0 ** min(opens - 1, 100))
    assert 0.75 * plain <= wait(opens) <= min(300.0, 1.25 * plain)


def test_jitter_differs():
    wait = exponential_recovery(10.0)
    assert len({wait(1) for _ in range(20)}) > 1


def test_equal_ones_are_the_same_option():
    assert exponential_recovery(1.0) == exponential_recovery(1.0)
    assert "base=1.0" in repr(exponential_recovery(1.0))


@pytest.mark.parametrize(
    "arguments",
    [
        {"base": 0},
        {"base": -1},
        {"base": 1, "factor": 0.5},
        {"base": 1, "maximum": 0},
        {"base": 1, "jitter": 1.5},
        {"base": "1"},
    ],
)
def test_numbers_that_cannot_work_are_refused(arguments):
    with pytest.raises(ConfigurationError, match="exponential_recovery"):
        exponential_recovery(arguments.pop("base"), **arguments)


def test_breaker_asks_how_long_at_each_opening_and_starts_anew_when_it_has_closed():
    clock, asked = FakeClock(), []

    def recovery(opens):
        asked.append(opens)
        return 2.0**opens

    breaker = CircuitBreaker(
        "dep", failure_threshold=1, success_threshold=1, recovery_timeout=recovery, clock=clock
    )
    assert asked == []
    for waits in (2.0, 4.0, 8.0):
        breaker.admit().settle(Outcome.FAILURE)
        assert breaker.remaining_timeout == waits
        clock.advance(waits)
    breaker.admit().settle(Outcome.SUCCESS)
    assert breaker.state is CircuitState.CLOSED
    breaker.admit().settle(Outcome.FAILURE)
    assert asked == [1, 2, 3, 1]


def test_forcing_open_asks_nothing():
    breaker = CircuitBreaker("dep", recovery_timeout=lambda _opens: 1 / 0)
    breaker.force_open()
    assert breaker.remaining_timeout is None


def test_zero_seconds_try_again_at_once():
    breaker = CircuitBreaker("dep", failure_threshold=1, success_threshold=1, recovery_timeout=0)
    breaker.admit().settle(Outcome.FAILURE)
    assert breaker.remaining_timeout == 0.0
    breaker.admit().settle(Outcome.SUCCESS)
    assert breaker.state is CircuitState.CLOSED
