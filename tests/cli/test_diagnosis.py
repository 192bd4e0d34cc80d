"""What ``doctor`` looks at outside of the app."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from flask_svc_infra.cli import diagnosis


def levels(findings):
    return [finding.level for finding in findings]


def test_every_finding_that_is_not_good_has_a_cure():
    findings = [
        diagnosis.gunicorn_release("19.9.0"),
        diagnosis.multiprocess(None, 4),
        diagnosis.multiprocess("/proc/version", 1),
        *diagnosis.environment(
            {"SVC_INFRA_X": "1", "FLASK_SVC_INFRA_Y": "1", "F": "?", "G": "1"}, {}, ["F", "G"]
        ),
    ]
    assert set(levels(findings)) == {"warning", "problem"}
    assert all(finding.cure for finding in findings)


def test_missing_driver_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(diagnosis._EXTRAS, "postgres", ("json", "check_database"))  # a module that is there
    by_text = {finding.text.partition(":")[0]: finding for finding in diagnosis.drivers()}
    assert by_text["check_database"].cure is None
    assert "not installed" in by_text["check_redis"].text
    assert "pip install 'flask-svc-infra[redis]'" in by_text["check_redis"].cure


@pytest.mark.parametrize(
    ("release", "level"),
    [(None, "ok"), ("27.0.1", "ok"), ("22.0.0", "ok"), ("21.2.0", "warning"), ("23.0.dev1", "ok")],
)
def test_old_gunicorn_is_a_warning(release, level):
    assert diagnosis.gunicorn_release(release).level == level


@pytest.mark.parametrize(
    ("environ", "workers"),
    [
        ({}, 1),
        ({"WEB_CONCURRENCY": "4"}, 4),
        ({"WEB_CONCURRENCY": "many"}, 1),
        ({"WEB_CONCURRENCY": ""}, 1),
        ({"GUNICORN_CMD_ARGS": "-w 3"}, 3),
        ({"GUNICORN_CMD_ARGS": "--bind=:80 -w3"}, 3),
        ({"GUNICORN_CMD_ARGS": "--workers 3 --threads 9"}, 3),
        ({"GUNICORN_CMD_ARGS": "--workers=3", "WEB_CONCURRENCY": "2"}, 3),
        ({"GUNICORN_CMD_ARGS": "--workers"}, 1),
        ({"GUNICORN_CMD_ARGS": "--name 'unclosed -w 2"}, 2),
    ],
)
def test_workers_are_read_as_gunicorn_reads_them(environ, workers):
    assert diagnosis.workers_wanted(environ) == workers


def test_several_workers_need_a_directory_to_share(tmp_path):
    assert diagnosis.multiprocess(None, 1).level == "ok"
    finding = diagnosis.multiprocess(None, 2)
    assert finding.level == "warning"
    assert "gunicorn -c python:flask_svc_infra.gunicorn" in finding.cure
    assert diagnosis.multiprocess(str(tmp_path), 2).level == "ok"
    assert diagnosis.multiprocess(str(tmp_path / "to" / "be" / "made"), 2).level == "ok"


def test_directory_that_cannot_be_written_is_a_problem(tmp_path):
    (tmp_path / "file").touch()
    assert diagnosis.multiprocess(str(tmp_path / "file"), 1).level == "problem"
    assert diagnosis.multiprocess(str(tmp_path / "file" / "under"), 1).level == "problem"
    if os.geteuid() != 0:  # root may write anywhere
        tmp_path.chmod(0o500)
        assert diagnosis.multiprocess(str(tmp_path), 1).level == "problem"


def test_multiprocess_directory_that_takes_no_file_is_a_problem_even_for_root():
    finding = diagnosis.multiprocess("/proc", 1)
    assert finding.level == "problem"
    assert "'/proc', where this user cannot write (No such file or directory)" in finding.text


def test_setting_that_nobody_reads_is_a_warning():
    environ = {"SVC_INFRA_METRICS_PATH": "/m", "FLASK_SVC_INFRA_OPS_PREFIX": "/o", "PATH": "/bin"}
    first, second = diagnosis.environment(environ, {}, [])
    assert first.text.startswith(
        "FLASK_SVC_INFRA_OPS_PREFIX is set in the environment and the app does not read it"
    )
    assert "from_prefixed_env() before init_app" in first.cure
    assert "Name it FLASK_SVC_INFRA_METRICS_PATH" in second.cure
    read = {"SVC_INFRA_METRICS_PATH": "/m", "SVC_INFRA_OPS_PREFIX": "/o"}
    assert diagnosis.environment(environ, read, []) == []
    assert diagnosis.environment({"SVC_INFRA_DRAIN_SECONDS": "5"}, {}, []) == []


@pytest.mark.parametrize(
    ("value", "level", "words"),
    [
        ("", "ok", "off"),
        (" No ", "ok", "off"),
        ("1", "warning", "is on"),
        ("ture", "warning", "neither on nor off"),
    ],
)
def test_flags_are_read_as_the_gates_read_them(value, level, words):
    (finding,) = diagnosis.environment({"CIRCUIT_OPEN": value}, {}, ["CIRCUIT_OPEN"])
    assert finding.level == level
    assert words in finding.text


def test_releases_are_listed_and_missing_ones_said():
    assert "flask-svc-infra 0" in diagnosis.releases(["flask-svc-infra"]).text
    assert diagnosis.releases(["no-such-distribution"]).text == "no-such-distribution (missing)"


def test_relative_directory_is_looked_up_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("metrics").mkdir()
    assert diagnosis.multiprocess("metrics", 1).level == "ok"
    assert diagnosis.multiprocess("elsewhere/metrics", 1).level == "ok"
