"""Health under gunicorn: every kind of worker, with and without --preload, asked while a check hangs."""

import time

import pytest
from support.processes import eventually

APP = """
    import asyncio, os, time
    from flask import Flask
    from flask_svc_infra.health import HealthRegistry, add_health_routes, check_tcp

    registry = HealthRegistry()
    started = []

    def hung():
        if not os.path.exists("hang"):
            return True
        started.append(1)
        while os.path.exists("hang"):
            time.sleep(0.02)
        return True

    async def awaited():
        await asyncio.sleep(0.01)
        return True

    registry.add("hung", hung, timeout=0.5)
    registry.add("awaited", awaited)
    registry.add("background", lambda: True, interval=0.05)
    registry.check_all()  # under --preload: before the fork

    app = Flask(__name__)
    app.config["SVC_INFRA_HEALTH_CACHE_TTL"] = 0.01
    add_health_routes(app, registry)

    @app.get("/facts")
    def facts():
        return {"pid": os.getpid(), "started": len(started)}
"""
GEVENT = "from gevent import monkey\nmonkey.patch_all()\n"


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
@pytest.mark.parametrize("worker_class", ["sync", "gthread", "gevent"])
def test_worker_survives_a_check_that_hangs(gunicorn, tmp_path, worker_class, preload):
    server = gunicorn(
        source=APP,
        workers=1,
        worker_class=worker_class,
        threads=4 if worker_class == "gthread" else 1,
        preload=preload,
        conf_source=GEVENT if worker_class == "gevent" else None,
    )
    ready = server.wait_ready("/_health/ready")
    assert ready.json()["status"] == "healthy"
    assert [check["name"] for check in ready.json()["checks"]] == ["hung", "awaited", "background"]

    hang = server.folder / "hang"
    hang.touch()
    began = time.monotonic()
    server.wait_ready("/_health/ready", status=503)  # a result may be used again for the first 10 ms
    assert time.monotonic() - began < 1.5
    began = time.monotonic()
    for _ in range(20):
        answer = server.get("/_health/ready")
        assert (answer.status, [c["status"] for c in answer.json()["checks"]][1:]) == (
            503,
            ["healthy", "healthy"],
        )
        assert server.get("/_health/live").status == 200
    assert time.monotonic() - began < 2
    assert server.get("/facts").json()["started"] == 1

    hang.unlink()
    assert eventually(lambda: server.get("/_health/ready").status == 200)
    assert server.stop() == 0
