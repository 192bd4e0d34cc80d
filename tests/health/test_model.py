"""The words of health, as the documentation spells them."""

import inspect

import pytest

from flask_svc_infra import ConfigurationError
from flask_svc_infra.health import (
    AggregatedHealthResult,
    HealthCheck,
    HealthCheckResult,
    HealthRegistry,
    HealthStatus,
)


def healthy():
    return True


@pytest.mark.parametrize("word", ["healthy", "degraded", "unhealthy", "unknown"])
def test_status_is_its_word(word):
    assert HealthStatus(word) == word
    assert str(HealthStatus(word)) == word


def test_result_without_message_and_details_publishes_neither():
    result = HealthCheckResult(name="test", status=HealthStatus.HEALTHY, latency_ms=5.555)
    assert result.message is None
    assert result.details is None
    body = result.to_dict()
    assert set(body) == {"name", "status", "latency_ms"}
    assert 5.55 <= body["latency_ms"] <= 5.56


def test_result_publishes_message_and_details():
    result = HealthCheckResult("test", HealthStatus.UNHEALTHY, 100.0, "Error", {"code": 500})
    assert result.to_dict() == {
        "name": "test",
        "status": "unhealthy",
        "latency_ms": 100.0,
        "message": "Error",
        "details": {"code": 500},
    }


def test_aggregate_publishes_message_only_when_there_is_one():
    assert AggregatedHealthResult(status=HealthStatus.HEALTHY, checks=[]).to_dict() == {
        "status": "healthy",
        "checks": [],
    }
    whole = AggregatedHealthResult(HealthStatus.HEALTHY, [], "All systems operational")
    assert whole.to_dict()["message"] == "All systems operational"


def test_check_defaults_are_the_documented_ones():
    check = HealthCheck(name="test", check_fn=healthy)
    assert check.critical is True
    assert check.timeout == 5.0


def test_registry_signatures_are_the_documented_ones():
    add = inspect.signature(HealthRegistry.add).parameters
    assert add["critical"].default is True
    assert add["timeout"].default == 5.0
    wait = inspect.signature(HealthRegistry.wait_until_healthy).parameters
    assert {name: wait[name].default for name in ("timeout", "interval", "check_names")} == {
        "timeout": 60.0,
        "interval": 2.0,
        "check_names": None,
    }


@pytest.mark.parametrize("name", ["", "  ", None, 7, "a/b", "line\nbreak"])
def test_name_that_cannot_be_a_path_segment_is_refused(name):
    with pytest.raises(ConfigurationError, match="name is"):
        HealthCheck(name, healthy)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", None, True])
def test_timeout_that_is_no_span_of_time_is_refused(timeout):
    with pytest.raises(ValueError, match=r"'db' has timeout=.*nothing was changed"):
        HealthRegistry().add("db", healthy, timeout=timeout)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("interval", 0),
        ("interval", -1),
        ("failures_before_unhealthy", 0),
        ("successes_before_healthy", 1.5),
        ("successes_before_healthy", True),
        ("groups", "ready"),
        ("groups", ("a/b",)),
    ],
)
def test_option_that_cannot_work_is_refused_and_registers_nothing(option, value):
    registry = HealthRegistry()
    with pytest.raises(ConfigurationError, match=option.rstrip("s")):
        registry.add("db", healthy, **{option: value})
    assert registry.checks == []
