"""Whatever cannot work is refused at the boundary, in words, and changes nothing."""

from __future__ import annotations

import math

import pytest
from contract._parts import HEALTHY, answers, bare_app
from flask import Flask

from flask_svc_infra import SvcInfra
from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.health import (
    HealthRegistry,
    add_dependency_health,
    add_health_routes,
    add_startup_probe,
    check_database,
    check_redis,
    check_tcp,
    check_url,
)
from flask_svc_infra.obs import add_observability
from flask_svc_infra.ops import add_maintenance_mode, add_probes, circuit_gate
from flask_svc_infra.resilience import CircuitBreaker, RetryConfig, retry_sync, with_retry

NEVER_SECONDS = [-1, -0.001, math.nan, math.inf, "30", None, True, [1]]
NEVER_COUNTS = [0, -1, 1.5, "5", None, True, math.nan]
REFUSED = (ConfigurationError, TypeError)


def refused(call, *, names=None):
    """Call and expect a refusal; its message names the parameter."""
    with pytest.raises(REFUSED) as caught:
        call()
    if names is not None:
        assert names in str(caught.value), str(caught.value)
    return str(caught.value)


# --- breaker ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["failure_threshold", "half_open_max_calls", "success_threshold"])
@pytest.mark.parametrize("given", NEVER_COUNTS, ids=repr)
def test_breaker_refuses_impossible_counts(option, given):
    message = refused(lambda: CircuitBreaker("billing", **{option: given}), names=option)
    assert "billing" in message
    assert repr(given) in message


@pytest.mark.parametrize("given", [-1, math.nan, math.inf, "30", None, True], ids=repr)
def test_breaker_refuses_an_impossible_recovery_timeout(given):
    refused(lambda: CircuitBreaker("billing", recovery_timeout=given), names="recovery_timeout")


@pytest.mark.parametrize("given", [(int,), ("ValueError",), 5, None, (ValueError(),)], ids=repr)
def test_breaker_refuses_failure_exceptions_that_are_none(given):
    refused(lambda: CircuitBreaker("billing", failure_exceptions=given), names="failure_exceptions")


@pytest.mark.parametrize("given", ["", None, 7, b"x"], ids=repr)
def test_breaker_refuses_a_name_that_is_none(given):
    refused(lambda: CircuitBreaker(given), names="name")


def test_breaker_refuses_an_unknown_option():
    refused(lambda: CircuitBreaker("x", failure_treshold=3), names="failure_treshold")


def test_breaker_accepts_a_success_threshold_above_the_trial_limit():
    CircuitBreaker("x", half_open_max_calls=1, success_threshold=5)


@pytest.mark.parametrize("given", [None, "fetch", 42], ids=repr)
def test_protect_refuses_what_is_no_function(given):
    breaker = CircuitBreaker("x")
    with pytest.raises((TypeError, ConfigurationError)):
        breaker.protect(given)()


# --- retry --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [RetryConfig, with_retry, retry_sync], ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    ("option", "given"),
    [
        *[("max_attempts", given) for given in NEVER_COUNTS],
        *[("base_delay", given) for given in [-1, math.nan, "0.1", None]],
        *[("max_delay", given) for given in [-1, math.nan, "60", None]],
        *[("exponential_base", given) for given in [-2, math.nan, "2", None]],
        *[("jitter", given) for given in [-0.1, 1.1, math.nan, "0.1", None]],
        *[("retry_on", given) for given in [(int,), "ValueError", None, 5]],
    ],
    ids=repr,
)
def test_retry_refuses_impossible_options(make, option, given):
    refused(lambda: make(**{option: given}), names=option)


@pytest.mark.parametrize("decorator", [with_retry, retry_sync])
def test_retry_without_parentheses_is_an_error_not_a_broken_function(decorator):
    with pytest.raises(REFUSED):

        @decorator
        def fetch():
            return 1


@pytest.mark.parametrize("decorator", [with_retry, retry_sync])
def test_retry_refuses_a_callback_that_cannot_be_called(decorator):
    refused(lambda: decorator(on_retry="log it"), names="on_retry")


def test_sync_retry_refuses_a_coroutine_function():
    """It would retry nothing: the failure happens when the coroutine is awaited."""
    with pytest.raises(REFUSED):

        @retry_sync(max_attempts=3)
        async def fetch():
            return 1


# --- health -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["", None, 7, "a/b"], ids=repr)
def test_registry_refuses_a_name_that_can_have_no_route(given):
    registry = HealthRegistry()
    refused(lambda: registry.add(given, answers(HEALTHY)))
    assert list(registry.checks) == []


@pytest.mark.parametrize("given", [0, *NEVER_SECONDS], ids=repr)
def test_registry_refuses_an_impossible_timeout(given):
    registry = HealthRegistry()
    message = refused(lambda: registry.add("db", answers(HEALTHY), timeout=given), names="timeout")
    assert "db" in message
    assert list(registry.checks) == []


@pytest.mark.parametrize(
    "given", [None, True, "check_database", answers(HEALTHY)()], ids=lambda g: type(g).__name__
)
def test_registry_refuses_a_check_that_cannot_be_called(given):
    registry = HealthRegistry()
    refused(lambda: registry.add("db", given))
    assert list(registry.checks) == []


def test_duplicate_name_says_what_to_do():
    registry = HealthRegistry()
    registry.add("db", answers(HEALTHY))
    message = refused(lambda: registry.add("db", answers(HEALTHY)))
    assert "'db'" in message
    assert "already registered" in message


@pytest.mark.parametrize("given", NEVER_SECONDS, ids=repr)
def test_waiting_refuses_an_impossible_timeout(given):
    refused(lambda: HealthRegistry().wait_until_healthy(timeout=given), names="timeout")


@pytest.mark.parametrize("given", [-1, math.nan, "2", None], ids=repr)
def test_waiting_refuses_an_impossible_interval(given):
    refused(lambda: HealthRegistry().wait_until_healthy(interval=given), names="interval")


@pytest.mark.parametrize("factory", [check_database, check_redis, check_url])
@pytest.mark.parametrize("given", [5, b"postgresql://x", ["redis://x"]], ids=repr)
def test_factories_refuse_a_url_that_is_no_string(factory, given):
    refused(lambda: factory(given))


@pytest.mark.parametrize(
    "make",
    [
        lambda t: check_database("postgresql://u@h/d", timeout=t),
        lambda t: check_redis("redis://h", timeout=t),
        lambda t: check_url("http://h/", timeout=t),
        lambda t: check_tcp("h", 1, timeout=t),
    ],
    ids=["database", "redis", "url", "tcp"],
)
@pytest.mark.parametrize("given", [0, -1, math.nan, "5", True], ids=repr)
def test_factories_refuse_an_impossible_timeout(make, given):
    refused(lambda: make(given), names="timeout")


@pytest.mark.parametrize("given", [0, -1, 65536, "5672", None, 1.5, True], ids=repr)
def test_tcp_check_refuses_an_impossible_port(given):
    refused(lambda: check_tcp("rabbitmq", given), names="port")


@pytest.mark.parametrize("given", ["", None, 7], ids=repr)
def test_tcp_check_refuses_a_host_that_is_none(given):
    refused(lambda: check_tcp(given, 5672), names="host")


@pytest.mark.parametrize("given", [0, 99, 600, "200", None], ids=repr)
def test_url_check_refuses_an_impossible_status(given):
    refused(lambda: check_url("http://h/", expected_status=given), names="expected_status")


# --- mounting -----------------------------------------------------------------------------------------------


BAD_PATHS = ["ops", "/", "/ops/", "//ops", "/o ps", "/<x>", "/ops?x", None, 7]


@pytest.mark.parametrize("given", BAD_PATHS, ids=repr)
def test_mounting_refuses_an_impossible_prefix_and_mounts_nothing(given):
    app = Flask(__name__)
    before = {rule.rule for rule in app.url_map.iter_rules()}
    refused(lambda: add_probes(app, prefix=given), names="prefix")
    refused(lambda: add_health_routes(app, HealthRegistry(), prefix=given), names="prefix")
    assert {rule.rule for rule in app.url_map.iter_rules()} == before
    add_probes(app)
    add_health_routes(app, HealthRegistry())


@pytest.mark.parametrize("given", ["", *(path for path in BAD_PATHS if path is not None)], ids=repr)
def test_metrics_path_must_be_a_path(given):
    app = Flask(__name__)
    refused(lambda: add_observability(app, metrics_path=given), names="metrics_path")
    add_observability(app)
    assert app.test_client().get("/metrics").status_code == 200


@pytest.mark.parametrize("given", ["public", 7, {"a": 1}], ids=repr)
def test_classifier_must_be_callable(given):
    refused(lambda: add_observability(Flask(__name__), route_classifier=given), names="route_classifier")


@pytest.mark.parametrize("given", [["metrics"], [7], [""]], ids=repr)
def test_skipped_paths_must_be_paths(given):
    refused(lambda: add_observability(Flask(__name__), skip_metric_paths=given), names="skip_metric_paths")


@pytest.mark.parametrize("given", [["ops"], [""], [7]], ids=repr)
def test_exempt_prefixes_must_be_paths(given):
    refused(lambda: add_maintenance_mode(Flask(__name__), exempt_prefixes=given), names="exempt")


def test_one_string_of_exempt_prefixes_never_exempts_everything(monkeypatch):
    """A forgotten comma makes ("/_ops") a string; taken letter by letter it would hold "/": every path."""
    monkeypatch.setenv("MAINTENANCE_MODE", "1")
    app = Flask(__name__)
    try:
        add_maintenance_mode(app, exempt_prefixes="/_ops")
    except REFUSED:
        return
    client = app.test_client()
    assert client.post("/orders").status_code == 503
    assert client.post("/_ops/x").status_code == 404


@pytest.mark.parametrize("given", ["", None, 7, "A B", "A=B"], ids=repr)
def test_maintenance_variable_must_be_a_name(given):
    refused(lambda: add_maintenance_mode(Flask(__name__), env_var=given), names="env_var")


@pytest.mark.parametrize("given", [None, object(), "app"], ids=lambda g: type(g).__name__)
def test_what_is_no_app_is_refused_in_words(given):
    for mount in (
        lambda: add_probes(given),
        lambda: add_health_routes(given, HealthRegistry()),
        lambda: add_dependency_health(given, "db", answers(HEALTHY)),
        lambda: add_maintenance_mode(given),
        lambda: SvcInfra().init_app(given),
    ):
        message = refused(mount)
        assert "app" in message.lower()


def test_what_is_no_registry_is_refused():
    app = bare_app()
    refused(lambda: add_health_routes(app, {"db": True}), names="registry")
    add_health_routes(app, HealthRegistry())


@pytest.mark.parametrize("given", [None, 7, "database", [None], ["database"], {"db": 1}], ids=repr)
def test_startup_probe_refuses_what_are_no_checks(given):
    refused(lambda: add_startup_probe(bare_app(), given, timeout=0.1))


@pytest.mark.parametrize("given", [-1, math.nan, "60", None], ids=repr)
def test_startup_probe_refuses_an_impossible_timeout(given):
    refused(lambda: add_startup_probe(bare_app(), [answers(HEALTHY)], timeout=given), names="timeout")


def test_error_messages_are_value_errors_to_everyone_else():
    assert issubclass(ConfigurationError, ValueError)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("SVC_INFRA_METRIC_PATH", "SVC_INFRA_METRICS_PATH"),
        ("SVC_INFRA_HEALTHPREFIX", "SVC_INFRA_HEALTH_PREFIX"),
        ("SVC_INFRA_DRAIN_SECOND", "SVC_INFRA_DRAIN_SECONDS"),
    ],
)
def test_mistyped_setting_is_told_the_nearest_one(key, near):
    app = Flask(__name__)
    app.config[key] = "/x"
    with pytest.raises(ConfigurationError, match=near):
        SvcInfra(app)


def test_mistyped_setting_is_refused_by_the_single_functions_too():
    app = Flask(__name__)
    app.config["SVC_INFRA_METRIC_PATH"] = "/x"
    with pytest.raises(ConfigurationError):
        add_observability(app)


@pytest.mark.parametrize("where", ["/proc/no/such/place", "a file"])
def test_multiprocess_directory_that_cannot_be_made_is_named_with_the_cure(where, tmp_path, monkeypatch):
    if where == "a file":
        where = str(tmp_path / "file")
        (tmp_path / "file").write_text("")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", where)
    app = Flask(__name__)
    message = refused(lambda: SvcInfra(app), names="PROMETHEUS_MULTIPROC_DIR")
    assert "every worker" in message
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    SvcInfra(app)


@pytest.mark.parametrize("given", ["False", "no", 0, 1, None], ids=repr)
def test_word_for_a_flag_is_refused_because_it_would_count_as_true(given):
    """``detailed_on_failure=os.getenv("DETAILS")`` is "False", and true."""
    app, registry = bare_app(), HealthRegistry()
    refused(lambda: add_health_routes(app, registry, detailed_on_failure=given), names="detailed_on_failure")
    refused(lambda: add_health_routes(app, registry, include_in_schema=given), names="include_in_schema")
    refused(lambda: add_probes(app, include_in_schema=given), names="include_in_schema")
    refused(lambda: registry.add("db", answers(HEALTHY), critical=given), names="critical")
    refused(lambda: add_startup_probe(app, [answers(HEALTHY)], block=given), names="block")
    for part in ("probes", "health_routes", "maintenance_mode", "circuit_gate", "metrics"):
        refused(lambda part=part: SvcInfra(app, **{part: given}), names=part)
    SvcInfra(app)


@pytest.mark.parametrize("given", [None, "payments", 5], ids=repr)
def test_circuit_gate_wants_a_breaker(given):
    refused(lambda: circuit_gate(given), names="circuit_gate")


@pytest.mark.parametrize("host", ["db:5432", "http://db", "db/x", "[::1]", "a b"])
def test_host_with_a_port_or_a_scheme_is_refused(host):
    refused(lambda: check_tcp(host, 5432), names="host")


@pytest.mark.parametrize("host", ["::1", "fe80::1", "127.0.0.1", "db.internal", "db-0.db"])
def test_every_kind_of_host_is_taken(host):
    assert check_tcp(host, 5432).name == f"{host}:5432"


@pytest.mark.parametrize(
    "given", [["postgresql://u@h/d"], [None], [object()]], ids=lambda g: type(g[0]).__name__
)
def test_engines_must_have_a_pool(given):
    app = bare_app()
    refused(lambda: add_observability(app, db_engines=given), names="db_engines")
    add_observability(app)
