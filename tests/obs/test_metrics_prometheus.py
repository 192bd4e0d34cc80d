"""A real Prometheus reads what real workers say, whatever they are sent and whoever dies."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

import pytest
from support.processes import eventually

SOURCE = """
from flask import Flask
from flask_svc_infra.obs import add_observability
from flask_svc_infra.resilience import CircuitBreaker

app = Flask(__name__, static_folder=None)
app.add_url_rule("/", "home", lambda: "ok")
app.add_url_rule("/boom", "boom", lambda: ("boom", 500))
breaker = CircuitBreaker('quo"te\\\\back\\nline')
add_observability(app, route_classifier=lambda path, method: 'a"b\\\\c|d')
"""
HOSTILE = (
    b"GET /%00%0A%0D%ff%fe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b'GET / HTTP/1.1\r\nHost: evil"} 1\r\nConnection: close\r\n\r\n',
    b"GET /\xff\xfe HTTP/1.1\r\nHost: \xff\xfe\r\nConnection: close\r\n\r\n",
    b"M" * 8192 + b" / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"INVENTED / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b'GET /"}%201%0Ahttp_requests_total{ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
)


def send(port: int, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(raw)
            while connection.recv(4096):
                pass


@pytest.mark.slow
def test_increase_agrees_with_what_was_sent(
    gunicorn: Callable[..., Any], prometheus: Callable[..., Any]
) -> None:
    """Scraped every second through kills and hostile requests: it stays up, and the sums are right."""
    server = gunicorn(
        source=SOURCE, workers=3, worker_class="gthread", threads=4, conf="python:flask_svc_infra.gunicorn"
    )
    server.wait_ready("/metrics")
    prom = prometheus(targets=[f"127.0.0.1:{server.port}"])
    eventually(lambda: prom.value("up") == 1, timeout=30, interval=0.2)
    eventually(lambda: prom.value('http_requests_total{path="/boom|a\\"b\\\\c|d",status="500"}') == 0)
    begun = time.time()
    answered, stop = 0, threading.Event()

    def kill() -> None:
        while not stop.wait(2.0):
            os.kill(server.pids()[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()

    def one(_: int) -> bool:
        with contextlib.suppress(OSError, HTTPException):
            return bool(server.get("/boom").status == 500)
        return False

    with ThreadPoolExecutor(4) as pool:
        while time.time() < begun + 8:
            answered += sum(pool.map(one, range(40)))
            for raw in HOSTILE:
                send(server.port, raw)
            time.sleep(0.1)
    stop.set()
    killer.join()
    time.sleep(2.5)
    window = int(time.time() - begun) + 5
    increase = prom.value(f'sum(increase(http_requests_total{{status="500"}}[{window}s]))')
    assert increase is not None
    assert increase == pytest.approx(answered, rel=0.15)
    assert prom.value(f"min_over_time(up[{window}s])") == 1
    assert prom.value(f"max(resets(http_requests_total[{window}s]))") == 0
    paths = {row["metric"]["path"] for row in prom.query("http_requests_total")}
    assert paths == {'/|a"b\\c|d', '/boom|a"b\\c|d', "<unmatched>|unmatched"}
    (state,) = prom.query('circuit_breaker_state{state="closed"} == 1')
    assert state["metric"]["name"] == 'quo"te\\back\nline'
