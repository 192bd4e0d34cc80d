"""SIGTERM under a real gunicorn: readiness turns at once, nobody's request is lost, a second one stops it."""

from __future__ import annotations

import signal
import time
from threading import Event, Thread

import pytest
from support.processes import alive, eventually

WORKERS = ["sync", "gthread", "gevent"]
PRELOAD = [False, True]


def options(worker_class, preload):
    return {
        "worker_class": worker_class,
        "threads": 4 if worker_class == "gthread" else 1,
        "preload": preload,
    }


@pytest.mark.parametrize("preload", PRELOAD)
@pytest.mark.parametrize("worker_class", WORKERS)
def test_readiness_turns_at_once_and_no_request_is_lost_while_draining(serve, worker_class, preload):
    server = serve(workers=2, env={"SVC_INFRA_DRAIN_SECONDS": "2.5"}, **options(worker_class, preload))
    workers = server.pids()
    eventually(lambda: {server.get("/pid").text for _ in range(9)} == {str(pid) for pid in workers})
    assert server.get("/ready").status == 200
    lost, served, over = [], [], Event()

    def load():
        while not over.is_set():
            try:
                served.append(server.get("/pid").status)
            except OSError as error:
                lost.append(error)

    clients = [Thread(target=load) for _ in range(3)]
    for client in clients:
        client.start()
    told = time.monotonic()
    server.signal(signal.SIGTERM)
    eventually(lambda: server.get("/ready").status == 503, timeout=1, interval=0.001)
    turned = time.monotonic() - told
    before = len(served)
    while time.monotonic() < told + 1.5:
        assert server.get("/ready").status == 503
        assert server.get("/_ops/live").status == 200
        time.sleep(0.02)
    over.set()
    for client in clients:
        client.join()
    assert turned < 0.1 + 0.2  # the promise, and what two busy cores may add
    assert lost == []
    assert set(served) == {200}
    assert len(served) > before
    assert server.wait(timeout=10) == 0
    assert 2.4 < time.monotonic() - told < 8


@pytest.mark.parametrize("worker_class", WORKERS)
def test_a_second_sigterm_stops_at_once(serve, worker_class):
    server = serve(env={"SVC_INFRA_DRAIN_SECONDS": "20"}, **options(worker_class, preload=False))
    workers = server.pids()
    server.signal(signal.SIGTERM)
    eventually(lambda: server.get("/ready").status == 503)
    told = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait(timeout=10) == 0
    assert time.monotonic() - told < 4
    assert not any(alive(pid) for pid in workers)
