"""SvcInfra: everything mounted by one line, nothing mounted twice, factories and several apps."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from wsgiref.validate import validator

import pytest
from contract._parts import (
    HEALTHY,
    UNHEALTHY,
    answers,
    bare_app,
    eventually,
    fail,
    run_python,
    scrape,
    value,
)
from flask import Blueprint, Flask, Response, abort, send_file
from werkzeug.test import EnvironBuilder

from flask_svc_infra import SvcInfra
from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.health import HealthRegistry, add_dependency_health, add_health_routes
from flask_svc_infra.obs import add_observability
from flask_svc_infra.ops import add_maintenance_mode, add_probes
from flask_svc_infra.resilience import CircuitBreakerError

EVERYTHING = [
    "/_ops/live",
    "/_ops/ready",
    "/_ops/startup",
    "/_health/live",
    "/_health/ready",
    "/_health/startup",
    "/metrics",
]


@pytest.fixture(autouse=True)
def _no_switches(monkeypatch):
    monkeypatch.delenv("MAINTENANCE_MODE", raising=False)
    monkeypatch.delenv("CIRCUIT_OPEN", raising=False)


def test_one_line_mounts_everything_without_configuration():
    app = Flask(__name__)
    SvcInfra(app)
    client = app.test_client()
    assert [client.get(path).status_code for path in EVERYTHING] == [200] * len(EVERYTHING)


def test_factory_pattern_mounts_the_same():
    infra = SvcInfra()
    app = Flask(__name__)
    infra.init_app(app)
    client = app.test_client()
    assert [client.get(path).status_code for path in EVERYTHING] == [200] * len(EVERYTHING)


def test_registry_of_the_extension_is_the_one_served():
    infra = SvcInfra()
    assert isinstance(infra.health, HealthRegistry)
    infra.health.add("db", answers(UNHEALTHY))
    app = bare_app()
    infra.init_app(app)
    infra.health.add("late", answers(HEALTHY))
    response = app.test_client().get("/_health/ready")
    assert response.status_code == 503
    assert [c["name"] for c in response.json["checks"]] == ["db", "late"]


def test_dependency_health_joins_the_extensions_registry():
    app = bare_app()
    infra = SvcInfra(app)
    add_dependency_health(app, "db", answers(HEALTHY))
    assert [c.name for c in infra.health.checks] == ["db"]


def test_init_app_twice_on_one_app_is_a_runtime_error_and_the_first_goes_on():
    app = Flask(__name__)
    infra = SvcInfra(app)
    with pytest.raises(RuntimeError):
        infra.init_app(app)
    with pytest.raises(RuntimeError):
        SvcInfra(app)
    client = app.test_client()
    client.get("/_ops/live")
    assert value(scrape(client), "http_requests_total", method="GET", path="/_ops/live", status="200") == 1


def test_two_apps_share_one_extension():
    infra = SvcInfra()
    infra.health.add("db", answers(HEALTHY))
    apps = [bare_app(), bare_app(SVC_INFRA_METRICS_PATH="/m")]
    for app in apps:
        infra.init_app(app)
    assert apps[0].test_client().get("/metrics").status_code == 200
    assert apps[1].test_client().get("/m").status_code == 200
    assert apps[1].test_client().get("/_health/ready").status_code == 200
    apps[0].test_client().get("/_ops/live")
    assert not value(
        scrape(apps[1].test_client(), "/m"),
        "http_requests_total",
        method="GET",
        path="/_ops/live",
        status="200",
    )


def test_fifty_calls_of_a_factory_are_fifty_apps():
    infra = SvcInfra()

    def create_app():
        app = Flask("factory")
        infra.init_app(app)
        return app

    apps = [create_app() for _ in range(50)]
    client = apps[-1].test_client()
    assert [client.get(path).status_code for path in EVERYTHING] == [200] * len(EVERYTHING)


def test_extension_keeps_no_app_alive():
    import gc
    import weakref

    infra = SvcInfra()
    app = Flask("short-lived")
    infra.init_app(app)
    app.test_client().get("/metrics")
    gone = weakref.ref(app)
    del app
    gc.collect()
    assert gone() is None


def test_mounting_by_hand_what_the_extension_mounts_is_refused():
    app = bare_app()
    SvcInfra(app)
    for mount in (
        lambda: add_probes(app),
        lambda: add_health_routes(app, HealthRegistry()),
        lambda: add_observability(app),
        lambda: add_maintenance_mode(app),
    ):
        with pytest.raises(RuntimeError):
            mount()


# --- settings -----------------------------------------------------------------------------------------------


def test_prefixes_and_paths_come_from_the_settings():
    app = bare_app(SVC_INFRA_HEALTH_PREFIX="/h", SVC_INFRA_OPS_PREFIX="/o", SVC_INFRA_METRICS_PATH="/m")
    SvcInfra(app)
    client = app.test_client()
    assert [client.get(p).status_code for p in ("/h/ready", "/o/live", "/m")] == [200, 200, 200]
    assert [client.get(p).status_code for p in ("/_health/ready", "/_ops/live", "/metrics")] == [
        404,
        404,
        404,
    ]


def test_settings_come_from_prefixed_environment_variables(monkeypatch):
    monkeypatch.setenv("FLASK_SVC_INFRA_METRICS_PATH", "/from-env")
    monkeypatch.setenv("FLASK_SVC_INFRA_DETAILED_ON_FAILURE", "False")
    app = Flask(__name__)
    app.config.from_prefixed_env()
    infra = SvcInfra(app)
    infra.health.add("db", answers(UNHEALTHY))
    client = app.test_client()
    assert client.get("/from-env").status_code == 200
    assert client.get("/_health/ready").json == {"status": "unhealthy"}


def test_metrics_can_be_switched_off():
    app = bare_app(SVC_INFRA_METRICS_ENABLED=False)
    SvcInfra(app)
    client = app.test_client()
    assert client.get("/metrics").status_code == 404
    assert client.get("/_health/ready").status_code == 200


@pytest.mark.parametrize(
    ("key", "value_"),
    [
        ("SVC_INFRA_METRICS_PATH", "metrics"),
        ("SVC_INFRA_METRICS_PTAH", "/metrics"),
        ("SVC_INFRA_HEALTH_PREFIX", "/"),
        ("SVC_INFRA_METRICS_ENABLED", "perhaps"),
        ("SVC_INFRA_METRICS_BUCKETS", "5,1"),
        ("SVC_INFRA_HEALTH_CACHE_TTL", "-1"),
        ("SVC_INFRA_MAINTENANCE_RETRY_AFTER", "soon"),
        ("SVC_INFRA", {"METRICS_PATH": "/m"}),
    ],
)
def test_bad_setting_names_the_key_and_leaves_the_app_untouched(key, value_):
    app = Flask(__name__)
    app.config[key] = value_
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    entry = app.wsgi_app
    with pytest.raises(ConfigurationError) as caught:
        SvcInfra(app)
    assert key in str(caught.value)
    assert {rule.rule for rule in app.url_map.iter_rules()} == rules
    assert app.wsgi_app == entry
    del app.config[key]
    SvcInfra(app)
    assert app.test_client().get("/_ops/live").status_code == 200


# --- gates --------------------------------------------------------------------------------------------------


def test_circuit_open_shuts_the_whole_app_but_probes_and_metrics(monkeypatch):
    app = bare_app()
    app.add_url_rule("/", "home", lambda: "home")
    bp = Blueprint("bp", __name__)
    bp.add_url_rule("/bp", "view", lambda: "bp")
    app.register_blueprint(bp)
    SvcInfra(app)
    client = app.test_client()
    assert client.get("/").status_code == 200
    monkeypatch.setenv("CIRCUIT_OPEN", "1")
    for path in ("/", "/bp", "/unknown"):
        response = client.get(path)
        assert (response.status_code, response.json) == (503, {"detail": "circuit open"}), path
    assert [client.get(path).status_code for path in EVERYTHING] == [200] * len(EVERYTHING)


def test_unhandled_circuit_error_becomes_503_with_retry_after():
    app = bare_app()
    infra = SvcInfra(app)
    payments = infra.breaker("payments", failure_threshold=1, recovery_timeout=30.0)

    @app.get("/pay")
    def pay():
        with payments:
            return "paid"

    fail(payments)
    response = app.test_client().get("/pay")
    assert response.status_code == 503
    assert 1 <= int(response.headers["Retry-After"]) <= 30


def test_users_own_handler_for_the_circuit_error_wins():
    app = bare_app()
    app.register_error_handler(CircuitBreakerError, lambda error: (f"{error.name} is resting", 418))
    infra = SvcInfra(app)
    payments = infra.breaker("payments-own", failure_threshold=1)
    app.add_url_rule("/", "pay", payments.protect(lambda: "paid"))
    fail(payments)
    response = app.test_client().get("/")
    assert (response.status_code, response.get_data(as_text=True)) == (418, "payments-own is resting")


def test_apps_own_hooks_run_as_before():
    app = bare_app()
    order = []
    app.before_request(lambda: order.append("before"))
    app.after_request(lambda response: order.append("after") or response)
    app.teardown_request(lambda error: order.append("teardown"))
    app.add_url_rule("/", "home", lambda: order.append("view") or "home")
    SvcInfra(app)
    app.test_client().get("/")
    assert order == ["before", "view", "after", "teardown"]


def test_login_wall_of_the_app_fails_no_probe_and_no_scrape():
    app = bare_app()
    app.before_request(lambda: abort(401))
    SvcInfra(app)
    client = app.test_client()
    assert [client.get(p).status_code for p in EVERYTHING[:-1]] == [200] * (len(EVERYTHING) - 1)


# --- named breakers -----------------------------------------------------------------------------------------


def test_breaker_is_got_or_created_by_name():
    infra = SvcInfra()
    one = infra.breaker("payments", failure_threshold=5)
    assert infra.breaker("payments", failure_threshold=5) is one
    assert infra.breaker("payments") is one
    assert infra.breaker("stock") is not one
    assert {b.name for b in infra.breakers} == {"payments", "stock"} or set(infra.breakers) == {
        "payments",
        "stock",
    }


def test_same_name_with_other_options_is_an_error_that_shows_both():
    infra = SvcInfra()
    infra.breaker("payments", failure_threshold=5)
    with pytest.raises(ConfigurationError) as caught:
        infra.breaker("payments", failure_threshold=7)
    assert "5" in str(caught.value)
    assert "7" in str(caught.value)
    assert "payments" in str(caught.value)


def test_named_breaker_is_exported_as_a_metric():
    app = bare_app()
    infra = SvcInfra(app)
    breaker = infra.breaker("named-and-exported", failure_threshold=1)
    fail(breaker)
    samples = scrape(app.test_client())
    assert value(samples, "circuit_breaker_state", name="named-and-exported", state="open") == 1


# --- running for real ---------------------------------------------------------------------------------------


def test_app_runs_under_flask_run_and_gunicorn_as_one_module(tmp_path, gunicorn):
    server = gunicorn(
        source="""
            from flask import Flask
            from flask_svc_infra import SvcInfra

            app = Flask(__name__)
            infra = SvcInfra(app)
            infra.health.add("always", lambda: True)

            @app.get("/")
            def home():
                return "home"
        """,
        workers=2,
        env={"MAINTENANCE_MODE": "1"},
    )
    server.wait_ready("/_health/ready")
    from support.web import request

    assert request(server.url + "/").text == "home"
    refused = request(server.url + "/", "POST", body="x")
    assert (refused.status, refused.json()) == (503, {"detail": "maintenance"})
    assert refused.headers["Retry-After"] == "60"
    assert request(server.url + "/_health/ready").json()["checks"][0]["name"] == "always"
    metrics = request(server.url + "/metrics").text
    assert "http_requests_total" in metrics


def test_scrape_of_one_worker_shows_what_all_workers_did(gunicorn):
    from support.web import request

    server = gunicorn(
        source="""
            import os, time
            from flask import Flask
            from flask_svc_infra import SvcInfra

            app = Flask(__name__)
            infra = SvcInfra(app)
            pay = infra.breaker("pay", failure_threshold=1)

            @app.get("/worker")
            def worker():
                time.sleep(0.02)  # so that the other one gets the next
                return str(os.getpid())

            @app.get("/break")
            def break_():
                with pay:
                    raise ValueError
        """,
        workers=2,
        conf="python:flask_svc_infra.gunicorn",
    )
    server.wait_ready("/_health/ready")
    with ThreadPoolExecutor(4) as pool:
        answered = list(pool.map(lambda _: request(server.url + "/worker").text, range(40)))
    assert len(set(answered)) == 2
    assert request(server.url + "/break").status == 500

    def lines():
        return request(server.url + "/metrics").text.split("\n")

    assert 'http_requests_total{method="GET",path="/worker",status="200"} 40.0' in lines()
    assert eventually(lambda: 'circuit_breaker_state{name="pay",state="open"} 1.0' in lines())


def test_app_runs_under_flask_run(tmp_path):
    (tmp_path / "served.py").write_text(
        textwrap.dedent("""
            from flask import Flask
            from flask_svc_infra import SvcInfra
            app = Flask(__name__)
            SvcInfra(app)
        """)
    )
    from contract._parts import eventually
    from support.processes import free_port
    from support.web import request

    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "served", "run", "--port", str(port)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    try:

        def up():
            try:
                return request(f"http://127.0.0.1:{port}/_health/ready").status == 200
            except OSError:
                return False

        assert eventually(up, within=15)
        assert request(f"http://127.0.0.1:{port}/metrics").status == 200
    finally:
        process.terminate()
        process.wait(10)


def test_app_may_be_pickled_around_by_a_reloader_import(tmp_path):
    """The module is imported twice under different names, as `python -m` with a reloader does."""
    (tmp_path / "shop.py").write_text(
        "from flask import Flask\nfrom flask_svc_infra import SvcInfra\napp = Flask('a')\nSvcInfra(app)\n"
    )
    run_python(f"""
        import sys, importlib, runpy
        sys.path.insert(0, {str(tmp_path)!r})
        import shop
        importlib.reload(shop)
        again = runpy.run_path({str(tmp_path / "shop.py")!r})
        for app in (shop.app, again["app"]):
            assert app.test_client().get("/metrics").status_code == 200
    """)


def test_init_app_that_was_refused_can_be_tried_again():
    app = bare_app()
    add_probes(app)
    with pytest.raises(RuntimeError, match="/_ops"):
        SvcInfra(app)
    SvcInfra(app, probes=False)
    client = app.test_client()
    assert [client.get(path).status_code for path in EVERYTHING] == [200] * len(EVERYTHING)


def test_maintenance_switched_on_by_code_holds_in_every_app_of_the_extension():
    infra = SvcInfra()
    clients = []
    for _ in range(2):
        app = bare_app()
        app.add_url_rule("/", "home", lambda: "home", methods=["POST"])
        infra.init_app(app)
        clients.append(app.test_client())
    infra.maintenance.enable(reason="index rebuild")
    assert [client.post("/").status_code for client in clients] == [503, 503]
    infra.maintenance.disable()
    assert [client.post("/").status_code for client in clients] == [200, 200]


def test_every_answer_keeps_the_rules_of_wsgi():
    """The standard library's validator stands outside; it fails on wrong types, headers, order, no close."""
    app = bare_app()
    infra = SvcInfra(app)
    infra.health.add("db", answers(UNHEALTHY))
    app.add_url_rule("/", "home", lambda: "home")
    app.add_url_rule("/stream", "stream", lambda: Response(part for part in (b"a", b"b")))
    app.add_url_rule("/file", "file", lambda: send_file(io.BytesIO(b"x" * 70_000), mimetype="text/plain"))
    validated = validator(app)
    for path in (*EVERYTHING, "/_health/checks/db", "/_health/checks/none", "/", "/stream", "/file", "/none"):
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            environ = EnvironBuilder(path=path, method=method).get_environ()
            started = []

            def start_response(status, headers, exc_info=None, started=started):
                started.append(status)
                return lambda data: None

            answer = validated(environ, start_response)
            body = b"".join(answer)
            answer.close()
            assert len(started) == 1
            assert method != "HEAD" or body == b"", (path, body)


def test_request_made_inside_a_request_is_counted_beside_it():
    app = bare_app()
    SvcInfra(app)
    app.add_url_rule("/inner", "inner", lambda: "inner")
    app.add_url_rule("/outer", "outer", lambda: app.test_client().get("/inner").get_data())
    client = app.test_client()
    assert client.get("/outer").get_data() == b"inner"
    samples = scrape(client)
    for path in ("/inner", "/outer"):
        assert value(samples, "http_requests_total", method="GET", path=path, status="200") == 1


def test_limits_redirects_and_csrf_of_other_extensions_fail_no_probe_and_no_scrape():
    limiter = pytest.importorskip("flask_limiter")
    talisman = pytest.importorskip("flask_talisman")
    csrf = pytest.importorskip("flask_wtf.csrf")
    app = bare_app(SECRET_KEY="contract")
    limiter.Limiter(lambda: "one", app=app, default_limits=["1/hour"], storage_uri="memory://")
    talisman.Talisman(app)
    csrf.CSRFProtect(app)
    infra = SvcInfra(app)
    infra.health.add("db", answers(HEALTHY))
    client = app.test_client()
    for path in (*EVERYTHING, "/_health/checks/db"):
        assert [client.get(path).status_code for _ in range(3)] == [200] * 3, path
