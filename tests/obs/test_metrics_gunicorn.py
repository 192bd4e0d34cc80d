"""Real gunicorn workers: one answer for all of them, whoever dies meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

import pytest
from obs.reading import Samples
from support.processes import eventually

SOURCE = """
import os, time
from flask import Flask, send_file
from prometheus_client import Counter, Gauge
from flask_svc_infra.obs import add_observability
from flask_svc_infra.resilience import CircuitBreaker

app = Flask(__name__, static_folder=None)
jobs = Counter("jobs", "Jobs done.", ["kind"])
last = Gauge("last_job", "When.", multiprocess_mode="livesum")
breaker = CircuitBreaker("payments", failure_threshold=1, recovery_timeout=600)

@app.get("/")
def home():
    time.sleep(0.002)
    jobs.labels("mail").inc()
    last.set(1)
    return str(os.getpid())

@app.get("/trip")
def trip():
    try:
        with breaker:
            raise OSError("down")
    except Exception:
        pass
    return str(os.getpid())

@app.get("/stream")
def stream():
    def body():
        for _ in range(4):
            yield b"x" * 1000
            time.sleep(0.05)
    return body()

@app.get("/file")
def file():
    return send_file(__file__)

@app.get("/boom")
def boom():
    raise RuntimeError("boom")

add_observability(app)
"""
CONF = "python:flask_svc_infra.gunicorn"
Run = Callable[..., Any]


def scraped(server: Any) -> Samples:
    reply = server.get("/metrics")
    assert reply.status == 200, reply.text
    return Samples(reply.text)


def asked(server: Any, path: str, *, times: int) -> set[str]:
    """GET *path* from four threads at once; return what was answered."""
    with ThreadPoolExecutor(4) as pool:
        return {reply.text for reply in pool.map(lambda _: server.get(path), range(times))}


@pytest.mark.parametrize(
    ("worker_class", "preload"), [("sync", False), ("sync", True), ("gthread", False), ("gevent", False)]
)
def test_any_worker_answers_for_all(gunicorn: Run, worker_class: str, preload: bool) -> None:
    server = gunicorn(
        source=SOURCE, workers=3, worker_class=worker_class, threads=4, preload=preload, conf=CONF
    )
    server.wait_ready("/metrics")
    assert len(asked(server, "/", times=60)) > 1, "one worker answered everything"
    server.get("/nowhere")
    server.get("/boom")
    server.get("/stream")
    server.get("/file")
    # A file counts when the server has closed it, which is after the client has it.
    eventually(lambda: scraped(server)("http_requests_total", path="/file", status="200") == 1, timeout=10)
    for _ in range(5):
        found = scraped(server)
        assert found("http_requests_total", method="GET", path="/", status="200") == 60
        assert found("http_request_duration_seconds_count", method="GET", path="/") == 60
        assert found("http_requests_total", path="<unmatched>", status="404") == 1
        assert found("http_requests_total", path="/boom", status="500") == 1
        assert found("http_requests_total", path="/file", status="200") == 1
        assert found("http_request_duration_seconds_sum", path="/stream") >= 0.15
        assert found("http_requests_in_progress") == 0
        assert found("jobs_total", kind="mail") == 60


def test_open_circuit_of_one_worker_shows_as_open(gunicorn: Run) -> None:
    server = gunicorn(source=SOURCE, workers=3, conf=CONF)
    server.wait_ready("/metrics")
    assert scraped(server)("circuit_breaker_state", name="payments", state="closed") == 1
    server.get("/trip")
    for _ in range(6):
        found = scraped(server)
        assert found("circuit_breaker_state", name="payments", state="open") == 1
        assert found("circuit_breaker_state", name="payments", state="closed") == 0
        assert found("circuit_breaker_calls_total", name="payments", outcome="failure") == 1
        assert found("circuit_breaker_transitions_total", name="payments", state="open") == 1


def test_killed_worker_keeps_its_counts_and_loses_its_gauges(gunicorn: Run) -> None:
    server = gunicorn(source=SOURCE, workers=2, conf=CONF)
    server.wait_ready("/metrics")
    for _ in range(40):
        server.get("/")
    server.get("/trip")
    victims = server.pids()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    server.wait_ready("/metrics")
    for _ in range(4):
        found = scraped(server)
        assert found("http_requests_total", path="/", status="200") == 40
        assert found("jobs_total", kind="mail") == 40
        assert found("last_job") == 0
        assert found("circuit_breaker_state", name="payments", state="open") == 0


def test_client_that_leaves_in_the_middle_of_a_stream_is_counted(gunicorn: Run) -> None:
    import socket

    server = gunicorn(source=SOURCE, workers=1, conf=CONF)
    server.wait_ready("/metrics")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(100)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    eventually(lambda: scraped(server)("http_requests_total", path="/stream", status="200") == 1, timeout=10)
    assert scraped(server)("http_requests_in_progress") == 0


def test_own_conf_file_without_ours_works_too(gunicorn: Run, tmp_path: Any) -> None:
    (tmp_path / "metrics").mkdir()
    server = gunicorn(source=SOURCE, workers=2, env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")})
    server.wait_ready("/metrics")
    for _ in range(20):
        server.get("/")
    assert scraped(server)("http_requests_total", path="/", status="200") == 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("worker_class", "requests"),
    [
        ("sync", 1200),
        ("gthread", 1200),
        ("gevent", 1200),
        pytest.param("sync", 10_000, marks=pytest.mark.nightly),
        pytest.param("gthread", 10_000, marks=pytest.mark.nightly),
        pytest.param("gevent", 10_000, marks=pytest.mark.nightly),
    ],
)
def test_totals_are_exact_while_workers_are_killed_and_recycled(
    gunicorn: Run, worker_class: str, requests: int
) -> None:
    """Every answered request is counted, and nothing beyond those that were sent."""
    server = gunicorn(
        source=SOURCE,
        workers=3,
        worker_class=worker_class,
        threads=4,
        conf=CONF,
        arguments=("--max-requests", "150", "--max-requests-jitter", "50"),
    )
    server.wait_ready("/metrics")
    sent, answered, lock = [0], [0], threading.Lock()
    stop = threading.Event()

    def send(count: int) -> None:
        for _ in range(count):
            with lock:
                sent[0] += 1
            try:
                ok = server.get("/").status == 200
            except (OSError, HTTPException):
                continue
            with lock:
                answered[0] += ok

    def kill() -> None:
        while not stop.wait(0.4):
            pids = server.pids()
            if pids:
                with contextlib.suppress(ProcessLookupError):  # it was recycled in between
                    os.kill(pids[0], signal.SIGKILL)

    senders = [threading.Thread(target=send, args=(requests // 4,), daemon=True) for _ in range(4)]
    killer = threading.Thread(target=kill, daemon=True)
    for thread in [*senders, killer]:
        thread.start()
    seen = [0.0]
    while any(thread.is_alive() for thread in senders):
        with contextlib.suppress(OSError, HTTPException):
            seen.append(scraped(server)("http_requests_total", path="/", status="200"))
        time.sleep(0.2)
    stop.set()
    killer.join()
    server.wait_ready("/metrics")
    final = scraped(server)("http_requests_total", path="/", status="200")
    assert seen == sorted(seen), "a counter went backwards"
    assert answered[0] <= final <= sent[0]
    assert scraped(server)("http_requests_in_progress") == 0
