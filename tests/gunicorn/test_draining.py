"""SIGTERM under a real gunicorn: readiness turns at once, nobody's request is lost, a second one stops it."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from threading import Event, Thread

import pytest
from support.processes import alive, eventually
from support.served import APP

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
    assert turned < 0.5  # the promise is 0.1 (benchmarks/ops.py); two busy cores may add to it
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


def test_a_reload_replaces_workers_without_draining(serve):
    server = serve(workers=2, env={"SVC_INFRA_DRAIN_SECONDS": "20"})
    old = set(server.pids())
    eventually(lambda: {int(server.get("/pid").text) for _ in range(9)} == old)
    server.signal(signal.SIGHUP)
    while old & set(server.pids()):
        assert server.get("/ready").status == 200
        time.sleep(0.02)
    assert not any(alive(pid) for pid in old)
    assert server.get("/ready").status == 200


def test_the_app_may_say_how_long(serve):
    source = APP.replace("app.config.from_prefixed_env()", "app.config['SVC_INFRA_DRAIN_SECONDS'] = 20")
    server = serve(source=source, env={"SVC_INFRA_DRAIN_SECONDS": "0"})
    server.signal(signal.SIGTERM)
    eventually(lambda: server.get("/ready").status == 503)
    time.sleep(1)
    assert server.get("/pid").status == 200
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_without_a_drain_gunicorn_stops_as_it_always_does(serve):
    server = serve(workers=2)
    told = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - told < 3


def test_a_signal_to_the_whole_group_drains_as_one_to_the_master(serve):
    """Init systems send SIGTERM to every process, and the master passes its own on: workers get two."""
    server = serve(workers=2, env={"SVC_INFRA_DRAIN_SECONDS": "2"})
    pids = server.pids()
    eventually(lambda: {int(server.get("/pid").text) for _ in range(9)} == set(pids))
    told = time.monotonic()
    for pid in (*pids, server.master_pid):
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: server.get("/ready").status == 503, interval=0.001)
    while time.monotonic() < told + 1.3:
        assert server.get("/pid").status == 200
    assert server.wait() == 0
    assert 1.9 < time.monotonic() - told < 5


@pytest.mark.parametrize("worker_class", ["gthread", "gevent"])
def test_kept_alive_connections_are_closed_while_draining(serve, worker_class):
    server = serve(
        env={"SVC_INFRA_DRAIN_SECONDS": "20"},
        arguments=("--keep-alive", "30"),
        **options(worker_class, preload=False),
    )
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def ask():
        connection.request("GET", "/pid")
        reply = connection.getresponse()
        reply.read()
        return reply.getheader("Connection")

    assert [ask(), ask()] == ["keep-alive", "keep-alive"]
    server.signal(signal.SIGTERM)
    eventually(lambda: server.get("/ready").status == 503)
    assert ask() == "close"
    connection.close()


def test_a_request_in_flight_at_the_end_of_the_drain_is_finished(serve):
    server = serve(env={"SVC_INFRA_DRAIN_SECONDS": "1"}, worker_class="gthread", threads=2)
    server.signal(signal.SIGTERM)
    time.sleep(0.6)
    assert server.get("/slow").text == "done"  # it takes a second
    assert server.wait() == 0


def test_a_service_can_be_told_to_drain_before_it_is_told_to_stop(serve, tmp_path):
    """What ``flask svc-infra drain`` does in a preStop hook: the wait counts for the stop that follows."""
    environ = {"SVC_INFRA_DRAIN_SECONDS": "1.5", "TMPDIR": str(tmp_path)}
    server = serve(workers=2, env=environ)
    code = "from flask_svc_infra.ops import draining; print(draining.start_drain())"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str({server.master_pid: 1.5})
    assert server.get("/ready").status == 503
    assert server.get("/pid").status == 200
    time.sleep(1.5)
    stopped = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - stopped < 1.4
    assert not list(tmp_path.rglob("*.drain"))


def test_without_a_shared_file_each_worker_drains_for_itself(serve):
    server = serve(env={"SVC_INFRA_DRAIN_SECONDS": "20", "TMPDIR": "/proc/nothing"}, preload=True)
    assert server.get("/ready").status == 200
    server.signal(signal.SIGTERM)
    eventually(lambda: server.get("/ready").status == 503)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_the_whole_extension_drains(serve):
    source = """
        from flask import Flask
        from flask_svc_infra import SvcInfra

        app = Flask(__name__)
        app.config.from_prefixed_env()
        app.add_url_rule("/pid", "pid", lambda: "ok")
        SvcInfra(app)
    """
    server = serve(source=source, workers=2, env={"FLASK_SVC_INFRA_DRAIN_SECONDS": "20"})
    assert server.get("/_health/ready").status == 200
    server.signal(signal.SIGTERM)
    reply = eventually(lambda: (r := server.get("/_health/ready")).status == 503 and r)
    assert reply.json()["message"] == "the process is draining: it was told to stop"
    served = ["/_health/live", "/_health/startup", "/_ops/ready", "/metrics", "/pid"]
    assert [server.get(path).status for path in served] == [200] * len(served)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


@pytest.mark.parametrize("worker_class", WORKERS)
def test_a_second_sigterm_stops_at_once_whatever_is_in_flight(serve, worker_class):
    source = APP.replace("time.sleep(1)", "time.sleep(30)")
    env = {"SVC_INFRA_DRAIN_SECONDS": "20"}
    server = serve(source=source, workers=2, env=env, **options(worker_class, preload=False))
    Thread(target=lambda: ended(server), daemon=True).start()
    time.sleep(0.3)
    server.signal(signal.SIGTERM)
    time.sleep(0.3)
    told = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait(timeout=10) == 0
    assert time.monotonic() - told < 5


def test_a_worker_born_after_the_second_sigterm_does_not_drain(serve):
    """A busy master may come to replace a worker between the two signals and its own stop."""
    conf = """
        import os, signal, time
        from flask_svc_infra.gunicorn import *

        born = []

        def pre_fork(server, worker):
            born.append(worker)
            if len(born) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)

        def post_fork(server, worker):
            if len(born) == 2:
                time.sleep(0.5)  # the master's own stop comes now
    """
    server = serve(conf_source=conf, env={"SVC_INFRA_DRAIN_SECONDS": "20"})
    os.kill(server.pids()[0], signal.SIGKILL)
    assert server.wait(timeout=10) == 0


def ended(server):
    with suppress(OSError, http.client.HTTPException):
        server.get("/slow", timeout=60)
