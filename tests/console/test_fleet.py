"""Under a real gunicorn: who orders at one worker's console has ordered in all."""

from __future__ import annotations

import time
from base64 import b64encode
from urllib.parse import urlencode

import pytest
from console.reading import Reader
from support.processes import eventually

SOURCE = """
    import os
    from flask import Flask
    from flask_svc_infra import SvcInfra

    app = Flask("shop")
    app.config.from_prefixed_env()

    def may_operate(request, action):
        who = request.authorization
        return who is not None and who.password == "correct horse"

    infra = SvcInfra(app, authorize=may_operate)
    payments = infra.breaker("payments", failure_threshold=2, recovery_timeout=60)

    @app.get("/state")
    def state():
        forced = payments.forced
        return {"pid": os.getpid(), "forced": forced and forced.kind}
"""
HEADERS = {
    "Authorization": "Basic " + b64encode(b"ann:correct horse").decode(),
    "Content-Type": "application/x-www-form-urlencoded",
}


@pytest.mark.parametrize(
    ("kind", "worker_class"), [("sqlite", "sync"), ("valkey", "gthread")], ids=["sqlite", "valkey"]
)
def test_an_order_at_one_worker_reaches_all_and_the_journal_says_who_and_why(
    gunicorn, valkey, tmp_path, kind, worker_class
):
    url = valkey.url if kind == "valkey" else f"sqlite:///{tmp_path / 'state.db'}"
    env = {"FLASK_SVC_INFRA_STATE_URL": url, "FLASK_SVC_INFRA_CONSOLE": "true"}
    server = gunicorn(source=SOURCE, workers=2, worker_class=worker_class, threads=2, env=env)
    server.wait_ready("/state")

    def states():
        found = {}
        for _ in range(16):
            reply = server.get("/state")
            if reply.status != 200:
                return reply.status
            found[reply.json()["pid"]] = reply.json()["forced"]
        return found

    def order(obeyed, **fields):
        reply = server.request("/_ops/console", "POST", body=urlencode(fields), headers=HEADERS)
        assert reply.status == 303, reply.text
        began = time.monotonic()
        eventually(obeyed, timeout=10)
        took.append(time.monotonic() - began)

    took = []
    eventually(lambda: len(states()) == 2)
    assert server.get("/_ops/console").status == 403
    order(
        lambda: set(states().values()) == {"open"},
        action="breaker.force_open",
        circuit="payments",
        reason="the provider asked",
    )
    order(lambda: set(states().values()) == {None}, action="breaker.reset", circuit="payments")
    order(
        lambda: all(server.get("/state").status == 503 for _ in range(16)),
        action="maintenance.enable",
        mode="full",
        reason="we move the database",
    )
    page = Reader(server.get("/_ops/console", headers=HEADERS).text).open[0]
    journal = page.one("section", **{"aria-labelledby": "journal"}).one("tbody").all("tr")
    entries = [[cell.text for cell in row.children if not isinstance(cell, str)][1:] for row in journal]
    ordered = [entry for entry in entries if "->" not in entry[1]]
    assert ordered[:3] == [
        ["maintenance", "full", "console:ann", "we move the database"],
        ["payments", "reset", "console:ann", "-"],
        ["payments", "forced open", "console:ann", "the provider asked"],
    ]
    order(lambda: isinstance(states(), dict), action="maintenance.disable")
    assert sorted(took)[2] <= 1.5, took  # the slowest may have met a busy machine

    chunked = {**HEADERS, "Transfer-Encoding": "chunked"}
    assert server.request("/_ops/console", "POST", body=b"0\r\n\r\n", headers=chunked).status in (400, 411)
