"""The store in a file: full and read-only disks, files that are not ours, that vanish, many processes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from state.conftest import acquire, open_, put, report, settle, sync
from state.worker import Process
from support.fleet import Worker
from support.forks import in_child
from support.processes import eventually

from flask_svc_infra.state.sqlite import SqliteStore
from flask_svc_infra.state.store import StoreError

OPTIONS = {"failure_threshold": 2, "recovery_timeout": 0.3, "success_threshold": 1, "poll": (0.2, 0.22)}
HOUR = 3_600_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@pytest.fixture
def begin(path):
    """Start a worker in a process of its own."""
    made = []

    def make(**options):
        made.append(Process(f"sqlite:///{path}", **{**OPTIONS, **options}))
        return made[-1]

    yield make
    for process in made:
        process.kill()


@pytest.fixture
def work(path, quick_polls, caplog):
    """Make a worker in this process."""
    caplog.set_level(logging.INFO, "flask_svc_infra.state")
    made = []

    def make(**options):
        worker = Worker(SqliteStore(str(path), "default"))
        worker.breaker(failure_threshold=2, success_threshold=1, **{"recovery_timeout": 0.3, **options})
        made.append(worker)
        return worker

    yield make
    for worker in made:
        worker.reporter.stop()


def whole(path):
    """Say whether the file is sound, as SQLite sees it."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


def trips_and_recovers_alone(process):
    """Have the circuit of *process* trip and close again with the store away."""
    process.ask("fail", 2)
    assert process.ask("state") == "open"
    eventually(lambda: process.ask("attempts", 1, 0), timeout=3)
    process.ask("settle", "SUCCESS")
    return process.ask("state") == "closed"


def test_a_full_disk_is_a_store_that_is_down_until_there_is_room(begin, path):
    one, other = begin(), begin()
    one.ask("room", 0)  # nothing this process writes arrives, as on a full disk
    one.ask("fail", 2)
    eventually(lambda: not one.ask("up"), timeout=3)
    assert one.ask("state") == "open"
    assert other.ask("state") == "closed"
    assert one.ask("longest", 200) < 0.025  # whoever waited for the file would wait twice that
    time.sleep(0.3)
    assert trips_and_recovers_alone(one)
    assert whole(path)
    one.ask("fail", 2)
    (said,) = one.ask("log")
    assert "does not answer (OperationalError: disk I/O error)" in said
    one.ask("room", -1)
    eventually(lambda: one.ask("up"), timeout=3)
    assert "answers again" in one.ask("log")[1]
    one.ask("fail", 2)
    eventually(lambda: other.ask("state") == "open", timeout=2)
    assert len(one.ask("log")) == 2
    assert other.ask("log") == []
