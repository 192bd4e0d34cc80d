"""A terminal to run the commands in, and a real HTTP server that answers like Grafana or Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from flask.cli import ScriptInfo
from werkzeug.serving import make_server

from flask_svc_infra.cli import group

if TYPE_CHECKING:
    from flask import Flask


@pytest.fixture
def flask_command() -> Callable[..., Result]:
    """Run ``flask svc-infra …`` in this process: ``flask_command("rules", "generate", app=app)``."""

    def run(*arguments: str, app: Flask | None = None, env: dict[str, str] | None = None) -> Result:
        info = ScriptInfo(create_app=None if app is None else lambda: app, set_debug_flag=False)
        return CliRunner(env=env).invoke(group, arguments, obj=info, prog_name="flask svc-infra")

    return run


@contextmanager
def _serving(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Flask], str]]:
    """Serve an app on the loopback; returns its address."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(_serving(app))
