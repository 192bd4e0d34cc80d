"""Circuits, pools and checks as metrics; several apps, undoing, reloading, torn files."""

from __future__ import annotations

import gc
import importlib
import importlib.resources
import re
import threading

import pytest
from contract._metrics import ACTIVE, COUNT, requests, shop
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
    value,
)
from flask import Response

from flask_svc_infra.health import add_health_routes
from flask_svc_infra.obs import add_observability
from flask_svc_infra.ops import add_maintenance_mode, add_probes
from flask_svc_infra.resilience import CircuitBreaker

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
