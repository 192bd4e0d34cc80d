"""``flask svc-infra drain``, from outside a running gunicorn."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from support.processes import eventually
from support.web import request

from flask_svc_infra.ops import draining

FLASK = Path(sysconfig.get_path("scripts")) / "flask"

SOURCE = """
    from flask import Flask
    from flask_svc_infra import SvcInfra

    app = Flask(__name__)
    SvcInfra(app)
"""


def drain(*arguments: str, tmpdir: Path, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    env = {"PATH": path, "TMPDIR": str(tmpdir)}
    return subprocess.run(
        [FLASK, "svc-infra", "drain", *arguments],
        env=env, cwd=tmpdir, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_readiness_says_503_and_the_service_goes_on(gunicorn, tmp_path):
    server = gunicorn(
        source=SOURCE,
        workers=2,
        conf="python:flask_svc_infra.gunicorn",
        env={"TMPDIR": str(tmp_path), "SVC_INFRA_DRAIN_SECONDS": "5"},
    )
    server.wait_ready("/_health/ready")
    done = drain("--json", tmpdir=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [told["seconds"] for told in json.loads(done.stdout)] == [5.0]
    assert done.stderr == ""
    eventually(lambda: request(server.url + "/_health/ready").status == 503)
    assert request(server.url + "/_health/live").status == 200


def test_a_drain_of_no_seconds_is_warned_of(tmp_path, monkeypatch, flask_command):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(draining, "_board", draining.Board())
    draining.publish_board(os.getpid())
    done = flask_command("drain")
    assert done.exit_code == 0
    assert done.stdout == f"process {os.getpid()} drains: readiness says 503\n"
    assert "the stop signal ends it at once" in done.stderr
    assert "SVC_INFRA_DRAIN_SECONDS" in done.stderr


def test_nothing_to_drain_exits_1_with_the_cure(tmp_path):
    done = drain(tmpdir=tmp_path)
    assert done.returncode == 1
    assert "gunicorn -c python:flask_svc_infra.gunicorn" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_pid_exits_2(tmp_path):
    assert drain("--pid", "-1", tmpdir=tmp_path).returncode == 2
