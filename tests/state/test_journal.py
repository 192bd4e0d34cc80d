"""The journal: who did what and why, be it a person, in code or by a command, or the circuit itself."""

from __future__ import annotations

import os
import socket
import time

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import ScriptInfo
from state.conftest import put
from support.processes import eventually

from flask_svc_infra import SvcInfra
from flask_svc_infra.cli import group
from flask_svc_infra.resilience import CircuitBreakerError, Outcome
from flask_svc_infra.state.urls import open_store

pytestmark = [pytest.mark.needs("redis"), pytest.mark.usefixtures("quick_polls")]


@pytest.fixture
def make_app(valkey):
    made = []

    def make():
        app = Flask("shop")
        app.config["SVC_INFRA_STATE_URL"] = valkey.url
        infra = SvcInfra(app, metrics=False)
        infra.breaker("payments", failure_threshold=2, recovery_timeout=0.1, success_threshold=1)
        made.append(infra)
        return app, infra

    yield make
    for infra in made:
        infra._sharing[1].stop()


@pytest.fixture
def command(make_app):
    def run(*arguments):
        info = ScriptInfo(create_app=lambda: make_app()[0], set_debug_flag=False)
        result = CliRunner().invoke(group, arguments, obj=info, prog_name="flask svc-infra")
        assert result.exit_code == 0, result.output

    return run


def test_every_change_is_there_with_its_time_reason_and_author(valkey, make_app, command):
    app, infra = make_app()
    began = time.time()
    app.test_client().get("/")
    breaker, store = infra.breakers["payments"], open_store(valkey.url + "?socket_timeout=5")

    def newest(*expected):
        entry = eventually(
            lambda: [e for e in store.act("journal", {"limit": 1})["entries"] if e["what"] == expected[1]],
            timeout=2,
        )[0]
        assert (entry["name"], entry["what"], entry["reason"]) == expected
        return entry["actor"]

    ours = f"{socket.gethostname()}:{os.getpid()}"
    for _ in range(2):
        breaker.admit().settle(Outcome.FAILURE)
    assert newest("payments", "closed -> open", "2 failures in a row") == ours

    def recovered():
        try:
            breaker.admit().settle(Outcome.SUCCESS)
        except CircuitBreakerError as refusal:
            raise AssertionError(str(refusal)) from refusal
        return breaker.state == "closed"

    eventually(recovered, timeout=3)
    newest("payments", "half_open -> closed", "a trial succeeded")
    breaker.force_open("the provider asked")
    assert newest("circuit:payments", "forced open", "the provider asked") == ours
    command("breakers", "disable", "payments", "--reason", "we know better")
    assert newest("circuit:payments", "disabled", "we know better").startswith("cli:")
    command("breakers", "reset", "payments", "--reason", "over")
    infra.maintenance.enable(mode="full", reason="we move", actor="ann")
    assert newest("maintenance", "full", "we move") == "ann"
    infra.maintenance.disable(reason="moved", actor="bob")
    assert newest("maintenance", "off", "moved") == "bob"
    command("maintenance", "on", "--mode", "read-only", "--reason", "again")
    assert newest("maintenance", "read-only", "again").startswith("cli:")
    entries = store.act("journal", {"limit": 1000})["entries"]
    told = [entry["what"] for entry in reversed(entries)]
    wanted = [
        "closed -> open",
        "open -> half_open",
        "half_open -> closed",
        "forced open",
        "disabled",
        "reset",
    ]
    assert [what for what in told if what in wanted][: len(wanted)] == wanted
    times = [entry["at"] for entry in entries]
    assert times == sorted(times, reverse=True)
    assert began * 1000 - 1000 <= times[-1] <= times[0] <= time.time() * 1000 + 1000
    for number in range(1000):
        put(store, what=f"order {number}")
    entries = store.act("journal", {"limit": 5000})["entries"]
    assert [entry["what"] for entry in entries] == [f"order {number}" for number in reversed(range(1000))]
    store.close()
