"""Stores of every kind."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.valkey import ValkeyServer

from flask_svc_infra.state import redis_urls, reporter
from flask_svc_infra.state.store import MemoryStore, Store
from flask_svc_infra.state.urls import open_store


@pytest.fixture(autouse=True)
def _a_busy_machine_is_no_finding(monkeypatch):
    """Thrice the time for an answer: two cores that run a whole suite are late by 50 ms now and then."""
    monkeypatch.setattr(redis_urls, "TIMEOUT", 0.15)


@pytest.fixture
def quick_polls(monkeypatch):
    """Polls every fifth of a second; the rule's own second is for the tests of the reporter."""
    monkeypatch.setattr(reporter, "POLL", (0.2, 0.22))


@pytest.fixture
def said(caplog) -> Callable[[], list[str]]:
    """Return the lines that the state store's thread has written."""
    return lambda: [
        record.getMessage() for record in caplog.records if record.name == "flask_svc_infra.state"
    ]


KINDS = ["memory", "sqlite", "valkey"]
if shutil.which("redis-server"):
    KINDS.append("redis")


class RedisServer(ValkeyServer):
    """Debian's Redis, driven like Valkey."""

    @staticmethod
    def binary() -> Path:
        found = shutil.which("redis-server")
        assert found is not None, "redis-server is not installed"
        return Path(found)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(params=KINDS)
def make_store(request, tmp_path) -> Callable[..., Store]:
    """Make stores that see one state: ``make_store(namespace="default")``, one for each process in real
    life."""
    made: list[Store] = []
    memory: dict[str, MemoryStore] = {}
    kind = request.param
    if kind == "valkey":
        server = request.getfixturevalue("valkey")
    elif kind == "redis":
        server = request.getfixturevalue("redis_server")
        server.command("FLUSHALL")

    def make(namespace: str = "default") -> Store:
        if kind == "memory":
            return memory.setdefault(namespace, MemoryStore())
        url = f"sqlite:///{tmp_path / 'state.db'}" if kind == "sqlite" else server.url
        made.append(open_store(url, namespace=namespace))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store) -> Store:
    return make_store()


def sync(store: Store, *reports: dict[str, Any], seen: int = 0, probe: bool = False) -> dict[str, Any]:
    return store.act("sync", {"seen": seen, "reports": list(reports), "probe": probe})


def report(
    name: str = "payments",
    *,
    epoch: int = 0,
    run: int = 0,
    succeeded: bool = False,
    calls: int = 0,
    windows: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    return {
        "name": name,
        "epoch": epoch,
        "run": run,
        "succeeded": succeeded,
        "calls": calls,
        "windows": list(windows),
    }


def window(hits: int, *, last: int = 0, span: int = 0) -> dict[str, Any]:
    return {"id": f"{last}/{span}", "last": last, "span": span, "hits": hits}


def open_(store: Store, name: str = "payments", **changed: Any) -> dict[str, Any]:
    args = {
        "name": name,
        "epoch": 0,
        "recovery": 0,
        "opens": 0,
        "reason": "5 failures in a row",
        "host": "a",
        "quorum": 1,
        "vote": 60_000,
        "actor": "a:1",
    }
    return store.act("open", args | changed)["record"]


def acquire(store: Store, permit: str = "p1", name: str = "payments", **changed: Any) -> dict[str, Any]:
    args = {
        "name": name,
        "epoch": 1,
        "permit": permit,
        "limit": 3,
        "lease": 30_000,
        "opens": 1,
        "reason": "tripped",
        "actor": "a:1",
    }
    return store.act("acquire", args | changed)


def settle(store: Store, permit: str, outcome: str, name: str = "payments", **changed: Any) -> dict[str, Any]:
    args = {
        "name": name,
        "epoch": 2,
        "permit": permit,
        "outcome": outcome,
        "threshold": 2,
        "recovery": 3_600_000,
        "opens": 1,
        "reason": f"a trial ended in {outcome}",
        "actor": "a:1",
    }
    return store.act("settle", args | changed)["record"]


def restore(store: Store, name: str = "payments", **changed: Any) -> dict[str, Any]:
    args = {
        "name": name,
        "epoch": 7,
        "state": "open",
        "recovery": 3_600_000,
        "opens": 2,
        "reason": "as it was",
        "actor": "a:1",
    }
    return store.act("restore", args | changed)["record"]


def put(store: Store, key: str = "maintenance", body: str = "{}", **changed: Any) -> dict[str, Any]:
    args = {
        "key": key,
        "version": 0,
        "age": 0,
        "body": body,
        "duration": None,
        "restore": False,
        "what": "full",
        "reason": None,
        "actor": "cli",
    }
    return store.act("put", args | changed)["document"]
