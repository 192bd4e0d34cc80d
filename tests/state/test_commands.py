"""``flask svc-infra breakers`` and ``maintenance`` act on all workers, through the store."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import ScriptInfo
from state.conftest import open_
from support.processes import eventually

from flask_svc_infra import SvcInfra
from flask_svc_infra.cli import group

pytestmark = pytest.mark.usefixtures("quick_polls")


@pytest.fixture
def app_of(tmp_path):
    """Make apps of one fleet: ``app, infra = app_of()``."""
    made = []

    def make(url=f"sqlite:///{tmp_path / 'state.db'}"):
        app = Flask("shop")
        app.config["SVC_INFRA_STATE_URL"] = url
        infra = SvcInfra(metrics=False)
        infra.breaker("payments", failure_threshold=2)
        infra.init_app(app)
        made.append(infra)
        return app, infra

    yield make
    for infra in made:
        if infra._sharing is not None:
            infra._sharing[1].stop()


@pytest.fixture
def run(app_of):
    def command(*arguments, url=None):
        def make():
            return (app_of(url) if url else app_of())[0]

        info = ScriptInfo(create_app=make, set_debug_flag=False)
        return CliRunner().invoke(group, arguments, obj=info, prog_name="flask svc-infra")

    return command


COMMANDS = [
    ("breakers", "list"),
    ("breakers", "show", "payments"),
    ("breakers", "force-open", "payments"),
    ("breakers", "disable", "payments"),
    ("breakers", "reset", "payments"),
    ("maintenance", "on"),
    ("maintenance", "off"),
    ("maintenance", "status"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_refused_on_memory_with_the_cure(run, arguments):
    result = run(*arguments, url="memory://")
    assert result.exit_code == 1
    assert "SVC_INFRA_STATE_URL" in result.output
    assert "sqlite:////path.db" in result.output


@pytest.mark.needs("redis")
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_dead_store_is_an_error_that_names_no_secret(run, arguments):
    result = run(*arguments, url="redis://:hunter2secret@127.0.0.1:1/0")
    assert result.exit_code == 1
    assert "does not answer" in result.output
    assert "hunter2secret" not in result.output


def test_force_open_and_reset_reach_a_running_worker(run, app_of):
    app, infra = app_of()
    app.test_client().get("/")  # the first request begins the polls
    breaker = infra.breakers["payments"]
    assert run("breakers", "force-open", "payments", "--reason", "the provider asked").exit_code == 0
    eventually(lambda: breaker.state == "open", timeout=1.5)
    assert breaker.forced.reason == "the provider asked"
    assert run("breakers", "disable", "payments").exit_code == 0
    eventually(lambda: breaker.forced.kind == "disabled", timeout=1.5)
    assert run("breakers", "reset", "payments").exit_code == 0
    eventually(lambda: breaker.forced is None, timeout=1.5)
    assert breaker.state == "closed"


def test_reset_closes_what_the_fleet_has_opened(run, app_of):
    app, infra = app_of()
    app.test_client().get("/")
    breaker = infra.breakers["payments"]
    open_(infra._sharing[1].store, recovery=60_000)
    eventually(lambda: breaker.state == "open", timeout=1.5)
    assert run("breakers", "reset", "payments").exit_code == 0
    eventually(lambda: breaker.state == "closed", timeout=1.5)


def test_list_and_show(run, app_of):
    rows = json.loads(run("breakers", "list", "--json").output)
    assert [(row["name"], row["state"], row["forced"]) for row in rows] == [("payments", "closed", None)]
    run("breakers", "force-open", "payments", "-r", "why\x1b[31m not")
    assert "force" in run("breakers", "list").output.lower()
    shown = run("breakers", "show", "payments")
    assert "\x1b" not in shown.output
    assert "forced open" in shown.output
    assert "cli:" in shown.output
    row = json.loads(run("breakers", "show", "payments", "--json").output)
    assert (row["state"], row["forced"]) == ("open", "open")


def test_an_unknown_circuit_is_refused_with_those_there_are(run):
    result = run("breakers", "force-open", "paymnets")
    assert result.exit_code == 1
    assert "'payments'" in result.output


def test_maintenance_reaches_a_running_worker(run, app_of):
    app, _ = app_of()
    client = app.test_client()
    assert client.post("/").status_code == 404
    result = run("maintenance", "on", "--mode", "full", "--reason", "disk", "--retry-after", "9")
    assert result.exit_code == 0, result.output
    reply = eventually(lambda: (r := client.get("/")).status_code == 503 and r, timeout=1.5)
    assert reply.headers["Retry-After"] == "9"
    status = json.loads(run("maintenance", "status", "--json").output)
    assert (status["mode"], status["reason"]) == ("full", "disk")
    assert run("maintenance", "off").exit_code == 0
    eventually(lambda: client.get("/").status_code == 404, timeout=1.5)
    assert json.loads(run("maintenance", "status", "--json").output)["mode"] == "off"


def test_a_new_worker_knows_before_its_first_request(run, app_of):
    run("maintenance", "on", "--mode", "full")
    app, _ = app_of()
    assert app.test_client().get("/").status_code == 503


@pytest.mark.parametrize("duration", ["0", "-1", "x", "nan", "1e300"])
def test_a_duration_that_cannot_be_is_usage(run, duration):
    assert run("maintenance", "on", "--duration", duration).exit_code == 2


def test_maintenance_for_a_while(run):
    run("maintenance", "on", "--duration", "60")
    assert 50 < json.loads(run("maintenance", "status", "--json").output)["remaining"] <= 60
