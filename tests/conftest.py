"""Fixtures: real servers, one set for each xdist worker.

What cannot be started fails the tests, never skips them. ``postgres`` and ``valkey`` are a worker's servers:
stop, kill or restart them freely, they are healed after every test (and Valkey is emptied before it). A test
that needs a second one, or one nobody else has touched, takes ``private_postgres`` or ``private_valkey``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from support.clock import FakeClock
from support.gunicorn_runner import IMPORTED, Gunicorn
from support.postgres import PostgresServer
from support.prometheus import Alertmanager, Prometheus
from support.proxy import FaultProxy
from support.valkey import ValkeyServer
from support.web import WebServer

# A busy machine is no finding: what an example may take is for the test to say, where it matters.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """This worker's PostgreSQL; tests take ``postgres``, which heals it."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """PostgreSQL: ``.url``; ``.stop()`` (SIGSTOP), ``.cont()``, ``.kill()``, ``.restart()``; ``.proxy()``."""
    yield postgres_server
    postgres_server.heal()


@pytest.fixture
def private_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test's own (about 0.6 s)."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """This worker's Valkey; tests take ``valkey``, which heals and empties it."""
    server = ValkeyServer()
    yield server
    server.close()


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> Iterator[ValkeyServer]:
    """An empty Valkey: as ``postgres``, and ``.command("SCRIPT FLUSH")``."""
    valkey_server.command("FLUSHALL")
    yield valkey_server
    valkey_server.heal()


@pytest.fixture
def private_valkey() -> Iterator[ValkeyServer]:
    """A Valkey of this test's own."""
    server = ValkeyServer()
    yield server
    server.close()


@pytest.fixture
def web() -> Iterator[WebServer]:
    """An HTTP server whose ``status``, ``body``, ``headers``, ``delay``, ``drip`` can be set at any time."""
    with WebServer() as server:
        yield server


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[str, int], FaultProxy]]:
    """Make fault proxies: ``fault_proxy(host, port)``; closed after the test."""
    made: list[FaultProxy] = []

    def make(host: str, port: int, *, url: str = "") -> FaultProxy:
        made.append(FaultProxy(host, port, url=url))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def clock() -> FakeClock:
    """A monotonic clock that moves when told to."""
    return FakeClock()


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Callable[..., Gunicorn]]:
    """Run apps under gunicorn; every one is killed after the test.

    ``gunicorn(app="module:app", workers=3, worker_class="gthread", threads=4, preload=False, env={…},
    conf="python:flask_svc_infra.gunicorn")``. Instead of ``app``, ``source=`` takes the text of a module that
    defines ``app``; instead of ``conf``, ``conf_source=`` takes a conf file's text; ``arguments=`` adds to
    the command line. Modules under ``tests/`` can be named in ``app``. Returns once the port is open and the
    workers are forked; the app may still be importing: ``.wait_ready(path)`` waits for that, in every worker
    where ``source=`` was given, else in one.
    """
    made: list[Gunicorn] = []
    numbers = count(1)

    def run(
        app: str | None = None, *, source: str | None = None, conf_source: str | None = None, **options: Any
    ) -> Gunicorn:
        folder = tmp_path / f"gunicorn-{next(numbers)}"
        folder.mkdir()
        if source is not None:
            (folder / "served.py").write_text(textwrap.dedent(source) + IMPORTED, encoding="utf-8")
            app = "served:app"
        assert app is not None, "gunicorn() needs app='module:app' or source='…'"
        if conf_source is not None:
            options["conf"] = folder / "conf.py"
            options["conf"].write_text(textwrap.dedent(conf_source), encoding="utf-8")
        made.append(Gunicorn(app, folder, **options))
        return made[-1]

    yield run
    for server in made:
        server.kill()


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """Run a Prometheus: ``prometheus(targets=["127.0.0.1:8123"], rules=[path], alertmanager=am.address)``.

    A target takes some six seconds to appear: mark the test ``slow``. ``support.prometheus.promtool`` needs
    no server.
    """
    made: list[Prometheus] = []

    def run(**options: Any) -> Prometheus:
        folder = tmp_path / f"prometheus-{len(made) + 1}"
        folder.mkdir()
        made.append(Prometheus(folder, **options))
        return made[-1]

    yield run
    for server in made:
        server.close()


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Callable[..., Alertmanager]]:
    """Run an Alertmanager: ``alertmanager(webhook=web.url)``."""
    made: list[Alertmanager] = []

    def run(*, webhook: str) -> Alertmanager:
        folder = tmp_path / f"alertmanager-{len(made) + 1}"
        folder.mkdir()
        made.append(Alertmanager(folder, webhook=webhook))
        return made[-1]

    yield run
    for server in made:
        server.close()
