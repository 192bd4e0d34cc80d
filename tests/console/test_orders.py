"""What the person who is paged orders, and what becomes of it."""

from __future__ import annotations

import pytest
from console.reading import Page
from hypothesis import given
from hypothesis import strategies as st
from support.processes import eventually

from flask_svc_infra import ConfigurationError
from flask_svc_infra.console.form import ACTIONS, order_of
from flask_svc_infra.console.text import plain, said, span


def basic(user):
    from base64 import b64encode

    return {"Authorization": "Basic " + b64encode(f"{user}:pw".encode()).decode()}


def test_a_circuit_is_forced_open_disabled_and_reset_in_every_worker(console):
    here, there = console(), console()
    there.page()
    breaker = there.infra.breakers["payments"]
    reply = here.post("breaker.force_open", circuit="payments", reason="the provider asked")
    assert (reply.status_code, reply.headers["Location"], reply.data) == (303, "/_ops/console", b"")
    for worker in (here, there):
        row = worker.page().circuit("payments")
        assert row["State"].startswith("forced open")
        assert row["Why"] == "the provider asked (console)"
    eventually(lambda: breaker.forced, timeout=1.5)
    assert (breaker.forced.kind, breaker.forced.reason) == ("open", "the provider asked")
    assert there.post("breaker.disable", circuit="payments", reason="we watch it").status_code == 303
    eventually(lambda: here.infra.breakers["payments"].forced.kind == "disabled", timeout=1.5)
    assert here.post("breaker.reset", circuit="payments").status_code == 303
    eventually(lambda: breaker.forced is None, timeout=1.5)
    assert here.page().circuit("payments")["State"].startswith("closed")
    journal = [(entry["Change"], entry["Why"]) for entry in here.page().journal]
    assert [entry for entry in journal if "->" not in entry[0]] == [
        ("reset", "-"),
        ("disabled", "we watch it"),
        ("forced open", "the provider asked"),
    ]


def test_a_reset_closes_what_the_fleet_has_opened(console):
    from state.conftest import open_

    worker = console()
    worker.page()
    open_(worker.reporter.store, recovery=60_000)
    eventually(lambda: worker.infra.breakers["payments"].state == "open", timeout=1.5)
    worker.post("breaker.reset", circuit="payments", reason="it is back")
    assert worker.page().circuit("payments")["State"].startswith("closed")
    eventually(lambda: worker.infra.breakers["payments"].state == "closed", timeout=1.5)


def test_a_circuit_nobody_has_here_can_be_ordered_if_the_store_knows_it(console):
    from state.conftest import open_

    worker = console()
    name = "odd / name & 'quotes' ü"
    open_(worker.reporter.store, name=name, recovery=60_000)
    (link,) = [link for link in worker.page().links if "odd" in link]
    page = Page(worker.client.get(link))
    assert page.choices("circuit") == [name]
    assert worker.post("breaker.force_open", circuit=name, reason="x").status_code == 303
    assert worker.page().circuit(name)["State"] == "forced open"


def test_maintenance_is_switched_in_every_worker(console):
    here, there = console(), console()
    assert there.client.post("/").status_code == 404
    order = {"mode": "full", "minutes": "0.5", "reason": "we move the database"}
    assert here.post("maintenance.enable", **order).status_code == 303
    reply = eventually(lambda: (r := there.client.get("/")).status_code == 503 and r, timeout=1.5)
    assert int(reply.headers["Retry-After"]) <= 30
    said_there = there.page().switch
    assert said_there["Ordered for every worker"].startswith("full by console: we move the database, until 2")
    assert said_there["In force in this worker"] == "full by console"
    assert there.post("maintenance.disable", reason="moved").status_code == 303
    eventually(lambda: here.client.get("/").status_code == 404, timeout=1.5)
    assert here.page().switch["Ordered for every worker"] == "off"
    assert [(entry["What"], entry["Change"], entry["Why"]) for entry in here.page().journal] == [
        ("maintenance", "off", "moved"),
        ("maintenance", "full", "we move the database"),
    ]


def test_the_form_of_a_circuit_does_what_it_says(console):
    """The page's own forms, sent as a browser sends them."""
    worker = console()
    (link,) = [link for link in worker.page().links if "circuit=" in link]
    page = Page(worker.client.get(link))
    (form,) = page.forms
    assert (form.attributes["method"], form.attributes["action"]) == ("post", "/_ops/console")
    fields = {n.attributes["name"]: n.attributes.get("value", "") for n in form.all("input", type="hidden")}
    choice = form.all("input", type="radio")[0].attributes["value"]
    fields |= {"action": choice, "reason": "by the form"}
    landed = worker.client.post(form.attributes["action"], data=fields, follow_redirects=True)
    assert landed.request.method == "GET"
    assert Page(landed).circuit("payments")["Why"] == "by the form (console)"


def test_the_forms_of_maintenance_do_what_they_say(console):
    worker = console()
    assert "/_ops/console?maintenance" in worker.page().links
    assert worker.page("?maintenance").choices() == ["maintenance.enable"]
    worker.post("maintenance.enable", mode="read-only", reason="x")
    page = worker.page("?maintenance")
    assert page.choices() == ["maintenance.enable", "maintenance.disable"]
    assert page.choices("mode") == ["read-only", "full"]


BAD = [
    ({"action": ""}, "nothing was chosen"),
    ({"action": "breaker.explode", "circuit": "payments"}, "nothing was chosen"),
    ({"circuit": "payments", "reason": "x"}, "nothing was chosen"),
    ({"action": "breaker.force_open", "circuit": "payments"}, "there is no reason"),
    ({"action": "breaker.disable", "circuit": "payments", "reason": " \r\n\t\u202e "}, "there is no reason"),
    ({"action": "breaker.force_open", "circuit": "payments", "reason": "x" * 10_000}, "10000 characters"),
    ({"action": "maintenance.enable", "mode": "full"}, "there is no reason"),
    ({"action": "maintenance.enable", "mode": "nuclear", "reason": "x"}, "mode 'nuclear' does not exist"),
    ({"action": "maintenance.enable", "reason": "x"}, "mode '' does not exist"),
    *[
        ({"action": "maintenance.enable", "mode": "full", "reason": "x", "minutes": minutes}, "cannot be")
        for minutes in ("0", "-1", "x", "nan", "inf", "1e400", "1e300", "1e9")
    ],
]


@pytest.mark.parametrize(("fields", "words"), BAD)
def test_what_cannot_be_done_is_said_and_nothing_that_was_written_is_lost(console, fields, words):
    worker = console()
    reply = worker.client.post("/_ops/console", data=fields)
    page = Page(reply)
    assert reply.status_code == 400
    assert words in page.alert
    assert "nothing was changed" in page.alert
    assert page.journal == []
    if fields.get("action"):
        assert page.filled("reason")[0] == fields.get("reason", "")
    if fields.get("circuit"):
        assert page.choices("circuit") == ["payments"]
    if "minutes" in fields:
        assert page.filled("minutes") == [fields["minutes"]]
        (checked,) = [n for n in page.tree.all("input", name="mode") if "checked" in n.attributes]
        assert checked.attributes["value"] == "full"


@pytest.mark.parametrize("name", ["paymnets", "", "../payments", "payments\x00", "x" * 5000])
def test_an_unknown_circuit_is_404_and_is_not_made(console, name):
    worker = console()
    reply = worker.post("breaker.force_open", circuit=name, reason="x")
    assert reply.status_code == 404
    assert "no circuit is called" in Page(reply).alert
    assert [row["Circuit"] for row in worker.page().table("circuits")] == ["payments"]


@pytest.mark.parametrize(
    ("headers", "environ", "actor"),
    [
        ({}, {}, "console"),
        (basic("ann"), {}, "console:ann"),
        (basic("ann\r\nX-Evil\u202e"), {}, "console:ann��X-Evil�"),
        (basic("a" * 1000), {}, "console:" + "a" * 79 + "…"),
        ({"Authorization": "Bearer abcdef"}, {}, "console"),
        ({"Authorization": "nonsense"}, {}, "console"),
        ({}, {"REMOTE_USER": "bob"}, "console:bob"),
    ],
)
def test_the_journal_says_who(console, headers, environ, actor):
    worker = console()
    data = {"action": "breaker.disable", "circuit": "payments", "reason": "x"}
    reply = worker.client.post("/_ops/console", data=data, headers=headers, environ_overrides=environ)
    assert reply.status_code == 303
    assert worker.page().journal[0]["By"] == actor


def test_a_reason_reaches_no_header_and_is_one_line_everywhere(console, caplog):
    worker = console()
    reply = worker.post(
        "breaker.force_open", circuit="payments", reason="x\r\nSet-Cookie: a=b\r\n\r\n<html>\x1b[2J"
    )
    assert "Set-Cookie" not in reply.headers
    assert "a=b" not in str(reply.headers)
    breaker = worker.infra.breakers["payments"]
    eventually(lambda: breaker.forced, timeout=1.5)
    assert breaker.forced.reason == "x Set-Cookie: a=b <html> [2J"
    assert all("\n" not in record.getMessage() for record in caplog.records)


@given(
    st.sampled_from(sorted(ACTIONS)),
    st.dictionaries(st.sampled_from(["reason", "mode", "minutes"]), st.text()),
)
def test_any_form_is_an_order_on_one_line_or_refused_in_words(action, fields):
    try:
        order = order_of({**fields, "action": action})
    except ConfigurationError as refused:
        words = str(refused)
    else:
        words = None
    if words is not None:
        assert "nothing was changed" in words
        return
    assert order.reason is None or (order.reason.isprintable() and len(order.reason) <= 500)
    assert order.mode in ("off", "read-only", "full")
    assert order.duration is None or 0 < order.duration <= 1e9


@given(st.text(alphabet=st.characters()), st.integers(1, 50))
def test_what_is_shown_is_printable_and_short(text, longest):
    shown = plain(text, longest)
    assert len(shown) <= longest
    assert shown.isprintable()
    shown.encode()


def test_words_of_others():
    assert said(None) is None
    assert said({"a": 1}) == "{'a': 1}"
    assert len(said("x " * 10_000)) <= 500
    assert plain("\ud800", 5) == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3540, "59 min"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (8.64e6, "100 days"),
    ],
)
def test_times_in_words(seconds, words):
    assert span(seconds) == words
