"""Every documented name is where it is documented, with the documented parameters and defaults."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import importlib.metadata
import importlib.resources
import inspect
import os

import pytest
from contract._parts import run_python

from flask_svc_infra import aio, health, obs, ops, resilience

HEALTH_NAMES = [
    "AggregatedHealthResult",
    "HealthCheck",
    "HealthCheckFn",
    "HealthCheckResult",
    "HealthRegistry",
    "HealthStatus",
    "add_dependency_health",
    "add_health_routes",
    "add_startup_probe",
    "check_database",
    "check_redis",
    "check_tcp",
    "check_url",
]
RESILIENCE_NAMES = [
    "CircuitBreaker",
    "CircuitBreakerError",
    "CircuitBreakerStats",
    "CircuitState",
    "RetryConfig",
    "RetryExhaustedError",
    "retry_sync",
    "with_retry",
]
OPS_NAMES = [
    "add_circuit_error_handler",
    "add_maintenance_mode",
    "add_probes",
    "circuit_breaker_dependency",
    "circuit_gate",
]
REQUIRED = inspect.Parameter.empty


@pytest.mark.parametrize(
    ("module", "name"),
    [(health, n) for n in HEALTH_NAMES]
    + [(resilience, n) for n in RESILIENCE_NAMES]
    + [(ops, n) for n in OPS_NAMES]
    + [(obs, "add_observability")]
    + [(aio, n) for n in HEALTH_NAMES + RESILIENCE_NAMES],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_documented_name_is_exported(module, name):
    assert hasattr(module, name)
    assert name in module.__all__, f"{name} is missing from {module.__name__}.__all__"


def test_package_exports_extension_and_errors():
    package = importlib.import_module("flask_svc_infra")
    for name in [
        "SvcInfra",
        "CircuitBreakerError",
        "ConfigurationError",
        "MissingDriverError",
        "RetryExhaustedError",
    ]:
        assert getattr(package, name) is not None
        assert name in package.__all__
        assert name in dir(package)
    assert package.CircuitBreakerError is resilience.CircuitBreakerError
    assert package.RetryExhaustedError is resilience.RetryExhaustedError
    assert package.__version__ == importlib.metadata.version("flask-svc-infra")
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(package, "no_such_name")  # noqa: B009


# What may be passed positionally comes before the bar; the rest is keyword-only with its documented default.
SIGNATURES = {
    "health.add_health_routes": (
        ["app", "registry"],
        {"prefix": "/_health", "include_in_schema": False, "detailed_on_failure": True},
    ),
    "health.add_startup_probe": (["app", "checks"], {"timeout": 60.0, "interval": 2.0}),
    "health.add_dependency_health": (["app", "name", "check_fn"], {"critical": True}),
    "health.check_database": (["url"], {"timeout": None}),
    "health.check_redis": (["url"], {"timeout": None}),
    "health.check_url": (
        ["url"],
        {"method": "GET", "expected_status": 200, "timeout": None, "headers": None},
    ),
    "health.check_tcp": (["host", "port"], {"timeout": None}),
    "health.HealthRegistry.add": (["self", "name", "check_fn"], {"critical": True, "timeout": 5.0}),
    "health.HealthRegistry.remove": (["self", "name"], {}),
    "health.HealthRegistry.clear": (["self"], {}),
    "health.HealthRegistry.check_one": (["self", "name"], {}),
    "health.HealthRegistry.check_all": (["self"], {}),
    "health.HealthRegistry.wait_until_healthy": (
        ["self"],
        {"timeout": 60.0, "interval": 2.0, "check_names": None},
    ),
    "resilience.CircuitBreaker.reset": (["self"], {}),
    "resilience.exponential_recovery": (["base"], {"factor": 2.0, "maximum": 300.0, "jitter": 0.1}),
    "health.check_breaker": (["breaker"], {}),
    "ops.add_probes": (["app"], {"prefix": "/_ops", "include_in_schema": False}),
    "ops.add_maintenance_mode": (["app"], {"env_var": "MAINTENANCE_MODE", "exempt_prefixes": None}),
    "ops.add_circuit_error_handler": (["app"], {}),
    "ops.circuit_breaker_dependency": ([], {}),
    "obs.add_observability": (
        ["app"],
        {"db_engines": None, "metrics_path": None, "skip_metric_paths": None, "route_classifier": None},
    ),
}


def _find(path):
    module, *attributes = path.split(".")
    found = importlib.import_module(f"flask_svc_infra.{module}")
    for attribute in attributes:
        found = getattr(found, attribute)
    return found


@pytest.mark.parametrize("path", SIGNATURES)
def test_signature_is_the_documented_one(path):
    positional, keywords = SIGNATURES[path]
    parameters = inspect.signature(_find(path)).parameters
    for name in positional:
        assert name in parameters, f"{path} has no parameter {name}"
        assert parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert list(parameters)[: len(positional)] == positional
    for name, default in keywords.items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY, name
        assert parameters[name].default == default
        assert type(parameters[name].default) is type(default)
    for name, parameter in parameters.items():
        if name not in positional and name not in keywords:
            assert parameter.default is not REQUIRED or parameter.kind in (
                inspect.Parameter.VAR_KEYWORD,
                inspect.Parameter.VAR_POSITIONAL,
            ), f"{path} demands {name}, which is not documented"


def test_circuit_breaker_signature_and_defaults():
    parameters = inspect.signature(resilience.CircuitBreaker).parameters
    assert next(iter(parameters)) == "name"
    assert parameters["name"].default == "default"
    expected = {
        "failure_threshold": 5,
        "recovery_timeout": 30.0,
        "half_open_max_calls": 3,
        "success_threshold": 2,
        "failure_exceptions": (Exception,),
    }
    for name, default in expected.items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default == default


def test_extension_shows_a_switch_for_each_part_and_all_are_on():
    parameters = inspect.signature(importlib.import_module("flask_svc_infra").SvcInfra).parameters
    assert next(iter(parameters)) == "app"
    assert parameters["app"].default is None
    for part in ["probes", "health_routes", "maintenance_mode", "circuit_gate", "metrics"]:
        assert parameters[part].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[part].default is True


@pytest.mark.parametrize("decorator", ["with_retry", "retry_sync"])
@pytest.mark.parametrize("module", [resilience, aio], ids=["resilience", "aio"])
def test_retry_decorators_show_their_defaults(module, decorator):
    parameters = inspect.signature(getattr(module, decorator)).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    for name, default in {
        "max_attempts": 3,
        "base_delay": 0.1,
        "max_delay": 60.0,
        "exponential_base": 2.0,
        "jitter": 0.1,
        "retry_on": (Exception,),
        "on_retry": None,
    }.items():
        assert defaults[name] == default


def test_retry_config_fields_and_defaults():
    config = resilience.RetryConfig()
    assert (config.max_attempts, config.base_delay, config.max_delay) == (3, 0.1, 60.0)
    assert (config.exponential_base, config.jitter, config.retry_on) == (2.0, 0.1, (Exception,))
    assert dataclasses.is_dataclass(config)


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (health.HealthCheckResult, ["name", "status", "latency_ms", "message", "details"]),
        (health.AggregatedHealthResult, ["status", "checks", "message"]),
        (health.HealthCheck, ["name", "check_fn", "critical", "timeout"]),
        (
            resilience.CircuitBreakerStats,
            ["total_calls", "successful_calls", "failed_calls", "rejected_calls", "state_changes"],
        ),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_dataclass_carries_the_documented_fields_first(cls, fields):
    assert dataclasses.is_dataclass(cls)
    assert [field.name for field in dataclasses.fields(cls)][: len(fields)] == fields


def test_health_check_defaults_are_critical_and_five_seconds():
    check = health.HealthCheck(name="test", check_fn=lambda: True)
    assert check.critical is True
    assert check.timeout == 5.0


def test_health_status_values():
    assert issubclass(health.HealthStatus, enum.StrEnum)
    assert {s.name: s.value for s in health.HealthStatus} == {
        "HEALTHY": "healthy",
        "DEGRADED": "degraded",
        "UNHEALTHY": "unhealthy",
        "UNKNOWN": "unknown",
    }


def test_circuit_state_values():
    assert issubclass(resilience.CircuitState, enum.StrEnum)
    assert {s.name: s.value for s in resilience.CircuitState} == {
        "CLOSED": "closed",
        "OPEN": "open",
        "HALF_OPEN": "half_open",
    }


def test_circuit_breaker_error_signature():
    parameters = inspect.signature(resilience.CircuitBreakerError).parameters
    assert list(parameters)[:3] == ["name", "state", "remaining_timeout"]
    assert parameters["state"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["remaining_timeout"].default is None


def test_aio_shares_the_values_and_twins_the_verbs():
    for name in [
        "HealthStatus",
        "HealthCheckResult",
        "AggregatedHealthResult",
        "CircuitState",
        "CircuitBreakerError",
    ]:
        origin = health if hasattr(health, name) else resilience
        assert getattr(aio, name) is getattr(origin, name)
    for method in ["check_one", "check_all", "wait_until_healthy"]:
        assert inspect.iscoroutinefunction(getattr(aio.HealthRegistry, method)), method
        assert inspect.signature(getattr(aio.HealthRegistry, method)).parameters.keys() == (
            inspect.signature(getattr(health.HealthRegistry, method)).parameters.keys()
        )
    for method in ["add", "remove", "clear"]:
        assert not inspect.iscoroutinefunction(getattr(aio.HealthRegistry, method)), method


def test_public_callables_have_a_docstring():
    for module in (health, resilience, ops, obs, aio):
        for name in module.__all__:
            member = getattr(module, name)
            if inspect.isclass(member) or inspect.isfunction(member):
                assert inspect.getdoc(member), f"{module.__name__}.{name} has no docstring"


def test_package_is_typed():
    assert importlib.resources.files("flask_svc_infra").joinpath("py.typed").is_file()


def test_importing_the_package_imports_neither_flask_nor_a_driver():
    out = run_python("""
        import sys, flask_svc_infra
        print(sorted({"flask", "redis", "requests", "psycopg2", "prometheus_client"} & set(sys.modules)))
    """)
    assert out.strip() == "[]"


def test_importing_every_room_starts_no_thread_loads_no_driver_and_registers_no_metric():
    out = run_python("""
        import sys, threading, prometheus_client
        before = set(prometheus_client.REGISTRY._names_to_collectors)
        import flask_svc_infra
        from flask_svc_infra import SvcInfra, aio, health, obs, ops, resilience
        print(threading.active_count())
        print(sorted({"redis", "requests", "psycopg2", "prometheus_flask_exporter"} & set(sys.modules)))
        print(sorted(set(prometheus_client.REGISTRY._names_to_collectors) - before))
    """)
    assert out.split("\n")[:3] == ["1", "[]", "[]"]


def test_breaker_needs_neither_flask_nor_any_driver():
    run_python("""
        import sys
        for name in ("flask", "werkzeug", "prometheus_client", "redis", "requests", "psycopg2"):
            sys.modules[name] = None
        from flask_svc_infra.resilience import CircuitBreaker
        with CircuitBreaker("x"):
            pass
    """)


def test_import_reads_no_environment():
    env = {
        **os.environ,
        "SVC_INFRA_METRICS_PATH": "nonsense",
        "CIRCUIT_OPEN": "banana",
        "MAINTENANCE_MODE": "x",
    }
    run_python("from flask_svc_infra import SvcInfra, aio, health, obs, ops, resilience", env=env)


def test_console_script_and_flask_command_are_declared():
    points = importlib.metadata.distribution("flask-svc-infra").entry_points
    assert {p.name for p in points.select(group="flask.commands")} >= {"svc-infra"}
    assert {p.name for p in points.select(group="console_scripts")} >= {"flask-svc-infra-probe"}
    for point in points:
        assert callable(point.load())
