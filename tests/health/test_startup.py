"""Waiting for dependencies before the app serves."""

import logging
import threading
import time
from functools import partial

import pytest
from flask import Flask
from support.clock import FakeClock
from support.forks import in_child
from support.processes import eventually

from flask_svc_infra import ConfigurationError
from flask_svc_infra.health import (
    HealthCheckResult,
    HealthRegistry,
    HealthStatus,
    add_health_routes,
    add_startup_probe,
    check_redis,
    check_tcp,
    startup,
)
from flask_svc_infra.ops import add_probes


@pytest.fixture
def app():
    app = Flask("served")
    app.config["SVC_INFRA_HEALTH_CACHE_TTL"] = 0
    app.add_url_rule("/", "home", lambda: "home")
    return app


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves in the pauses between attempts alone, so that no attempt is cut short."""
    clock = FakeClock()
    monkeypatch.setattr(startup, "HealthRegistry", partial(HealthRegistry, clock=clock))
    monkeypatch.setattr(startup, "wait", partial(startup.wait, sleep=clock.advance))
    return clock


def test_ready_dependencies_let_the_app_be_made(app):
    add_startup_probe(app, [lambda: True], timeout=5)
    assert app.test_client().get("/").status_code == 200


def test_absent_dependencies_are_a_runtime_error_that_names_each_with_its_reason(app, closed_port, clock):
    async def awaited():
        return HealthCheckResult("ledger", HealthStatus.UNKNOWN, 0)

    began = clock()
    with pytest.raises(RuntimeError, match=r"not ready after 60s") as caught:
        add_startup_probe(
            app,
            [check_tcp("127.0.0.1", closed_port), check_redis(None), check_redis(""), awaited, lambda: True],
            timeout=60,
            interval=7,
        )
    assert clock() - began == 60
    text = str(caught.value)
    assert f"127.0.0.1:{closed_port} ([Errno 111] Connection refused)" in text
    assert text.count("redis (Redis not configured") == 2
    assert "ledger (unknown)" in text
    assert "lambda" not in text
    assert "startup check" not in text


def test_deadline_is_kept_though_a_check_hangs(app, hanging):
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"not ready after 0\.2s: Hanging \(check is still running\)"):
        add_startup_probe(app, [hanging], timeout=0.2)
    assert 0.2 <= time.monotonic() - began < 5  # the check's own deadline


def test_each_attempt_is_one_line_that_names_what_is_missing_by_its_own_name(app, closed_port, caplog, clock):
    caplog.set_level(logging.INFO, "flask_svc_infra.health")
    with pytest.raises(RuntimeError):
        add_startup_probe(
            app,
            [check_tcp("127.0.0.1", closed_port), check_redis(None), lambda: True],
            timeout=60,
            interval=20,
        )
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("waiting for ")]
    assert len(said) == 3
    for number, line in enumerate(said, 1):
        assert line.startswith(
            f"waiting for 127.0.0.1:{closed_port} ([Errno 111] Connection refused), redis ("
        )
        assert line.endswith(f"(attempt {number}, {80 - 20 * number}.0s left)")


def test_changes_are_logged_under_the_checks_own_names(app, caplog):
    def comes_up(name):
        said = iter([False, True])
        check = lambda: next(said, True)
        check.name = name
        return check

    caplog.set_level(logging.INFO, "flask_svc_infra.health")
    # The last is no name for a registered check, and this one is not registered.
    add_startup_probe(app, [comes_up("redis"), comes_up("redis"), comes_up("a/b")], timeout=30, interval=0)
    for name in ("redis", "redis (2)", "startup check 3"):
        assert f"check '{name}' is unhealthy, was unknown" in caplog.text


def test_dependency_that_comes_up_is_waited_for(app):
    came_up = threading.Event()
    threading.Timer(0.15, came_up.set).start()
    add_startup_probe(app, [came_up.is_set], timeout=5, interval=0.02)


def test_sync_check_sees_the_app(app):
    from flask import current_app

    add_startup_probe(app, [lambda: current_app.name == "served"], timeout=1)


@pytest.mark.parametrize("checks", [lambda: True, "redis://", ["redis://"]])
def test_what_is_no_list_of_checks_is_refused(app, checks):
    with pytest.raises(ConfigurationError):
        add_startup_probe(app, checks)


@pytest.mark.parametrize("seconds", [{"timeout": -1}, {"interval": -1}, {"timeout": "60"}])
def test_seconds_that_are_none_are_refused(app, seconds):
    with pytest.raises(ConfigurationError):
        add_startup_probe(app, [lambda: True], **seconds)


def test_gate_refuses_all_but_liveness_plain_probes_and_metrics_until_ready(app):
    up = threading.Event()
    registry = HealthRegistry()
    registry.add("db", lambda: True)
    add_health_routes(app, registry)
    add_probes(app)
    add_startup_probe(
        app,
        [lambda: HealthCheckResult("ledger", HealthStatus(["unhealthy", "healthy"][up.is_set()]), 0)],
        interval=0.02,
        block=False,
    )
    client = app.test_client()
    for path in (
        "/",
        "/nowhere",
        "/_health/ready",
        "/_health/startup",
        "/_health/groups/ready",
        "/_health/checks/db",
    ):
        assert client.get(path).status_code == 503, path
    refused = client.post("/")
    assert (refused.status_code, refused.headers["Retry-After"], refused.json) == (
        503,
        "1",
        {"detail": "starting"},
    )
    for path in ("/_health/live", "/_ops/ready", "/_ops/startup", "/_ops/live"):
        assert client.get(path).status_code == 200, path
    assert eventually(lambda: "ledger" in client.get("/_health/ready").json["message"])
    up.set()
    assert eventually(lambda: client.get("/").status_code == 200)
    assert client.get("/_health/ready").status_code == 200
    assert client.get("/_health/startup").json == {"status": "ok"}


def test_gate_starts_no_thread_before_the_first_request(app):
    before = threading.active_count()
    add_startup_probe(app, [lambda: True], block=False)
    assert threading.active_count() == before


def test_the_first_request_of_a_worker_is_served_when_everything_is_there(app):
    """A worker that gunicorn has just recycled refuses nobody."""
    add_startup_probe(app, [lambda: True], block=False)
    add_health_routes(app, HealthRegistry())
    client = app.test_client()
    assert client.get("/").status_code == 200
    assert client.get("/_health/ready").status_code == 200


def test_a_dependency_that_hangs_holds_up_one_request_and_no_other(app):
    done = threading.Event()
    add_startup_probe(app, [lambda: done.wait(30)], block=False)
    client = app.test_client()
    assert client.get("/").status_code == 503
    for _ in range(5):
        began = time.monotonic()
        assert client.get("/").status_code == 503
        assert time.monotonic() - began < startup._FIRST_ATTEMPT
    done.set()
    assert eventually(lambda: client.get("/").status_code == 200)


def test_gate_past_its_timeout_says_so_once_and_goes_on(app, caplog):
    up = threading.Event()
    caplog.set_level(logging.INFO, "flask_svc_infra.health")
    add_startup_probe(app, [up.is_set], timeout=0.05, interval=0.01, block=False)
    client = app.test_client()
    assert client.get("/").status_code == 503
    assert eventually(lambda: "goes on trying" in caplog.text)
    assert client.get("/").status_code == 503
    up.set()
    assert eventually(lambda: client.get("/").status_code == 200)
    assert caplog.text.count("goes on trying") == 1
    assert eventually(lambda: "the gate is open" in caplog.text)


def test_gate_waits_anew_in_a_forked_child(app):
    up = threading.Event()
    add_startup_probe(app, [up.is_set], interval=0.01, block=False)
    assert app.test_client().get("/").status_code == 503

    def in_there():
        up.set()
        return eventually(lambda: app.test_client().get("/").status_code == 200, timeout=5)

    assert in_child(in_there)
    assert app.test_client().get("/").status_code == 503
    up.set()
    assert eventually(lambda: app.test_client().get("/").status_code == 200)
