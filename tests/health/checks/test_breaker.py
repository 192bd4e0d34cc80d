"""check_breaker with real breakers, in every state."""

import pytest

from flask_svc_infra import ConfigurationError
from flask_svc_infra.health import HealthRegistry, HealthStatus, check_breaker
from flask_svc_infra.resilience import CircuitBreaker

HEALTHY, DEGRADED = HealthStatus.HEALTHY, HealthStatus.DEGRADED


@pytest.fixture
def breaker():
    return CircuitBreaker("payments", failure_threshold=1)


def trip(breaker):
    with pytest.raises(LookupError), breaker:
        raise LookupError


def test_closed_circuit_is_healthy(breaker):
    check = check_breaker(breaker)
    result = check()
    assert (check.name, result.name, result.status, result.message) == ("payments", "payments", HEALTHY, None)
    assert result.details == {"state": "closed"}


def test_open_circuit_is_degraded_and_says_until_when(breaker):
    trip(breaker)
    result = check_breaker(breaker)()
    assert result.status is DEGRADED
    assert result.message.startswith("circuit 'payments' is open; a trial is let through in ")
    assert 0 < result.details["remaining_timeout"] <= 30


def test_half_open_circuit_is_degraded():
    breaker = CircuitBreaker("payments", failure_threshold=1, recovery_timeout=0.001, success_threshold=2)
    trip(breaker)
    import time

    time.sleep(0.01)
    with breaker:
        pass
    result = check_breaker(breaker)()
    assert (result.status, result.details["state"]) == (DEGRADED, "half_open")


def test_circuit_forced_open_gives_the_reason_and_keeps_its_secrets(breaker):
    breaker.force_open(reason="provider down, password=hunter22")
    result = check_breaker(breaker)()
    assert result.status is DEGRADED
    assert result.message == "circuit 'payments' was forced open: provider down, password=***"
    assert result.details == {"state": "open", "forced": "open"}


def test_disabled_circuit_is_healthy_and_says_so(breaker):
    breaker.disable(reason="load test")
    result = check_breaker(breaker)()
    assert (result.status, result.message) == (HEALTHY, "circuit 'payments' was disabled: load test")


def test_critical_open_circuit_leaves_the_service_ready(breaker):
    trip(breaker)
    registry = HealthRegistry()
    registry.add("payments", check_breaker(breaker))
    assert registry.check_all().status is DEGRADED


def test_what_is_no_breaker_is_refused():
    for given in (None, "payments", object()):
        with pytest.raises(ConfigurationError, match="no breaker"):
            check_breaker(given)
