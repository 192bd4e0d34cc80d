"""Small real servers, and a terminal to run the commands in."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import ScriptInfo

from flask_svc_infra.cli import group

from ._server import Script, Server, serving


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Server]]:
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(serving(script))


@pytest.fixture
def nobody() -> str:
    """A URL where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}/health"


@pytest.fixture
def flask_command() -> Callable[..., Result]:
    """Run ``flask svc-infra …`` in this process: ``flask_command("health", "show", app=app)``."""

    def run(*arguments: str, app: Flask | Callable[[], Flask] | None = None) -> Result:
        make = None if app is None else (lambda: app) if isinstance(app, Flask) else app
        # A bare ScriptInfo finds no app, as on a machine that has only the package.
        info = ScriptInfo(create_app=make, set_debug_flag=False)
        return CliRunner().invoke(group, arguments, obj=info, prog_name="flask svc-infra")

    return run
