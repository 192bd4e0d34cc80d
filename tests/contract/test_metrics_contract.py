"""add_observability: names, what is counted, what is not."""

from __future__ import annotations

import threading

import pytest
from contract._metrics import ACTIVE, BUCKET, COUNT, SUM, TOTAL, requests, shop
from contract._parts import (
    HEALTHY,
    UNHEALTHY,
    Boom,
    bare_app,
    registry_of,
    scrape,
    series,
    value,
)
from flask import Blueprint, Flask, Response, abort, redirect
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from flask_svc_infra.health import add_health_routes
from flask_svc_infra.obs import add_observability
from flask_svc_infra.ops import add_maintenance_mode, add_probes

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
