"""The board that says a service is draining: shared by its processes, and by nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from threading import Thread

import pytest
from flask import Flask

from flask_svc_infra.health import HealthRegistry, add_health_routes
from flask_svc_infra.mounts import mounts_of
from flask_svc_infra.ops import add_draining, draining


@pytest.fixture(autouse=True)
def _a_temporary_directory_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(draining, "_board", draining.Board())
    monkeypatch.setattr(draining, "_here", draining.Board())


def test_readiness_alone_is_held_back_while_draining():
    app = Flask("app")
    add_health_routes(app, HealthRegistry())
    add_draining(app)
    client = app.test_client()
    assert client.get("/_health/ready").status_code == 200
    draining.board().begin()
    reply = client.get("/_health/ready")
    assert reply.status_code == 503
    assert "draining" in reply.text
    assert [client.get(f"/_health/{probe}").status_code for probe in ("live", "startup")] == [200, 200]


def test_the_hold_is_put_up_once():
    app = Flask("app")
    add_draining(app)
    add_draining(app)
    assert [hold.name for hold in mounts_of(app).holds] == ["draining"]


def test_draining_begins_once_and_keeps_its_beginning():
    board = draining.board()
    assert not draining.is_draining()
    since = board.begin()
    assert since > 0
    assert board.begin() == since == draining.begin_here()
    assert draining.is_draining()


def test_a_worker_may_drain_alone():
    since = draining.begin_here()
    assert draining.begin_here() == since
    assert draining.is_draining()
    assert draining.board().since is None


def test_processes_forked_after_publication_share_the_board():
    draining.publish_board(os.getpid())
    draining.board().seconds = 7.5
    pid = os.fork()
    if pid == 0:
        draining.board().begin()
        os._exit(0 if draining.board().seconds == 7.5 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert draining.is_draining()


def test_another_process_can_start_the_drain(tmp_path):
    draining.publish_board(os.getpid())
    draining.board().seconds = 3
    code = "from flask_svc_infra.ops.draining import start_drain; print(start_drain())"
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str({os.getpid(): 3.0})
    assert draining.is_draining()


def test_only_the_service_that_is_named_is_told():
    draining.publish_board(os.getpid())
    with pytest.raises(RuntimeError, match="process 1 is no service here"):
        draining.start_drain(1)
    assert not draining.is_draining()
    assert draining.start_drain(os.getpid()) == {os.getpid(): 0.0}


def test_of_several_services_none_is_told_unless_it_is_named():
    """On a host without containers the others are other people's services."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        draining.publish_board(other.pid)
        theirs = draining.board()
        draining.publish_board(os.getpid())
        with pytest.raises(RuntimeError, match=r"2 services .* nothing was changed\. Name one") as refused:
            draining.start_drain()
        assert all(str(pid) in str(refused.value) for pid in (os.getpid(), other.pid))
        assert theirs.since is None
        assert not draining.is_draining()
        assert draining.start_drain(other.pid) == {other.pid: 0.0}
        assert theirs.since is not None
        assert not draining.is_draining()
    finally:
        other.communicate()


def test_without_a_service_the_cure_is_named():
    with pytest.raises(
        RuntimeError, match=r"no service.*nothing was changed.*python:flask_svc_infra\.gunicorn"
    ):
        draining.start_drain()


def test_a_dead_masters_file_is_removed_and_not_told():
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = draining.publish_board(dead.pid)
    with pytest.raises(RuntimeError, match="no service"):
        draining.start_drain()
    assert not path.exists()


def test_a_new_master_of_the_same_id_begins_anew():
    draining.publish_board(os.getpid())
    old = draining.board()
    old.begin()
    draining.publish_board(os.getpid())
    assert not draining.is_draining()
    assert old.since is not None


def test_the_file_is_removed_at_the_end_and_the_board_goes_on():
    path = draining.publish_board(os.getpid())
    assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0
    draining.remove_board(os.getpid())
    draining.remove_board(os.getpid())
    assert not path.exists()
    draining.board().begin()
    assert draining.is_draining()


@pytest.mark.parametrize("made_by", ["a link", "an open directory", "a file"])
def test_a_directory_somebody_else_could_write_is_not_used(tmp_path, made_by):
    folder = draining._folder(make=False)
    if made_by == "a link":
        folder.symlink_to(tmp_path)
    elif made_by == "a file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with pytest.raises(OSError, match=r"Remove it, or set TMPDIR|File exists"):
        draining.publish_board(os.getpid())
    assert draining.board().since is None


def test_readers_never_see_half_a_write():
    board, seen, done = draining.Board(), set(), []

    def read():
        while not done:
            seen.add(board.seconds)

    reader = Thread(target=read)
    reader.start()
    for _ in range(20_000):
        board.seconds = 1.1
        board.seconds = 2.0**60
    done.append(True)
    reader.join()
    assert seen <= {0.0, 1.1, 2.0**60}
