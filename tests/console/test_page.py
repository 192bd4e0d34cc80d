"""What the person who is paged sees."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from console.reading import Page
from flask import Flask
from state.conftest import open_, put
from support.processes import eventually

from flask_svc_infra import ConfigurationError, SvcInfra
from flask_svc_infra.resilience import consecutive, failure_rate, slow_rate
from flask_svc_infra.state.urls import open_store

MEMORY = "memory://"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;"


def test_it_is_off_unless_it_is_asked_for():
    app = Flask("shop")
    SvcInfra(app, authorize=lambda _request, _action: True)
    assert app.test_client().get("/_ops/console").status_code == 404


def test_who_does_not_serve_it_does_not_import_it():
    source = "import sys, flask, flask_svc_infra as f; f.SvcInfra(flask.Flask('a')); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert "flask_svc_infra.extension" in run.stdout
    assert "flask_svc_infra.console" not in run.stdout


def test_on_without_authorize_is_refused_with_the_cure_and_mounts_nothing():
    app = Flask("shop")
    app.config["SVC_INFRA_CONSOLE"] = "on"
    with pytest.raises(
        ConfigurationError, match=r"SVC_INFRA_CONSOLE is on.*SvcInfra\(authorize=may_operate\)"
    ):
        SvcInfra(app)
    assert app.test_client().get("/_ops/live").status_code == 404
    assert not app.blueprints


def test_the_flag_is_read_strictly():
    app = Flask("shop")
    app.config["SVC_INFRA_CONSOLE"] = "perhaps"
    with pytest.raises(ConfigurationError, match="SVC_INFRA_CONSOLE is 'perhaps'"):
        SvcInfra(app, authorize=lambda _request, _action: True)


@pytest.mark.parametrize("path", ["/_ops/console", "/_ops/console/style.css"])
def test_metrics_cannot_be_where_the_console_is(path):
    app = Flask("shop")
    app.config.update(SVC_INFRA_CONSOLE=True, SVC_INFRA_METRICS_PATH=path)
    with pytest.raises(ConfigurationError, match="where the console is served"):
        SvcInfra(app, authorize=lambda _request, _action: True)


def test_a_quiet_service_says_so(console):
    page = console().page()
    assert page.status == 200
    assert page.tree.one("h1").text == "shop"
    assert page.concerns == []
    assert "Nothing needs attention." in page.text
    assert page.switch["Ordered for every worker"] == "off"
    assert page.circuit("payments")["State"] == "closed"
    assert page.circuit("payments")["Opens at"] == "2 failures in a row (now 0)"
    assert page.journal == []
    assert page.forms == []


def test_it_shows_what_is_wrong_first(console):
    worker = console()
    worker.infra.health.add("database", lambda: False)
    worker.infra.maintenance.enable(mode="full", reason="we move", actor="ann")
    for _ in range(2):
        with pytest.raises(OSError, match="down"), worker.infra.breakers["payments"]:
            raise OSError("down")
    page = eventually(lambda: (p := worker.page()).circuit("payments")["State"] == "open" and p)
    assert page.concerns == [
        "Maintenance is full.",
        "1 circuit is not closed: payments.",
        "1 check is not healthy: database.",
    ]
    assert page.tree.one("title").text.startswith("! ")
    row = page.circuit("payments")
    assert row["Why"] == "2 failures in a row"
    assert row["Retry after"] in ("60 s", "59 s", "1 min")
    assert (row["Calls"], row["Failed"], row["Refused"]) == ("2", "2", "0")
    assert page.switch["Ordered for every worker"] == "full by ann: we move, until it is lifted"
    assert "closed -> open" in [entry["Change"] for entry in page.journal]


def test_it_shows_what_the_others_did_before_this_worker_has_heard_it(console):
    worker = console()
    worker.page()
    open_(worker.reporter.store, recovery=60_000)
    row = worker.page().circuit("payments")
    assert row["State"] in ("open", "open (closed in this worker)")
    open_(worker.reporter.store, name="elsewhere", recovery=60_000)
    row = worker.page().circuit("elsewhere")
    assert (row["State"], row["Opens at"], row["Calls"]) == ("open", "-", "-")


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (consecutive(1), "1 failure"),
        (consecutive(5), "5 failures in a row"),
        (failure_rate(0.5, last=100), "50 % of the last 100 calls failed (at least 20)"),
        (failure_rate(1 / 3, seconds=60), "33.3333 % of the calls in 60 s failed (at least 20)"),
        (slow_rate(0.8, slower_than=2, last=10), "80 % of the last 10 calls took over 2 s (at least 10)"),
        (consecutive(5) | consecutive(2), "5 failures in a row, or 2 failures in a row"),
        (
            consecutive(5) & (consecutive(2) | consecutive(1)),
            "5 failures in a row, and (2 failures in a row, or 1 failure)",
        ),
    ],
)
def test_rules_are_said_in_words(rule, words):
    assert str(rule) == words


def test_what_holds_by_the_environment_and_by_schedule_is_shown(console, monkeypatch):
    worker = console()
    starts = datetime(2100, 1, 1, tzinfo=UTC)
    worker.infra.maintenance.schedule(starts, ends=starts + timedelta(hours=1), mode="full", reason="disks")
    monkeypatch.setenv("MAINTENANCE_MODE", "1")
    shown = worker.page().switch
    assert shown["Ordered for every worker"] == "off"
    assert shown["In force in this worker"] == "read-only by env"
    assert shown["MAINTENANCE_MODE"].startswith("on in this worker's environment")
    assert shown["Scheduled"] == "full from 2100-01-01 00:00:00 UTC to 2100-01-01 01:00:00 UTC: disks"
    assert worker.page().concerns == ["Maintenance is read-only."]


def test_maintenance_with_an_end_says_when(console):
    worker = console()
    worker.post("maintenance.enable", mode="full", minutes="90", reason="x")
    said = worker.page().switch["Ordered for every worker"]
    assert said.startswith("full by console: x, until 20")
    assert said.endswith("(in 1 h 30 min)")


def test_an_app_without_maintenance_mode_shows_none(tmp_path):
    app = Flask("shop")
    app.config.update(SVC_INFRA_CONSOLE=True, SVC_INFRA_STATE_URL=f"sqlite:///{tmp_path / 's.db'}")
    infra = SvcInfra(app, authorize=lambda _request, _action: True, maintenance_mode=False)
    page = Page(app.test_client().get("/_ops/console?maintenance"))
    assert not page.tree.all("section", **{"aria-labelledby": "maintenance"})
    assert page.forms == []
    reply = app.test_client().post("/_ops/console", data={"action": "maintenance.disable"})
    assert (reply.status_code, Page(reply).alert) == (
        404,
        "this app has no maintenance mode; nothing was changed.",
    )
    infra._sharing[1].stop()


# Health checks


def test_checks_are_asked_as_probes_ask_them_however_often_the_page_is_looked_at(console):
    worker = console(SVC_INFRA_HEALTH_CACHE_TTL=60)
    runs = []
    worker.infra.health.add("database", lambda: not runs.append(1))
    rows = [worker.page().table("checks") for _ in range(20)]
    assert len(runs) == 1
    assert rows[0] == [
        {
            "Check": "database",
            "Status": "healthy",
            "Message": "-",
            "Critical": "yes",
            "Took": rows[0][0]["Took"],
            "Last run": "0 s ago",
        }
    ]


def test_a_check_that_hangs_does_not_hang_the_page(console):
    worker = console()
    release = threading.Event()
    worker.infra.health.add("database", lambda: release.wait(20))
    began = time.monotonic()
    (row,) = worker.page().table("checks")
    assert time.monotonic() - began < 3
    assert (row["Status"], row["Last run"]) == ("unknown", "not run yet; running")
    release.set()
    eventually(lambda: worker.page().table("checks")[0]["Status"] == "healthy")


def test_messages_are_redacted_as_in_the_probes(console):
    worker = console()

    def check():
        raise OSError("redis://:hunter2secret@cache:6379 refused")

    worker.infra.health.add("cache", check, critical=False)
    worker.post(
        "breaker.disable", circuit="payments", reason="psql postgres://ann:hunter2secret@db/shop says no"
    )
    page = worker.page()
    assert "hunter2secret" not in page.response.text
    assert page.table("checks")[0]["Message"] == "redis://***@cache:6379 refused"
    assert page.circuit("payments")["Why"] == "psql postgres://***@db/shop says no (console)"


# Where nothing is shared, and where the store is down


def test_on_memory_it_looks_and_says_why_it_does_not_act(console):
    worker = console(MEMORY)
    worker.infra.breakers["payments"].force_open("by code")
    page = worker.page("?circuit=payments")
    assert page.status == 200
    assert page.forms == []
    assert not [link for link in page.links if "circuit" in link or "maintenance" in link]
    assert "SVC_INFRA_STATE_URL is 'memory://'" in page.notes[0]
    assert "redis://host:6379/0" in page.notes[0]
    assert page.circuit("payments")["State"] == "forced open"
    assert page.circuit("payments")["Why"] == "by code"
    reply = worker.post("breaker.reset", circuit="payments")
    assert reply.status_code == 409
    assert "SVC_INFRA_STATE_URL is 'memory://'" in Page(reply).alert
    assert worker.infra.breakers["payments"].forced is not None


def test_a_dead_store_leaves_what_this_worker_knows(console, tmp_path):
    worker = console(f"sqlite:///{tmp_path / 'missing' / 'state.db'}")
    worker.infra.breakers["payments"].force_open("by code")
    began = time.monotonic()
    page = worker.page("?circuit=payments")
    assert time.monotonic() - began < 3
    assert page.status == 200
    assert page.circuit("payments")["State"] == "forced open"
    assert "does not answer for" in page.notes[0]
    assert "The state store does not answer." in page.concerns
    reply = worker.post("breaker.disable", circuit="payments", reason="because")
    assert reply.status_code == 503
    assert reply.headers["Retry-After"]
    refused = Page(reply)
    assert "nothing is known to have changed. Check that it runs" in refused.alert
    assert refused.filled("reason") == ["because"]
    assert worker.infra.breakers["payments"].forced.kind == "open"


@pytest.mark.needs("redis")
def test_a_hung_store_makes_nobody_wait_and_its_password_is_not_shown(console, valkey):
    worker = console(valkey.url.replace("redis://", "redis://default:hunter2secret@"))
    # Valkey's default user takes any password.
    assert worker.page().notes == []
    valkey.stop()
    began = time.monotonic()
    page = worker.page()
    assert time.monotonic() - began < 3
    assert "does not answer" in page.notes[0]
    assert "hunter2secret" not in page.response.text
    reply = worker.post("maintenance.enable", mode="full", reason="x")
    assert reply.status_code == 503
    assert "hunter2secret" not in reply.text
    assert worker.infra.maintenance.status().mode == "off"
    valkey.cont()
    eventually(lambda: worker.page().notes == [], timeout=3)
    assert worker.page().switch["Ordered for every worker"] == "off"


# Hostile words


@pytest.mark.parametrize("field", ["reason", "name", "actor"])
def test_hostile_words_are_text(console, field):
    worker = console()
    store = worker.reporter.store
    words = {"reason": "x", "name": "x", "actor": "x", field: HOSTILE}
    open_(store, name=words["name"], reason=words["reason"], actor=words["actor"], recovery=60_000)
    put(store, key=f"circuit:{words['name']}", what=words["reason"], actor=words["actor"])
    plain_page, page = console().page(), worker.page()
    for each in (plain_page, page, worker.page(f"?circuit={HOSTILE}"), worker.page(f"?{HOSTILE}")):
        tags = {node.tag for node in each.tree.all()}
        assert not tags & {"script", "img"}
        assert not [n for n in each.tree.all() if any(a.startswith("on") for a in n.attributes)]
    assert "alert(1)" in page.text


def test_characters_that_turn_or_hide_text_are_marked(console):
    worker = console()
    open_(worker.reporter.store, name="pay\u202ements\x00\x1b[31m", recovery=60_000)
    page = worker.page()
    assert [row["Circuit"] for row in page.table("circuits")] == ["pay�ments��[31m", "payments"]
    assert [link for link in page.links if "circuit" in link] == ["/_ops/console?circuit=payments"]


@pytest.mark.parametrize("at", ["x", None, 1e300, -1e300, True, [], 10**400])
def test_what_cannot_be_read_of_the_journal_costs_no_page(at):
    from flask_svc_infra.console.rows import entry_row
    from flask_svc_infra.state.orders import journal

    class Store:
        def act(self, operation, args):
            return {"entries": ["x", None, 5, {"at": at, "name": 5, "what": None, "reason": {"a": 1}}]}

    (entry,) = journal(Store(), 50)
    row = entry_row(entry)
    assert row.at == "-"
    assert row.name == "5"


def test_a_thousand_circuits_and_entries_are_a_page_within_a_second(console):
    worker = console()
    worker.page()
    store = worker.reporter.store
    for number in range(1000):
        open_(store, name=f"circuit-{number}", reason="r" * 400, recovery=60_000)
    took = []
    for _ in range(3):
        began = time.monotonic()
        page = worker.client.get("/_ops/console")
        took.append(time.monotonic() - began)
    assert min(took) < 1
    read = Page(page)
    assert len(read.table("circuits")) == 1001
    assert len(read.journal) == 50
    assert read.concerns[0].startswith("1000 circuits are not closed: circuit-0, circuit-1")
    assert read.concerns[0].endswith(" and 995 more.")


# How it is made


def test_it_is_made_for_every_reader(console):
    worker = console()
    worker.infra.health.add("database", lambda: True)
    worker.post("breaker.disable", circuit="payments", reason="x")
    for query in ("", "?circuit=payments", "?maintenance", "?every=10"):
        page = worker.page(query)
        assert page.tree.one("html").attributes["lang"] == "en"
        assert len(page.tree.all("h1")) == 1
        assert page.tree.one("main")
        for table in page.tree.all("table"):
            assert table.one("caption").text
            assert {cell.attributes["scope"] for cell in table.all("th")} == {"col", "row"}
        ids = [node.attributes["id"] for node in page.tree.all() if "id" in node.attributes]
        assert len(ids) == len(set(ids))
        for node in page.tree.all():
            for reference in ("aria-labelledby", "aria-describedby", "for"):
                assert node.attributes.get(reference, ids[0]) in ids
            assert "style" not in node.attributes
        labelled = {label.attributes.get("for") for label in page.tree.all("label")}
        wrapped = [inner for label in page.tree.all("label") for inner in label.all("input")]
        for entry in page.tree.all("input"):
            hidden = entry.attributes.get("type") == "hidden"
            assert hidden or entry in wrapped or entry.attributes["id"] in labelled
        assert not page.tree.all("script")


def test_it_refreshes_itself_only_when_asked_and_never_under_a_form(console):
    worker = console()

    def refresh(query):
        found = worker.page(query).tree.all("meta", **{"http-equiv": "refresh"})
        return [node.attributes["content"] for node in found]

    assert refresh("") == []
    assert refresh("?every=10") == ["10"]
    assert refresh("?every=10&circuit=payments") == []
    assert refresh("?every=10&maintenance") == []
    for nonsense in ("0", "-1", "1", "x", "10;url=https://evil.example", "99999", "1e3"):
        assert refresh(f"?every={nonsense}") == []


def test_contrast_of_every_colour_is_that_of_wcag_aa(console):
    import re

    css = console().client.get("/_ops/console/style.css").text

    def luminance(colour):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", block))
        papers = [colours[name] for name in ("paper", "panel", "bad-panel", "odd-panel")]
        for name in ("ink", "faint", "link", "good", "odd", "bad"):
            for paper in papers[: 4 if name == "ink" else 2]:
                light, dark = sorted((luminance(colours[name]), luminance(paper)), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, paper)


def test_an_orders_page_needs_a_circuit_there_is(console):
    page = console().page("?circuit=paymnets")
    assert page.status == 404
    assert page.alert == "no circuit of this name is shown here; nothing was changed."
    assert page.forms == []


def test_the_store_may_be_another_processes(console, tmp_path):
    worker = console()
    put(open_store(f"sqlite:///{tmp_path / 'state.db'}"), body='{"mode":"full","reason":"fire"}', actor="bob")
    assert worker.page().switch["Ordered for every worker"] == "full by bob: fire, until it is lifted"
