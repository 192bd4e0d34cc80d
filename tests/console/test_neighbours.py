"""The console beside the extensions a Flask service already has, set up before it and after it."""

from __future__ import annotations

import apiflask
import pytest
from console.reading import Page
from flask import Flask
from support.neighbours import csrf, limiter, proxy_fix, talisman

from flask_svc_infra import SvcInfra

BASE = "https://localhost"
ORDER = {"action": "breaker.disable", "circuit": "payments", "reason": "x"}

either_order = pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "ours last"])


@pytest.fixture
def service(tmp_path):
    made = []

    def make(*neighbours, ours_first):
        app = Flask("shop")
        app.config.update(SVC_INFRA_CONSOLE=True, SVC_INFRA_STATE_URL=f"sqlite:///{tmp_path / 'state.db'}")
        app.add_url_rule("/orders", "orders", lambda: "ok", methods=["GET", "POST"])
        infra = SvcInfra(authorize=lambda _request, _action: True)
        infra.breaker("payments")
        made.append(infra)
        if ours_first:
            infra.init_app(app)
        for neighbour in neighbours:
            neighbour(app)
        if not ours_first:
            infra.init_app(app)
        return app.test_client()

    yield make
    for infra in made:
        infra._sharing[1].stop()


@either_order
def test_csrf_protect_asks_our_form_for_no_token_and_goes_on_with_others(service, ours_first):
    client = service(csrf, ours_first=ours_first)
    assert client.post("/_ops/console", data=ORDER, base_url=BASE).status_code == 303
    assert client.post("/_ops/console", data=ORDER).status_code == 303
    assert client.post("/orders").status_code == 400
    refused = client.post("/_ops/console", data=ORDER, headers={"Origin": "https://evil.example"})
    assert refused.status_code == 403


@either_order
def test_talisman_leads_to_https_and_does_not_loosen_our_headers(service, ours_first):
    client = service(talisman, ours_first=ours_first)
    assert client.get("/_ops/console").status_code == 302
    reply = client.get("/_ops/console", base_url=BASE)
    assert Page(reply).circuit("payments")["State"] == "closed"
    assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert reply.headers["X-Frame-Options"] == "DENY"
    assert reply.headers["Strict-Transport-Security"]
    assert client.post("/_ops/console", data=ORDER, base_url=BASE).status_code == 303


@either_order
def test_limits_count_for_it_too_unless_it_is_exempted_as_documented(service, ours_first):
    client = service(limiter, ours_first=ours_first)
    assert [client.get("/_ops/console").status_code for _ in range(4)] == [200, 200, 200, 429]
    exempted = service(lambda app: app.extensions.__setitem__("ours", limiter(app)), ours_first=ours_first)
    app = exempted.application
    app.extensions["ours"].exempt(app.blueprints["svc_infra_console"])
    assert {exempted.get("/_ops/console").status_code for _ in range(6)} == {200}
    assert exempted.post("/_ops/console", data=ORDER).status_code == 303


@either_order
def test_behind_a_proxy_that_takes_a_prefix_and_ends_tls(service, ours_first):
    client = service(proxy_fix, ours_first=ours_first)
    headers = {
        "X-Forwarded-Prefix": "/shop",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "ops.example",
        "Origin": "https://ops.example",
    }
    page = Page(client.get("/_ops/console?circuit=payments", headers=headers))
    assert page.forms[0].attributes["action"] == "/shop/_ops/console"
    reply = client.post("/_ops/console", data=ORDER, headers=headers)
    assert (reply.status_code, reply.headers["Location"]) == (303, "/shop/_ops/console")
    headers["X-Forwarded-Host"] = "other.example"
    assert client.post("/_ops/console", data=ORDER, headers=headers).status_code == 403


@either_order
def test_all_at_once(service, ours_first):
    client = service(csrf, talisman, limiter, proxy_fix, ours_first=ours_first)
    assert client.get("/_ops/console", base_url=BASE).status_code == 200
    assert client.post("/_ops/console", data=ORDER, base_url=BASE).status_code == 303
    page = Page(client.get("/_ops/console", base_url=BASE))
    assert page.circuit("payments")["State"].startswith("disabled")


def test_apiflask_does_not_document_it():
    app = apiflask.APIFlask("shop")
    app.config["SVC_INFRA_CONSOLE"] = True
    SvcInfra(app, authorize=lambda _request, _action: True)
    assert app.spec["paths"] == {}
    assert app.test_client().get("/_ops/console").status_code == 200
