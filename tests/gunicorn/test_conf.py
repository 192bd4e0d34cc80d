"""The conf module: the workers' metrics meet, the dead are cleared up, one's own conf file combines."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.gunicorn_runner import switches
from support.processes import eventually
from support.served import APP, CONF

MEASURED = (
    APP
    + """
    import prometheus_client
    from flask_svc_infra.obs import add_observability

    add_observability(app)

    @app.get("/where")
    def where():
        return os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")

    @app.get("/value-class")
    def value_class():
        return str(prometheus_client.values.ValueClass._multiprocess)
"""
)


def samples(server, name):
    text = server.get("/metrics").text
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def counted(server, path):
    found = samples(server, "http_requests_total")
    return sum(value for labels, value in found.items() if ("path", path) in labels)


def ask_every_worker(server, path="/pid"):
    """GET *path* until every worker has answered; return how often it was asked."""
    asked, answered, workers = 0, set(), {str(pid) for pid in server.pids()}

    def all_answered():
        nonlocal asked
        answered.add(server.get(path).text)
        asked += 1
        return workers <= answered

    eventually(all_answered, timeout=20, interval=0)
    return asked


@pytest.mark.parametrize("worker_class", ["sync", "gthread"])
def test_a_scrape_shows_the_requests_of_all_three_workers(serve, worker_class):
    server = serve(source=MEASURED, workers=3, worker_class=worker_class, threads=4)
    asked = ask_every_worker(server)
    assert counted(server, "/pid") == asked
    assert server.get("/value-class").text == "True"


def test_a_killed_workers_counts_stay_and_its_gauges_go(serve):
    server = serve(source=MEASURED, workers=2)
    asked = ask_every_worker(server)
    victim = server.pids()[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(server.pids()) == 2 and victim not in server.pids())
    assert counted(server, "/pid") == asked
    directory = Path(server.get("/where").text)
    assert not [path for path in directory.glob("*.db") if f"_{victim}" in path.name]
    assert counted(server, "/pid") == asked


def test_each_master_has_a_fresh_directory_and_removes_it(serve):
    one, other = serve(source=MEASURED), serve(source=MEASURED)
    directories = [Path(server.get("/where").text) for server in (one, other)]
    assert directories[0] != directories[1]
    assert all(directory.is_dir() for directory in directories)
    assert one.stop() == 0
    assert [directory.exists() for directory in directories] == [False, True]
    assert counted(other, "/where") == 1


def test_what_a_killed_master_left_is_removed_by_the_next_one(serve):
    killed = serve(source=MEASURED)
    left = Path(killed.get("/where").text)
    killed.kill()
    assert left.exists()
    server = serve(source=MEASURED)
    assert not left.exists()
    assert Path(server.get("/where").text).is_dir()


def test_a_directory_of_ones_own_is_used_and_kept(serve, tmp_path):
    mine = tmp_path / "metrics"
    mine.mkdir()
    (mine / "counter_999999.db").write_bytes(b"")  # what a dead process left
    server = serve(source=MEASURED, env={"PROMETHEUS_MULTIPROC_DIR": str(mine)})
    assert server.get("/where").text == str(mine)
    assert not (mine / "counter_999999.db").exists()
    assert server.stop() == 0
    assert mine.is_dir()


OWN_CONF = """
    from flask_svc_infra import gunicorn as infra
    from flask_svc_infra.gunicorn import *

    workers = 2

    def child_exit(server, worker):
        infra.child_exit(server, worker)
        server.log.info("mine too: %s", worker.pid)

    def post_fork(server, worker):
        server.log.info("hook of my own")
"""


def test_a_conf_file_of_ones_own_combines_with_ours(serve):
    server = serve(source=MEASURED, workers=2, conf_source=OWN_CONF, env={"SVC_INFRA_DRAIN_SECONDS": "1"})
    asked = ask_every_worker(server)
    victim = server.pids()[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: f"mine too: {victim}" in server.log)
    eventually(lambda: len(server.pids()) == 2)
    assert "hook of my own" in server.log
    assert counted(server, "/pid") == asked
    server.signal(signal.SIGTERM)
    eventually(lambda: server.get("/ready").status == 503)
    assert server.wait() == 0


@pytest.mark.parametrize(
    ("options", "patched"),
    [
        ({"worker_class": "gevent", "conf": CONF}, "True"),
        ({"worker_class": "gthread", "conf": CONF}, "False"),
        ({"arguments": ("--worker-class", "gevent"), "conf": CONF}, "True"),
        ({"env": {"GUNICORN_CMD_ARGS": "--threads 2"}, "conf": CONF}, "False"),
    ],
    ids=["gevent", "gthread", "last word counts", "cmd-args"],
)
def test_the_master_patches_for_gevent_before_the_app_is_preloaded(serve, options, patched):
    source = (
        APP
        + """
    import threading
    LOCK = type(threading.Lock()).__module__

    @app.get("/patched")
    def patched():
        return str("gevent" in LOCK)
"""
    )
    server = serve(source=source, preload=True, **options)
    assert server.get("/patched").text == patched


def test_hooks_are_ours_and_names_of_gunicorns_settings_are_meant():
    from gunicorn.config import KNOWN_SETTINGS

    import flask_svc_infra.gunicorn as conf

    known = {setting.name for setting in KNOWN_SETTINGS}
    assert set(conf.__all__) <= known
    assert {name for name in vars(conf) if name in known} == set(conf.__all__)


def test_importing_the_module_outside_gunicorn_does_nothing():
    code = """
import os, sys, flask_svc_infra.gunicorn as conf
print("PROMETHEUS_MULTIPROC_DIR" in os.environ, "prometheus_client" in sys.modules, "flask" in sys.modules)
print(conf.graceful_timeout)
"""
    environ = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"}
    environ["SVC_INFRA_DRAIN_SECONDS"] = "nonsense"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False", "False", "30"]


def test_a_malformed_drain_is_refused_before_anything_is_served(tmp_path):
    (tmp_path / "served.py").write_text("def app(environ, start_response): ...")
    argv = [
        sys.executable,
        "-m",
        "gunicorn",
        *switches(),
        "-b",
        "127.0.0.1:0",
        "-c",
        CONF,
        "served:app",
    ]
    environ = {**os.environ, "FLASK_SVC_INFRA_DRAIN_SECONDS": "soon"}
    done = subprocess.run(
        argv, check=False, env=environ, capture_output=True, text=True, timeout=20, cwd=tmp_path
    )
    assert done.returncode != 0
    assert "SVC_INFRA_DRAIN_SECONDS is 'soon', which cannot work" in done.stderr


def test_threads_of_a_preloaded_app_are_named_in_the_log(serve):
    source = (
        APP
        + """
    import threading
    threading.Thread(target=threading.Event().wait, name="left-behind", daemon=True).start()
"""
    )
    server = serve(source=source, preload=True)
    warned = re.search(r"the preloaded app has started threads \(left-behind\)", server.log)
    assert warned, server.log


def test_a_drain_longer_than_the_grace_is_cut_and_said_so(serve):
    server = serve(arguments=("--graceful-timeout", "2"), env={"SVC_INFRA_DRAIN_SECONDS": "30"})
    eventually(lambda: "the drain is cut to 1 seconds. Raise --graceful-timeout" in server.log)
    server.signal(signal.SIGTERM)
    assert server.wait(timeout=10) == 0


@pytest.mark.needs("gunicorn")
def test_directory_that_cannot_be_made_stops_gunicorn_with_its_name_and_the_cure():
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", CONF, "--check-config", "flask:Flask"],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": "/proc/here"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode != 0
    assert "the workers' metrics cannot meet in '/proc/here' (No such file or directory)" in done.stderr
    assert "Traceback" not in done.stderr.rpartition("\nError: ")[2]
