"""add_observability: names, labels, what is counted, what is not, and that labels stay bounded."""

from __future__ import annotations

import gc
import importlib
import importlib.resources
import json
import re
import threading

import pytest
from contract._parts import (
    HEALTHY,
    UNHEALTHY,
    Boom,
    answers,
    bare_app,
    eventually,
    fail,
    registry_of,
    scrape,
    series,
    value,
)
from flask import Blueprint, Flask, Response, abort, redirect
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from flask_svc_infra.health import add_health_routes
from flask_svc_infra.obs import add_observability
from flask_svc_infra.ops import add_maintenance_mode, add_probes
from flask_svc_infra.resilience import CircuitBreaker

TOTAL = "http_requests_total"
COUNT = "http_request_duration_seconds_count"
SUM = "http_request_duration_seconds_sum"
BUCKET = "http_request_duration_seconds_bucket"
ACTIVE = "http_requests_in_progress"


def shop(**options) -> Flask:
    app = bare_app()
    app.add_url_rule("/", "home", lambda: "home")
    app.add_url_rule("/users/<int:user>", "user", lambda user: f"user {user}", methods=["GET", "POST"])

    @app.get("/boom")
    def boom():
        raise Boom

    @app.get("/teapot")
    def teapot():
        abort(418)

    add_observability(app, **options)
    return app


def requests(samples, **labels):
    return value(samples, TOTAL, **labels)


# --- names and labels ---------------------------------------------------------------------------------------


def test_requests_are_counted_by_method_rule_and_status():
    client = shop().test_client()
    for user in (1, 2, 3):
        client.get(f"/users/{user}")
    client.post("/users/9")
    samples = scrape(client)
    assert requests(samples, method="GET", path="/users/<int:user>", status="200") == 3
    assert requests(samples, method="POST", path="/users/<int:user>", status="200") == 1


def test_the_three_metrics_carry_exactly_the_documented_labels():
    client = shop().test_client()
    client.get("/")
    samples = scrape(client)
    assert {frozenset(s) for s in series(samples, TOTAL)} == {frozenset({"method", "path", "status"})}
    assert {frozenset(s) for s in series(samples, COUNT)} == {frozenset({"method", "path"})}
    assert {frozenset(s) for s in series(samples, BUCKET)} == {frozenset({"method", "path", "le"})}
    assert {frozenset(s) for s in series(samples, ACTIVE)} == {frozenset({"method"})}


def test_metric_types_are_the_documented_ones():
    text = shop().test_client().get("/metrics").get_data(as_text=True)
    assert "# TYPE http_requests_total counter" in text
    assert "# TYPE http_request_duration_seconds histogram" in text
    assert "# TYPE http_requests_in_progress gauge" in text
    assert "# TYPE circuit_breaker_state gauge" in text


def test_duration_is_observed_in_seconds():
    app = bare_app()
    release = threading.Event()
    app.add_url_rule("/slow", "slow", lambda: release.wait(0.05) or "slow")
    add_observability(app)
    client = app.test_client()
    client.get("/slow")
    samples = scrape(client)
    assert value(samples, COUNT, method="GET", path="/slow") == 1
    assert 0.05 <= value(samples, SUM, method="GET", path="/slow") < 1.0


def test_default_buckets_are_the_documented_ones():
    client = shop().test_client()
    client.get("/")
    bounds = [s["le"] for s in series(scrape(client), BUCKET) if s["path"] == "/"]
    assert [float(b) for b in sorted(bounds, key=float)] == [
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, float("inf"),
    ]  # fmt: skip


def test_buckets_are_a_setting():
    app = bare_app(SVC_INFRA_METRICS_BUCKETS="0.1,0.5")
    app.add_url_rule("/", "home", lambda: "home")
    add_observability(app)
    client = app.test_client()
    client.get("/")
    bounds = {float(s["le"]) for s in series(scrape(client), BUCKET) if s["path"] == "/"}
    assert bounds == {0.1, 0.5, float("inf")}


def test_exposition_is_prometheus_text_and_must_not_be_cached_by_a_probe_rule():
    response = shop().test_client().get("/metrics")
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain")


def test_metrics_path_is_settable_by_argument():
    client = shop(metrics_path="/internal/metrics").test_client()
    assert client.get("/internal/metrics").status_code == 200
    assert client.get("/metrics").status_code == 404


def test_metrics_path_is_settable_by_the_deployment():
    app = bare_app(SVC_INFRA_METRICS_PATH="/m")
    add_observability(app)
    assert app.test_client().get("/m").status_code == 200


def test_metrics_can_be_switched_off_by_the_deployment():
    app = bare_app(SVC_INFRA_METRICS_ENABLED="false")
    app.add_url_rule("/", "home", lambda: "home")
    assert callable(add_observability(app))
    client = app.test_client()
    assert client.get("/").status_code == 200
    assert client.get("/metrics").status_code == 404


# --- what is counted ----------------------------------------------------------------------------------------


def test_unhandled_exception_counts_as_500():
    client = shop().test_client()
    assert client.get("/boom").status_code == 500
    assert requests(scrape(client), method="GET", path="/boom", status="500") == 1


def test_propagated_exception_counts_as_500_and_is_no_longer_in_progress():
    app = shop()
    app.testing = True
    client = app.test_client()
    with pytest.raises(Boom):
        client.get("/boom")
    samples = scrape(client)
    assert requests(samples, method="GET", path="/boom", status="500") == 1
    assert value(samples, ACTIVE, method="GET") == 0


def test_aborts_and_their_codes_are_counted():
    client = shop().test_client()
    client.get("/teapot")
    assert requests(scrape(client), method="GET", path="/teapot", status="418") == 1


def test_head_and_options_are_counted_under_their_own_method():
    client = shop().test_client()
    client.head("/")
    client.options("/")
    samples = scrape(client)
    assert requests(samples, method="HEAD", path="/", status="200") == 1
    assert requests(samples, method="OPTIONS", path="/", status="200") == 1


def test_request_aborted_by_an_earlier_hook_is_counted_and_leaves_no_gauge_behind():
    app = bare_app()
    app.before_request(lambda: abort(401))
    app.add_url_rule("/", "home", lambda: "home")
    add_observability(app)
    client = app.test_client()
    for _ in range(3):
        client.get("/")
    samples = scrape(client)
    assert requests(samples, method="GET", path="/", status="401") == 3
    assert value(samples, ACTIVE, method="GET") == 0


def test_refusal_by_the_maintenance_gate_is_counted(monkeypatch):
    app = shop()
    add_maintenance_mode(app)
    monkeypatch.setenv("MAINTENANCE_MODE", "1")
    client = app.test_client()
    client.post("/users/1")
    assert requests(scrape(client), method="POST", path="/users/<int:user>", status="503") == 1


def test_stream_is_timed_to_its_end_and_active_meanwhile():
    app = bare_app()
    step = threading.Event()

    @app.get("/stream")
    def stream():
        def body():
            yield b"first"
            step.wait(3)
            yield b"last"

        return Response(body())

    add_observability(app)
    client = app.test_client()
    response = client.get("/stream", buffered=False)
    chunks = response.iter_encoded()
    assert next(chunks) == b"first"
    samples = scrape(app.test_client())
    assert requests(samples, method="GET", path="/stream", status="200") in (None, 0)
    assert value(samples, ACTIVE, method="GET") >= 1
    threading.Timer(0.05, step.set).start()
    assert list(chunks) == [b"last"]
    response.close()
    samples = scrape(app.test_client())
    assert requests(samples, method="GET", path="/stream", status="200") == 1
    assert value(samples, SUM, method="GET", path="/stream") >= 0.05


def test_stream_closed_early_by_the_client_is_still_counted():
    app = bare_app()
    app.add_url_rule("/stream", "stream", lambda: Response(b"x" for _ in range(10**6)))
    add_observability(app)
    client = app.test_client()
    response = client.get("/stream", buffered=False)
    next(response.iter_encoded())
    response.close()
    samples = scrape(client)
    assert requests(samples, method="GET", path="/stream", status="200") == 1
    assert value(samples, ACTIVE, method="GET") == 0


def test_in_progress_counts_requests_under_way():
    app = bare_app()
    inside, release = threading.Semaphore(0), threading.Event()

    @app.get("/wait")
    def wait():
        inside.release()
        release.wait(5)
        return "done"

    add_observability(app)
    before = value(scrape(app.test_client()), ACTIVE, method="GET") or 0
    threads = [threading.Thread(target=lambda: app.test_client().get("/wait")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert inside.acquire(timeout=5)
    during = value(scrape(app.test_client()), ACTIVE, method="GET")
    release.set()
    for thread in threads:
        thread.join(5)
    after = value(scrape(app.test_client()), ACTIVE, method="GET")
    assert (during - before, after - before) == (3, 0)


def test_probes_are_counted_under_their_rule_however_they_are_answered():
    app = shop()
    add_probes(app)
    add_health_routes(app, registry_of(db=HEALTHY, bad=UNHEALTHY))
    client = app.test_client()
    client.get("/_ops/live")
    client.get("/_health/ready")
    client.get("/_health/checks/db")
    client.get("/_health/checks/bad")
    client.get("/_health/checks/unknown")
    client.head("/_health/live")
    samples = scrape(client)
    assert requests(samples, method="GET", path="/_ops/live", status="200") == 1
    assert requests(samples, method="GET", path="/_health/ready", status="503") == 1
    for status in ("200", "503", "404"):
        assert requests(samples, method="GET", path="/_health/checks/<name>", status=status) == 1
    assert requests(samples, method="HEAD", path="/_health/live", status="200") == 1


def test_metrics_path_is_never_counted():
    client = shop().test_client()
    for _ in range(3):
        client.get("/metrics")
    samples = scrape(client)
    assert not [s for s in series(samples, TOTAL) if "metrics" in s["path"]]


def test_skipped_paths_are_not_counted_by_whole_segments():
    app = bare_app()
    app.add_url_rule("/<path:anything>", "any", lambda anything: anything)
    app.add_url_rule("/health", "health", lambda: "ok")
    app.add_url_rule("/health/deep", "deep", lambda: "ok")
    app.add_url_rule("/healthy", "healthy", lambda: "ok")
    add_observability(app, skip_metric_paths=["/health", "/_internal/"])
    client = app.test_client()
    for path in ("/health", "/health/deep", "/healthy", "/_internal/x", "/_internals"):
        assert client.get(path).status_code == 200
    samples = scrape(client)
    assert requests(samples, method="GET", path="/healthy", status="200") == 1
    assert requests(samples, method="GET", path="/<path:anything>", status="200") == 1
    for path in ("/health", "/health/deep"):
        assert not requests(samples, method="GET", path=path, status="200")
    assert not [s for s in series(samples, TOTAL) if "metrics" in s["path"]]


def test_blueprint_rules_are_counted_with_their_prefix():
    app = bare_app()
    bp = Blueprint("bp", __name__, url_prefix="/api")
    bp.add_url_rule("/items/<item>", "item", lambda item: item)
    add_observability(app)
    app.register_blueprint(bp)
    client = app.test_client()
    client.get("/api/items/7")
    assert requests(scrape(client), method="GET", path="/api/items/<item>", status="200") == 1


@pytest.mark.needs("asgiref")
def test_async_views_are_counted():
    app = bare_app()

    @app.get("/async")
    async def view():
        return "async"

    add_observability(app)
    client = app.test_client()
    client.get("/async")
    assert requests(scrape(client), method="GET", path="/async", status="200") == 1


def test_rule_is_the_apps_own_behind_a_script_name_mount():
    app = shop()
    client = Client(DispatcherMiddleware(Flask("root"), {"/shop": app}))
    client.get("/shop/users/1")
    samples = scrape(app.test_client())
    assert requests(samples, method="GET", path="/users/<int:user>", status="200") == 1


def test_redirects_by_a_view_keep_their_rule():
    app = bare_app()
    app.add_url_rule("/old", "old", lambda: redirect("/new"))
    add_observability(app)
    client = app.test_client()
    client.get("/old")
    assert requests(scrape(client), method="GET", path="/old", status="302") == 1


# --- bounded labels -----------------------------------------------------------------------------------------


def test_what_matches_no_rule_is_unmatched():
    app = shop()
    app.add_url_rule("/dir/", "dir", lambda: "dir")
    client = app.test_client()
    client.get("/nothing-here")
    client.delete("/users/1")
    client.get("/dir")
    samples = scrape(client)
    assert requests(samples, method="GET", path="<unmatched>", status="404") == 1
    assert requests(samples, method="DELETE", path="<unmatched>", status="405") == 1
    assert requests(samples, method="GET", path="<unmatched>", status="308") == 1


def test_hundreds_of_unknown_paths_and_methods_make_no_new_series_each():
    client = shop().test_client()
    client.get("/")
    before = len(scrape(client))
    for n in range(300):
        client.get(f"/random/{n}/{n * 7919}")
    for n in range(50):
        client.open("/", method=f"XMETHOD{n}")
    samples = scrape(client)
    labels = {(s["method"], s["path"]) for s in series(samples, TOTAL)}
    assert ("OTHER", "/") in labels or ("OTHER", "<unmatched>") in labels
    assert not [m for m, _ in labels if m.startswith("XMETHOD")]
    assert len(samples) - before < 60


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.text(max_size=40), method=st.text(min_size=1, max_size=8), host=st.text(max_size=20))
def test_hostile_paths_methods_and_hosts_leave_a_valid_exposition(hostile_client, path, method, host):
    environ = {
        "PATH_INFO": "/" + path.encode().decode("latin-1"),
        "REQUEST_METHOD": method.encode().decode("latin-1"),
        "HTTP_HOST": host.encode().decode("latin-1"),
    }
    hostile_client.open("/", environ_overrides=environ)
    samples = scrape(hostile_client)
    assert {s["path"] for s in series(samples, TOTAL)} <= {
        "/",
        "<unmatched>",
        "/users/<int:user>",
        "/boom",
        "/teapot",
    }
    assert {s["method"] for s in series(samples, TOTAL)} <= {
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "OTHER",
    }  # fmt: skip


@pytest.fixture
def hostile_client():
    return shop().test_client()


# --- series from birth --------------------------------------------------------------------------------------


def test_error_series_exist_before_the_first_error():
    app = shop()
    app.add_url_rule("/late", "late", lambda: "late", methods=["PUT"])
    samples = scrape(app.test_client())
    for method, path in [
        ("GET", "/"),
        ("GET", "/users/<int:user>"),
        ("POST", "/users/<int:user>"),
        ("PUT", "/late"),
    ]:
        for status in ("500", "503"):
            assert requests(samples, method=method, path=path, status=status) == 0, (method, path, status)
    for method in ("HEAD", "OPTIONS"):
        assert requests(samples, method=method, path="/", status="500") is None
    assert not [s for s in series(samples, TOTAL) if "static" in s["path"]]


# --- route classes ------------------------------------------------------------------------------------------


def documented_classifier(path: str, method: str) -> str:
    if path.startswith("/admin"):
        return "admin"
    if path.startswith("/api/internal"):
        return "internal"
    if path.startswith("/_"):
        return "system"
    return "public"


def classified(classifier=documented_classifier) -> Flask:
    app = bare_app()
    for rule in ("/", "/admin/<page>", "/api/internal/sync", "/orders/<int:n>"):
        app.add_url_rule(rule, rule.replace(".", ""), lambda **_: "ok", methods=["GET", "POST"])
    add_probes(app)
    add_observability(app, route_classifier=classifier)
    return app


def test_class_is_appended_to_the_rule_as_documented():
    client = classified().test_client()
    for path in ("/", "/admin/users", "/api/internal/sync", "/orders/7", "/_ops/live"):
        client.get(path)
    samples = scrape(client)
    for path in (
        "/|public",
        "/admin/<page>|admin",
        "/api/internal/sync|internal",
        "/orders/<int:n>|public",
        "/_ops/live|system",
    ):
        assert requests(samples, method="GET", path=path, status="200") == 1


def test_class_is_on_every_metric_that_has_a_path():
    client = classified().test_client()
    client.get("/orders/7")
    client.get("/nothing-here")
    samples = scrape(client)
    for name, labels in samples:
        path = dict(labels).get("path")
        if path is not None:
            assert "|" in path, (name, path)
    assert value(samples, COUNT, method="GET", path="/orders/<int:n>|public") == 1
    assert requests(samples, method="GET", path="<unmatched>|unmatched", status="404") == 1


def test_classifier_gets_the_rule_and_the_method_once_each():
    asked = []

    def classifier(path, method):
        asked.append((path, method))
        return "c"

    client = classified(classifier).test_client()
    for _ in range(5):
        client.get("/orders/7")
        client.get("/orders/8")
    client.post("/orders/7")
    scrape(client)
    assert asked.count(("/orders/<int:n>", "GET")) == 1
    assert asked.count(("/orders/<int:n>", "POST")) == 1
    assert all(rule.startswith("/") for rule, _ in asked)


@pytest.mark.parametrize(
    "classifier",
    [
        lambda path, method: 1 / 0,
        lambda path, method: None,
        lambda path, method: 7,
        lambda path, method: 'a"b\n\\',
    ],
    ids=["raises", "None", "int", "unprintable"],
)
def test_classifier_that_misbehaves_fails_no_request(classifier):
    client = classified(classifier).test_client()
    assert client.get("/orders/7").status_code == 200
    assert client.get("/_ops/live").status_code == 200
    samples = scrape(client)
    counted = [
        s for s in series(samples, TOTAL) if s["path"].startswith("/orders/<int:n>") and s["status"] == "200"
    ]
    assert len(counted) == 1


def test_bar_in_a_rule_does_not_confuse_the_exposition():
    app = bare_app()
    app.add_url_rule("/a|b/<x>", "bar", lambda x: x)
    add_observability(app, route_classifier=lambda path, method: "public")
    client = app.test_client()
    client.get("/a|b/1")
    assert requests(scrape(client), method="GET", path="/a|b/<x>|public", status="200") == 1


# --- circuits -----------------------------------------------------------------------------------------------


def circuit(samples, name):
    return {
        state: value(samples, "circuit_breaker_state", name=name, state=state)
        for state in ("closed", "open", "half_open")
    }


def test_every_state_of_every_breaker_is_exported():
    breaker = CircuitBreaker("metrics-payment", failure_threshold=1)
    client = shop().test_client()
    assert circuit(scrape(client), "metrics-payment") == {"closed": 1, "open": 0, "half_open": 0}
    fail(breaker)
    assert circuit(scrape(client), "metrics-payment") == {"closed": 0, "open": 1, "half_open": 0}


def test_half_open_is_exported():
    breaker = CircuitBreaker("metrics-half", failure_threshold=1, recovery_timeout=0.001)
    client = shop().test_client()
    fail(breaker)
    assert eventually(lambda: breaker.remaining_timeout == 0.0)
    with breaker:
        assert circuit(scrape(client), "metrics-half") == {"closed": 0, "open": 0, "half_open": 1}


def test_breaker_made_after_the_app_is_exported_too():
    client = shop().test_client()
    scrape(client)
    late = CircuitBreaker("metrics-late")
    assert circuit(scrape(client), "metrics-late")["closed"] == 1
    assert late.name == "metrics-late"


def test_of_two_breakers_with_one_name_the_worse_state_shows():
    good, bad = CircuitBreaker("metrics-twin"), CircuitBreaker("metrics-twin", failure_threshold=1)
    fail(bad)
    samples = scrape(shop().test_client())
    assert circuit(samples, "metrics-twin") == {"closed": 0, "open": 1, "half_open": 0}
    assert good.name == bad.name


def test_breaker_that_is_gone_is_exported_no_more():
    client = shop().test_client()
    breaker = CircuitBreaker("metrics-gone")
    assert circuit(scrape(client), "metrics-gone")["closed"] == 1
    del breaker
    gc.collect()
    assert circuit(scrape(client), "metrics-gone") == {"closed": None, "open": None, "half_open": None}


def test_breaker_of_a_hostile_name_is_exported_well():
    breaker = CircuitBreaker('quo"te\\back\nline')
    assert circuit(scrape(shop().test_client()), breaker.name)["closed"] == 1


# --- apps, undoing, reloading -------------------------------------------------------------------------------


def test_second_mount_under_one_path_is_refused():
    app = shop()
    with pytest.raises(RuntimeError, match="already mounted"):
        add_observability(app)
    client = app.test_client()
    client.get("/")
    assert requests(scrape(client), method="GET", path="/", status="200") == 1


def test_returned_callable_undoes_it():
    app = bare_app()
    app.add_url_rule("/", "home", lambda: "home")
    undo = add_observability(app)
    assert callable(undo)
    client = app.test_client()
    assert client.get("/metrics").status_code == 200
    undo()
    assert client.get("/metrics").status_code == 404
    assert client.get("/").get_data() == b"home"
    undo()


def test_observability_may_be_added_again_after_it_was_undone():
    app = bare_app()
    app.add_url_rule("/", "home", lambda: "home")
    add_observability(app)()
    add_observability(app)
    client = app.test_client()
    client.get("/")
    assert requests(scrape(client), method="GET", path="/", status="200") == 1


def test_two_apps_count_apart():
    one, two = shop(), shop()
    for _ in range(3):
        one.test_client().get("/")
    two.test_client().get("/")
    assert requests(scrape(one.test_client()), method="GET", path="/", status="200") == 3
    assert requests(scrape(two.test_client()), method="GET", path="/", status="200") == 1


def test_fifty_factories_do_not_clash():
    for _ in range(50):
        client = shop().test_client()
        client.get("/")
    assert requests(scrape(client), method="GET", path="/", status="200") == 1


def test_users_own_metrics_in_the_default_registry_do_not_clash():
    from prometheus_client import CollectorRegistry, Counter

    registry = CollectorRegistry()
    Counter("http_requests_total", "somebody else's", registry=registry)
    client = shop().test_client()
    client.get("/")
    assert requests(scrape(client), method="GET", path="/", status="200") == 1


def test_engine_pools_are_exported(tmp_path):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/shop.db")
    client = shop(db_engines=[engine]).test_client()
    text = client.get("/metrics").get_data(as_text=True)
    assert re.search(r"^db_pool_", text, re.MULTILINE)
    engine.dispose()


# --- the bundled files --------------------------------------------------------------------------------------


def bundled(*parts):
    return importlib.resources.files("flask_svc_infra").joinpath(*parts)


def dashboard():
    return json.loads(
        bundled("obs", "grafana", "dashboards", "http-overview.json").read_text(encoding="utf-8")
    )


def panels(model):
    for panel in model["panels"]:
        yield panel
        yield from panel.get("panels", [])


def test_dashboard_is_the_bare_model_with_the_documented_panels():
    model = dashboard()
    assert "dashboard" not in model
    assert model["title"]
    assert model["schemaVersion"]
    assert model.get("id") is None
    titles = [panel["title"] for panel in panels(model) if panel["type"] != "row"]
    for title in (
        "Success Rate (5m)",
        "P99 Latency",
        "Top Routes by 5xx",
        "Request Rate",
        "Active Connections",
    ):
        assert title in titles


def test_dashboard_asks_only_for_metrics_that_exist():
    client = shop().test_client()
    client.get("/")
    known = {name for name, _ in scrape(client)}
    for panel in panels(dashboard()):
        for target in panel.get("targets", []):
            named = set(re.findall(r"\b(?:http|circuit|health|maintenance)_[a-z_]+", target["expr"]))
            assert named, target["expr"]
            assert named <= known, named - known


def rules_text():
    folder = bundled("obs", "prometheus")
    texts = [f.read_text(encoding="utf-8") for f in folder.iterdir() if f.name.endswith((".yml", ".yaml"))]
    assert texts, "no alert rules file is bundled"
    return "\n".join(texts)


def alerts():
    yaml = pytest.importorskip("yaml")
    folder = bundled("obs", "prometheus")
    found = {}
    for file in folder.iterdir():
        if file.name.endswith((".yml", ".yaml")):
            for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
                found.update({rule["alert"]: rule for rule in group["rules"] if "alert" in rule})
    return found


def test_the_three_documented_alerts_are_bundled():
    found = alerts()
    assert {"HighErrorRate", "HighLatency", "CircuitBreakerOpen"} <= set(found)
    assert "http_requests_total" in found["HighErrorRate"]["expr"]
    assert "histogram_quantile(0.99" in found["HighLatency"]["expr"].replace(" ", "")
    names = ("HighErrorRate", "HighLatency", "CircuitBreakerOpen")
    assert [found[name]["for"] for name in names] == ["2m", "5m", "1m"]


def test_breaker_alert_fires_from_several_workers():
    expression = alerts()["CircuitBreakerOpen"]["expr"]
    assert 'circuit_breaker_state{state="open"}' in expression.replace(" ", "")
    assert "max" in expression


def test_error_budget_divides_by_the_budget():
    """Spent exactly (error ratio = 1 - objective), the remaining budget is 0, not 0.998."""
    text = rules_text() + bundled("obs", "grafana", "dashboards", "http-overview.json").read_text(
        encoding="utf-8"
    )
    assert "- 0.001\n" not in text
    assert not re.search(r"\)\s*-\s*0\.001", text)


# --- reloading ----------------------------------------------------------------------------------------------


def test_reloading_the_module_neither_duplicates_nor_breaks():
    import flask_svc_infra.obs as module

    before = shop()
    importlib.reload(module)
    after = bare_app()
    after.add_url_rule("/", "home", lambda: "home")
    module.add_observability(after)
    for app in (before, after):
        client = app.test_client()
        client.get("/")
        assert requests(scrape(client), method="GET", path="/", status="200") == 1


def test_health_checks_and_maintenance_are_measured():
    app = bare_app()
    registry = registry_of(db=HEALTHY)
    registry.add("cache", answers(UNHEALTHY), critical=False)
    add_health_routes(app, registry)
    add_maintenance_mode(app)
    add_observability(app)
    client = app.test_client()
    client.get("/_health/ready")
    names = {name for name, _ in scrape(client)}
    assert [n for n in names if n.startswith("health_")], sorted(names)
    assert [n for n in names if "maintenance" in n], sorted(names)


def test_counts_are_exact_under_threads():
    app = shop()
    start = threading.Barrier(4, timeout=5)

    def ask():
        client = app.test_client()
        start.wait()
        for n in range(150):
            client.get(f"/users/{n}")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    samples = scrape(app.test_client())
    assert requests(samples, method="GET", path="/users/<int:user>", status="200") == 600
    assert value(samples, COUNT, method="GET", path="/users/<int:user>") == 600
    assert value(samples, ACTIVE, method="GET") == 0


def test_request_object_left_by_an_outer_layer_changes_no_label():
    from werkzeug.wrappers import Request

    app = shop()
    add_probes(app)
    inner = app.wsgi_app

    def outer(environ, start_response):
        environ["werkzeug.request"] = Request(environ)
        return inner(environ, start_response)

    app.wsgi_app = outer
    client = app.test_client()
    client.get("/users/1")
    client.get("/_ops/live")
    samples = scrape(client)
    assert requests(samples, method="GET", path="/users/<int:user>", status="200") == 1
    assert requests(samples, method="GET", path="/_ops/live", status="200") == 1


def test_empty_and_torn_files_of_dead_workers_fail_no_scrape(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    app = shop()
    (tmp_path / "counter_999999.db").write_bytes(b"")
    (tmp_path / "histogram_999998.db").write_bytes(b"\xff\x07\x00\x00torn")
    client = app.test_client()
    client.get("/")
    assert requests(scrape(client), method="GET", path="/", status="200") == 1


def test_failing_hooks_of_the_app_are_counted_as_what_the_client_got():
    app = shop()

    @app.after_request
    def breaks(response):
        raise Boom

    client = app.test_client()
    assert client.get("/").status_code == 500
    samples = scrape(client)
    assert requests(samples, method="GET", path="/", status="500") == 1
    assert value(samples, ACTIVE, method="GET") == 0


def test_stream_that_breaks_half_way_counts_as_500():
    app = bare_app()

    @app.get("/stream")
    def stream():
        def body():
            yield b"x"
            raise Boom

        return Response(body())

    add_observability(app)
    with pytest.raises(Boom):
        list(app.test_client().get("/stream", buffered=False).iter_encoded())
    samples = scrape(app.test_client())
    assert requests(samples, method="GET", path="/stream", status="500") == 1
    assert value(samples, ACTIVE, method="GET") == 0


# --- outgoing requests, and the names of the documented library ---------------------------------------------


def test_outgoing_requests_are_counted_by_method_host_and_status_until_stopped(web):
    import requests as http

    from flask_svc_infra.obs import instrument_requests

    client = shop().test_client()

    def sent(status="200"):
        counted = value(
            scrape(client),
            "http_client_requests_total",
            method="GET",
            host=f"127.0.0.1:{web.port}",
            status=status,
        )
        return counted or 0

    before = sent()
    stops = [instrument_requests(), instrument_requests()]
    http.get(web.url, timeout=5)
    assert sent() == before + 1
    stops[0]()
    http.get(web.url, timeout=5)
    assert sent() == before + 2
    for stop in stops:
        stop()
    http.get(web.url, timeout=5)
    assert sent() == before + 2


def test_names_of_the_documented_library_are_shown_when_asked_for():
    client = shop(compat="svc-infra").test_client()
    client.get("/users/1")
    client.get("/boom")
    samples = scrape(client)
    labels = {"method": "GET", "route": "/users/<int:user>"}
    assert value(samples, "http_server_requests_total", code="200", **labels) == 1
    assert value(samples, "http_server_request_duration_seconds_count", **labels) == 1
    assert value(samples, "http_server_response_size_bytes_sum", **labels) == len("user 1")
    assert value(samples, "http_server_inflight_requests", route="/users/<int:user>") == 0
    assert value(samples, "http_server_exceptions_total", method="GET", route="/boom") == 1
    assert requests(samples, method="GET", path="/users/<int:user>", status="200") == 1


def test_names_of_the_documented_library_are_not_shown_otherwise():
    client = shop().test_client()
    client.get("/")
    assert not [name for name, _ in scrape(client) if name.startswith("http_server_")]
