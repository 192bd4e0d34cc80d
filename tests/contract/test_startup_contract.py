"""add_startup_probe: wait in the factory, or stand at the door until the dependencies are there."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from contract._parts import (
    DEGRADED,
    HEALTHY,
    UNHEALTHY,
    UNKNOWN,
    answers,
    bare_app,
    eventually,
    faster_than,
    registry_of,
)

from flask_svc_infra.health import add_health_routes, add_startup_probe, check_tcp
from flask_svc_infra.obs import add_observability
from flask_svc_infra.ops import add_probes


def test_ready_dependencies_let_the_factory_go_on():
    with faster_than(3):
        assert add_startup_probe(bare_app(), [answers(HEALTHY), answers(DEGRADED)], timeout=5) is None


def test_nothing_to_wait_for_is_no_wait():
    with faster_than(3):
        add_startup_probe(bare_app(), [], timeout=5)


def test_dependencies_that_stay_away_are_a_runtime_error_naming_them():
    with pytest.raises(RuntimeError, match="not ready") as caught:
        add_startup_probe(
            bare_app(),
            [answers(HEALTHY, name="cache"), answers(UNHEALTHY, name="database")],
            timeout=0.2,
            interval=0.05,
        )
    assert "database" in str(caught.value)
    assert "cache" not in str(caught.value)


@pytest.mark.parametrize("status", [UNHEALTHY, UNKNOWN])
def test_unknown_is_not_ready_either(status):
    with pytest.raises(RuntimeError, match="not ready"):
        add_startup_probe(bare_app(), [answers(status)], timeout=0.05, interval=0.02)


def test_deadline_is_kept_when_the_interval_is_longer():
    with faster_than(1.8), pytest.raises(RuntimeError):
        add_startup_probe(bare_app(), [answers(UNHEALTHY)], timeout=0.3, interval=2.0)


def test_deadline_is_kept_when_a_check_hangs():
    release = threading.Event()
    with faster_than(3), pytest.raises(RuntimeError):
        add_startup_probe(bare_app(), [lambda: release.wait(5)], timeout=0.2, interval=0.1)
    release.set()


def test_own_name_of_a_function_is_reported():
    def message_broker():
        return False

    with pytest.raises(RuntimeError, match="message_broker"):
        add_startup_probe(bare_app(), [message_broker], timeout=0.05, interval=0.02)


def test_name_of_a_factorys_function_is_reported():
    with pytest.raises(RuntimeError, match=r"127\.0\.0\.1:1"):
        add_startup_probe(bare_app(), [check_tcp("127.0.0.1", 1)], timeout=0.05, interval=0.02)


def test_two_checks_of_one_name_are_both_waited_for():
    with pytest.raises(RuntimeError):
        add_startup_probe(
            bare_app(),
            [answers(HEALTHY, name="db"), answers(UNHEALTHY, name="db")],
            timeout=0.05,
            interval=0.02,
        )


def test_wait_ends_when_the_dependency_arrives():
    calls = []

    def arrives():
        calls.append(1)
        return len(calls) >= 3

    with faster_than(4):
        add_startup_probe(bare_app(), [arrives], timeout=5, interval=0.02)
    assert len(calls) == 3


def test_blocking_probe_leaves_no_gate_behind():
    app = bare_app()
    app.add_url_rule("/", "home", lambda: "home")
    add_startup_probe(app, [answers(HEALTHY)])
    assert app.test_client().get("/").get_data() == b"home"


# --- block=False --------------------------------------------------------------------------------------------


@pytest.fixture
def gated():
    """An app behind a gate that opens when ``state["up"]`` is set."""
    state = {"up": False}
    app = bare_app()
    app.add_url_rule("/", "home", lambda: "home")
    add_health_routes(app, registry_of(db=HEALTHY))
    add_probes(app)
    add_observability(app)

    def warehouse():
        return state["up"]

    add_startup_probe(app, [warehouse], timeout=30.0, interval=0.02, block=False)
    yield app.test_client(), state
    state["up"] = True
    eventually(lambda: app.test_client().get("/").status_code == 200)


def test_gate_does_not_hold_up_the_factory():
    release = threading.Event()
    with faster_than(3):
        add_startup_probe(bare_app(), [lambda: release.wait(5)], timeout=30.0, block=False)
    release.set()


def test_gate_refuses_requests_with_retry_after_until_ready(gated):
    client, _ = gated
    response = client.get("/")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1


def test_gate_makes_startup_and_ready_say_503(gated):
    client, _ = gated
    assert client.get("/_health/startup").status_code == 503
    assert client.get("/_health/ready").status_code == 503


def test_gate_leaves_liveness_ops_and_metrics_alone(gated):
    client, _ = gated
    for path in ["/_health/live", "/_ops/live", "/_ops/ready", "/_ops/startup", "/metrics"]:
        assert client.get(path).status_code == 200, path


def test_gate_opens_when_the_dependency_arrives_and_stays_open(gated):
    client, state = gated
    client.get("/_health/startup")
    state["up"] = True
    assert eventually(lambda: client.get("/").status_code == 200)
    assert client.get("/_health/startup").status_code == 200
    assert client.get("/_health/ready").status_code == 200
    state["up"] = False
    time.sleep(0.06)
    assert client.get("/").status_code == 200


def overdue(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


def test_gate_past_its_timeout_stays_shut_says_so_once_and_goes_on_trying(caplog):
    state, tries = {"up": False}, []
    app = bare_app()
    app.add_url_rule("/", "home", lambda: "home")
    add_health_routes(app, registry_of(db=HEALTHY))

    def warehouse():
        tries.append(1)
        return state["up"]

    with caplog.at_level(logging.WARNING):
        add_startup_probe(app, [warehouse], timeout=0.1, interval=0.02, block=False)
        client = app.test_client()
        client.get("/_health/startup")
        assert eventually(lambda: overdue(caplog))
        assert client.get("/").status_code == 503
        seen = len(tries)
        assert eventually(lambda: len(tries) > seen + 2)
        assert len(overdue(caplog)) == 1
        assert "warehouse" in overdue(caplog)[0]
        state["up"] = True
        assert eventually(lambda: client.get("/").status_code == 200)
