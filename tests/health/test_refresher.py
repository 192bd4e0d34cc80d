"""Checks that run in the background, so that probes need not wait for them."""

import gc
import os
import threading
import time

import pytest
from flask import Flask
from support.forks import in_child
from support.processes import eventually

from flask_svc_infra.health import HealthRegistry, HealthStatus, add_health_routes


def refreshers():
    return [thread for thread in threading.enumerate() if thread.name == "svc-infra-refresh"]


@pytest.fixture
def registry():
    registry = HealthRegistry()
    yield registry
    registry.clear()
    registry._refresher._wake.set()
    eventually(lambda: not refreshers())


def serve(registry):
    app = Flask(__name__)
    app.config["SVC_INFRA_HEALTH_CACHE_TTL"] = 0.001
    add_health_routes(app, registry)
    return app.test_client()


def test_nothing_runs_before_the_first_ask(registry):
    before = refreshers()  # other tests' registries may not have been collected yet
    registry.add("db", lambda: True, interval=0.01)
    serve(registry)
    assert set(refreshers()) <= set(before)
    assert registry.snapshot()[0].age is None


def test_check_is_run_again_and_again_once_it_was_asked_for(registry):
    runs = []
    registry.add("db", lambda: runs.append(time.monotonic()) or True, interval=0.02)
    serve(registry).get("/_health/ready")
    assert eventually(lambda: len(runs) >= 5)
    assert len(refreshers()) == 1


def test_probes_do_not_wait_for_a_slow_check_once_it_has_a_result(registry):
    registry.add("slow", lambda: time.sleep(0.1) is None, interval=0.3)
    client = serve(registry)
    client.get("/_health/ready")
    began = time.monotonic()
    for _ in range(50):
        assert client.get("/_health/ready").json["checks"][0]["age_ms"] >= 0
    assert time.monotonic() - began < 0.5


def test_hung_background_run_gets_its_verdict_without_anybody_waiting(registry, hanging):
    def check():
        return hanging() if hanging.entered.is_set() or runs.append(1) or len(runs) > 1 else True

    runs = []
    registry.add("db", check, interval=0.02, timeout=0.1)
    serve(registry).get("/_health/ready")
    assert eventually(lambda: registry.snapshot()[0].status is HealthStatus.UNHEALTHY)
    assert hanging.started == 1


def test_intervals_of_two_registries_drift_apart():
    from flask_svc_infra.health.refresher import _JITTER

    assert 0 < _JITTER <= 0.25


def test_python_call_runs_a_check_with_an_interval_fresh(registry):
    runs = []
    registry.add("db", lambda: runs.append(1) or True, interval=60)
    registry.check_one("db")
    eventually(lambda: len(runs) >= 1)
    before = len(runs)
    registry.check_one("db")
    assert len(runs) > before


def test_thread_ends_with_the_last_check_that_needs_it(registry):
    registry.add("db", lambda: True, interval=0.01)
    registry.check_one("db")
    registry.remove("db")
    assert eventually(lambda: not refreshers())
    registry.add("again", lambda: True, interval=0.01)
    registry.check_one("again")
    assert len(refreshers()) == 1


def test_thread_ends_with_its_registry():
    registry = HealthRegistry()
    registry.add("db", lambda: True, interval=0.01)
    registry.check_one("db")
    del registry
    gc.collect()
    assert eventually(lambda: not refreshers())


def test_forked_child_starts_its_own(registry):
    runs = []
    registry.add("db", lambda: runs.append(os.getpid()) or True, interval=0.01)
    registry.check_one("db")

    def in_there():
        registry.check_one("db")
        return eventually(lambda: runs.count(os.getpid()) > 3, timeout=5)

    assert in_child(in_there)
