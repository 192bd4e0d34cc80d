"""Two workers of a real gunicorn: one circuit, one switch."""

from __future__ import annotations

import time

import pytest
from support.processes import eventually

from flask_svc_infra.state import orders
from flask_svc_infra.state.urls import open_store

SOURCE = """
    import os
    from flask import Flask
    from flask_svc_infra import SvcInfra

    app = Flask(__name__)
    app.config.from_prefixed_env()
    infra = SvcInfra(app)
    payments = infra.breaker("payments", failure_threshold=2, recovery_timeout=60)

    @app.get("/fail")
    def fail():
        try:
            with payments:
                raise OSError
        except OSError:
            return {"pid": os.getpid()}

    @app.get("/state")
    def state():
        return {"pid": os.getpid(), "state": payments.state}

    @app.post("/on")
    def on():
        infra.maintenance.enable(mode="full")
        return {}
"""


def states(server):
    found = {}
    for _ in range(40):
        reply = server.get("/state")
        assert reply.status == 200
        found[reply.json()["pid"]] = reply.json()["state"]
    return found


@pytest.mark.parametrize(
    "served",
    [("sqlite", "sync", True), ("valkey", "gthread", False), ("valkey", "gevent", True)],
    ids=lambda served: f"{served[0]}-{served[1]}",
)
def test_workers_are_one(gunicorn, valkey, tmp_path, served):
    kind, worker_class, preload = served
    url = valkey.url if kind == "valkey" else f"sqlite:///{tmp_path / 'state.db'}"
    conf = "from gevent import monkey\nmonkey.patch_all()\n" if worker_class == "gevent" else ""
    server = gunicorn(
        source=SOURCE,
        conf_source=conf,
        workers=2,
        worker_class=worker_class,
        preload=preload,
        env={"FLASK_SVC_INFRA_STATE_URL": url, "FLASK_SVC_INFRA_NAMESPACE": "shop"},
    )
    server.wait_ready("/state")
    eventually(lambda: len(states(server)) == 2)
    for _ in range(2):
        server.get("/fail")
    eventually(lambda: set(states(server).values()) == {"open"}, timeout=5)
    metrics = server.get("/metrics").text
    assert "svc_infra_state_up 1.0" in metrics
    assert server.request("/on", "POST").status == 200
    eventually(lambda: {server.get("/state").status for _ in range(30)} == {503}, timeout=5)


@pytest.mark.slow
def test_whichever_worker_is_scraped_says_what_all_have_found(gunicorn, private_valkey):
    server = gunicorn(
        source=SOURCE,
        workers=2,
        conf="python:flask_svc_infra.gunicorn",
        env={"FLASK_SVC_INFRA_STATE_URL": private_valkey.url, "FLASK_SVC_INFRA_NAMESPACE": "shop"},
    )
    server.wait_ready("/state")
    eventually(lambda: len(states(server)) == 2)

    def scraped(line, times=1):
        return all(line in server.get("/metrics").text for _ in range(times))

    private_valkey.stop()
    eventually(lambda: scraped("svc_infra_state_up 0.0", times=20), timeout=5)  # each has shown it by now
    private_valkey.cont()
    time.sleep(2.2)
    assert scraped("svc_infra_state_up 1.0"), "a worker that was scraped while the store hung says so still"
    orders.switch(open_store(private_valkey.url, namespace="shop"), "full", reason=None, actor="cli")
    eventually(lambda: scraped('maintenance_mode{mode="full"} 1.0', times=20), timeout=5)
    orders.switch(open_store(private_valkey.url, namespace="shop"), "off", reason=None, actor="cli")
    time.sleep(1.3)
    assert scraped('maintenance_mode{mode="full"} 0.0')
