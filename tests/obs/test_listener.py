"""A port of their own for the metrics: one process answers, the next takes over."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from obs.reading import Samples
from support.processes import eventually, free_port
from support.web import request

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.obs import add_observability, listener


def read(port: int) -> Samples:
    reply = request(f"http://127.0.0.1:{port}/metrics")
    assert reply.status == 200
    return Samples(reply.text)


def test_answers_and_stops(make_app: Callable[..., Flask], mode: str) -> None:
    port = free_port()
    app = Flask("listening", static_folder=None)
    undo = add_observability(app, listen=f"127.0.0.1:{port}")
    app.test_client().get("/nowhere")
    found = eventually(lambda: read(port))
    assert found("http_requests_total", status="404") == 1
    undo()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_second_app_takes_the_port_over(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_RETRY", 0.05)
    port = free_port()
    one, two = Flask("one", static_folder=None), Flask("two", static_folder=None)
    stop_one = add_observability(one, listen=f"127.0.0.1:{port}")
    eventually(lambda: read(port))
    stop_two = add_observability(two, listen=f"127.0.0.1:{port}")
    two.test_client().get("/nowhere")
    assert read(port)("http_requests_total", status="404") == 0
    stop_one()
    assert eventually(lambda: read(port))("http_requests_total", status="404") == 1
    stop_two()


@pytest.mark.parametrize("address", ["9102", ":9102", "host:", "host:0", "host:99999", "host:x", 9102])
def test_what_is_no_address_is_refused(mode: str, address: Any) -> None:
    app = Flask("x")
    with pytest.raises(ConfigurationError, match="no address"):
        add_observability(app, listen=address)
    add_observability(app)()


@pytest.mark.parametrize("preload", [False, True])
def test_one_of_several_workers_answers_for_all_and_another_takes_over(
    gunicorn: Callable[..., Any], preload: bool
) -> None:
    port = free_port()
    source = f"""
        from flask import Flask
        from flask_svc_infra.obs import add_observability
        app = Flask(__name__, static_folder=None)
        app.add_url_rule("/", "home", lambda: "ok")
        add_observability(app, listen="127.0.0.1:{port}")
    """
    server = gunicorn(source=source, workers=2, preload=preload, conf="python:flask_svc_infra.gunicorn")
    server.wait_ready("/")
    for _ in range(9):
        server.get("/")
    assert eventually(lambda: read(port))("http_requests_total", path="/", status="200") >= 10
    for pid in server.pids():
        os.kill(pid, signal.SIGKILL)
    server.wait_ready("/")
    assert eventually(lambda: read(port))("http_requests_total", path="/", status="200") >= 11
