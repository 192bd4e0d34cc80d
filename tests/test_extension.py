"""SvcInfra: one object, working defaults, any number of apps, and no half-wired app."""

from __future__ import annotations

import gc
import importlib
import weakref

import pytest
from flask import Flask

import flask_svc_infra
from flask_svc_infra import SLO, ConfigurationError, SvcInfra
from flask_svc_infra.health import (
    HealthRegistry,
    HealthStatus,
    add_dependency_health,
    add_health_routes,
    add_startup_probe,
    check_tcp,
)
from flask_svc_infra.mounts import mounts_of
from flask_svc_infra.ops import (
    add_circuit_error_handler,
    add_circuit_gate,
    add_maintenance_mode,
    add_probes,
)
from flask_svc_infra.resilience import CircuitState

EVERY_PROBE = [
    "/_ops/live",
    "/_ops/ready",
    "/_ops/startup",
    "/_health/live",
    "/_health/ready",
    "/_health/startup",
]


def hello_app(**config):
    app = Flask("shop")
    app.config.update(config)

    @app.get("/hello")
    def hello():
        return "hello"

    @app.post("/orders")
    def order():
        return {"ordered": True}

    return app


def test_one_line_gives_every_part(monkeypatch):
    app = hello_app()
    SvcInfra(app)
    client = app.test_client()
    for path in EVERY_PROBE:
        assert client.get(path).status_code == 200, path
    assert client.get("/hello").data == b"hello"
    assert 'http_requests_total{method="GET",path="/hello",status="200"} 1.0' in client.get("/metrics").text
    monkeypatch.setenv("MAINTENANCE_MODE", "1")
    refused = client.post("/orders")
    assert (refused.status_code, refused.json) == (503, {"detail": "maintenance"})
    assert refused.headers["Retry-After"] == "60"
    monkeypatch.setenv("MAINTENANCE_MODE", "")
    monkeypatch.setenv("CIRCUIT_OPEN", "1")
    refused = client.get("/hello")
    assert (refused.status_code, refused.json) == (503, {"detail": "circuit open"})
    for path in [*EVERY_PROBE, "/metrics"]:
        assert client.get(path).status_code == 200, path


@pytest.mark.parametrize(
    ("part", "paths"),
    [
        ("probes", ["/_ops/live", "/_ops/ready", "/_ops/startup"]),
        ("health_routes", ["/_health/live", "/_health/ready", "/_health/startup"]),
        ("metrics", ["/metrics"]),
    ],
)
def test_a_part_that_is_switched_off_is_not_there_and_the_rest_is(part, paths):
    app = hello_app()
    SvcInfra(app, **{part: False})
    client = app.test_client()
    for path in [*EVERY_PROBE, "/metrics"]:
        assert client.get(path).status_code == (404 if path in paths else 200), path


@pytest.mark.parametrize(
    ("part", "variable"), [("maintenance_mode", "MAINTENANCE_MODE"), ("circuit_gate", "CIRCUIT_OPEN")]
)
def test_a_gate_that_is_switched_off_lets_everything_pass(monkeypatch, part, variable):
    app = hello_app()
    SvcInfra(app, **{part: False})
    monkeypatch.setenv(variable, "1")
    assert app.test_client().post("/orders").status_code == 200


def test_metrics_can_be_switched_off_by_the_deployment():
    app = hello_app(SVC_INFRA_METRICS_ENABLED="off")
    SvcInfra(app)
    assert app.test_client().get("/metrics").status_code == 404


def test_authorize_decides_who_may_scrape_and_touches_no_probe():
    asked = []

    def may_operate(request, action):
        asked.append(action)
        return request.headers.get("X-Key") == "letmein"

    app = hello_app()
    SvcInfra(app, authorize=may_operate)
    client = app.test_client()
    assert client.get("/metrics").status_code == 403
    assert client.get("/metrics", headers={"X-Key": "letmein"}).status_code == 200
    assert client.get("/_health/ready").status_code == 200
    assert asked == ["metrics", "metrics"]


def test_the_deployment_moves_the_paths():
    app = hello_app(
        SVC_INFRA_HEALTH_PREFIX="/status",
        SVC_INFRA_OPS_PREFIX="/internal",
        SVC_INFRA_METRICS_PATH="/internal/m",
    )
    SvcInfra(app)
    client = app.test_client()
    for path in ["/status/ready", "/internal/live", "/internal/m"]:
        assert client.get(path).status_code == 200, path
    for path in [*EVERY_PROBE, "/metrics"]:
        assert client.get(path).status_code == 404, path


def test_checks_of_the_object_are_served():
    infra = SvcInfra()
    infra.health.add("database", lambda: HealthStatus.UNHEALTHY)
    app = hello_app()
    infra.init_app(app)
    answer = app.test_client().get("/_health/ready")
    assert answer.status_code == 503
    assert answer.json["checks"][0]["name"] == "database"


def test_a_check_added_after_the_app_was_made_is_served():
    infra = SvcInfra()
    app = hello_app()
    infra.init_app(app)
    infra.health.add("late", lambda: True)
    assert app.test_client().get("/_health/checks/late").status_code == 200


def test_twice_on_one_app_is_an_error_with_the_cure_and_loses_nothing():
    app = hello_app()
    infra = SvcInfra(app)
    with pytest.raises(RuntimeError, match=r"already mounted.*Call init_app once per app"):
        infra.init_app(app)
    with pytest.raises(RuntimeError, match="Call init_app once per app"):
        SvcInfra(app)
    assert app.test_client().get("/_health/ready").status_code == 200


@pytest.mark.parametrize(
    "config",
    [{"SVC_INFRA_METRICS_PATH": "metrics"}, {"SVC_INFRA_TYPO": 1}, {"SVC_INFRA_OPS_PREFIX": "/_health"}],
)
def test_a_bad_setting_mounts_nothing(config):
    app = hello_app(**config)
    rules, wsgi = {rule.rule for rule in app.url_map.iter_rules()}, app.wsgi_app
    with pytest.raises(ConfigurationError, match="nothing was mounted"):
        SvcInfra(app)
    assert {rule.rule for rule in app.url_map.iter_rules()} == rules
    assert app.wsgi_app == wsgi
    assert not app.before_request_funcs


def test_a_corrected_setting_can_be_tried_again_on_the_same_app():
    app = hello_app(SVC_INFRA_METRICS_PATH="metrics")
    with pytest.raises(ConfigurationError):
        SvcInfra(app)
    app.config["SVC_INFRA_METRICS_PATH"] = "/metrics"
    SvcInfra(app)
    assert app.test_client().get("/metrics").status_code == 200


MOUNTING = {
    "SvcInfra": SvcInfra,
    "probes": add_probes,
    "health routes": lambda app: add_health_routes(app, HealthRegistry()),
    "dependency": lambda app: add_dependency_health(app, "db", lambda: True),
    "startup gate": lambda app: add_startup_probe(app, [lambda: True], block=False),
    "maintenance": add_maintenance_mode,
    "circuit gate": add_circuit_gate,
    "error handler": add_circuit_error_handler,
}


@pytest.mark.parametrize("mount", MOUNTING.values(), ids=MOUNTING)
def test_an_app_that_has_served_is_refused_with_the_cure_before_anything_is_mounted(mount):
    app = hello_app()
    app.test_client().get("/hello")
    with pytest.raises(RuntimeError, match=r"has served its first request; nothing was changed\. Mount it"):
        mount(app)
    assert app.test_client().get("/hello").status_code == 200
    assert app.blueprints == {}
    assert mounts_of(app).probes == {}
    mount(hello_app())


def test_several_apps_share_checks_and_breakers_and_nothing_else():
    infra = SvcInfra()
    infra.health.add("shared", lambda: True)
    one, other = hello_app(), hello_app(SVC_INFRA_METRICS_PATH="/m")
    infra.init_app(one)
    infra.init_app(other)
    one.test_client().get("/hello")
    assert 'path="/hello",status="200"} 1.0' in one.test_client().get("/metrics").text
    assert 'path="/hello",status="200"' not in other.test_client().get("/m").text
    for app in (one, other):
        assert app.test_client().get("/_health/ready").json["checks"][0]["name"] == "shared"


def test_fifty_factory_calls_make_fifty_working_apps():
    infra = SvcInfra()
    for _ in range(50):
        app = hello_app()
        infra.init_app(app)
        client = app.test_client()
        client.get("/hello")
        assert (
            'http_requests_total{method="GET",path="/hello",status="200"} 1.0' in client.get("/metrics").text
        )


def test_the_object_keeps_no_app():
    infra = SvcInfra()
    app = hello_app()
    infra.init_app(app)
    app.test_client().get("/hello")
    gone = weakref.ref(app)
    del app
    gc.collect()
    assert gone() is None


def test_its_repr_names_what_it_holds_and_no_secret():
    assert repr(SvcInfra()) == "<SvcInfra checks=[] breakers=[] slos=[]>"
    infra = SvcInfra(slos=[SLO("availability", objective=0.999)])
    infra.health.add("database", check_tcp("db", 5432))
    infra.breaker("payments")
    infra.init_app(hello_app(SVC_INFRA_MAINTENANCE_BYPASS_TOKEN="hunter2-hunter2-hunter2"))
    assert repr(infra) == "<SvcInfra checks=['database'] breakers=['payments'] slos=['availability']>"


def test_a_breaker_is_made_once_and_then_found():
    infra = SvcInfra()
    payments = infra.breaker("payments", failure_threshold=2)
    assert infra.breaker("payments", failure_threshold=2) is payments
    assert infra.breaker("payments") is payments
    assert payments.state is CircuitState.CLOSED
    with pytest.raises(ConfigurationError, match="payments"):
        infra.breaker("payments", failure_threshold=3)


def test_an_unhandled_rejection_is_a_503_with_retry_after():
    infra = SvcInfra()
    payments = infra.breaker("payments", failure_threshold=1, recovery_timeout=30.0)
    app = hello_app()
    infra.init_app(app)

    @app.get("/pay")
    def pay():
        with payments:
            raise ConnectionError("payment API is down")

    client = app.test_client()
    assert client.get("/pay").status_code == 500
    refused = client.get("/pay")
    assert refused.status_code == 503
    assert 1 <= int(refused.headers["Retry-After"]) <= 30


def test_a_mounted_script_name_changes_nothing():
    app = hello_app()
    SvcInfra(app)
    client = app.test_client()
    for path in [*EVERY_PROBE, "/metrics", "/hello"]:
        assert client.get(path, environ_overrides={"SCRIPT_NAME": "/shop"}).status_code == 200, path


def test_reloading_the_package_leaves_running_apps_alone():
    app = hello_app()
    SvcInfra(app)
    importlib.reload(flask_svc_infra)
    assert app.test_client().get("/_health/ready").status_code == 200
