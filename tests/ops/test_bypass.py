"""Who passes all the same: holders of the token, of a signed link or cookie, and networks that are let in."""

from __future__ import annotations

import logging

import pytest
from itsdangerous import TimestampSigner
from ops._shop import make_shop
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.ops import Maintenance, bypass_link
from flask_svc_infra.ops.bypass import COOKIE, HEADER, Bypass, in_networks

TOKEN = "correct-horse-battery-staple"
NOW = 1_800_000_000


@pytest.fixture
def now(monkeypatch):
    """The time signatures are made and read at."""
    clock = {"now": NOW}
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda self: clock["now"])
    return clock


def closed(**config):
    maintenance = Maintenance()
    app = make_shop(maintenance=maintenance, config=config)
    maintenance.enable(mode="full")
    return app


@pytest.fixture
def app(now):
    return closed(SVC_INFRA_MAINTENANCE_BYPASS_TOKEN=TOKEN)


def test_the_token_in_the_header_passes(app):
    client = app.test_client()
    assert client.post("/orders", headers={HEADER: TOKEN}).status_code == 200
    assert client.post("/orders").status_code == 503


@pytest.mark.parametrize("given", ["", "wrong", TOKEN + "x", TOKEN[:-1], TOKEN.upper(), "\u00e4\u00f6"])
def test_another_token_does_not(app, given):
    assert app.test_client().post("/orders", headers={HEADER: given}).status_code == 503


def test_without_a_token_nothing_passes(now):
    app = closed()
    client = app.test_client()
    assert client.post("/orders", headers={HEADER: ""}).status_code == 503
    assert client.post("/orders", headers={HEADER: "None"}).status_code == 503
    client.set_cookie(COOKIE, "pass")
    assert client.post("/orders").status_code == 503
    with pytest.raises(ConfigurationError, match="SVC_INFRA_MAINTENANCE_BYPASS_TOKEN"):
        bypass_link(app, "https://shop.example/")


def test_a_link_sets_a_cookie_and_leads_to_the_same_address_without_the_signature(app):
    link = bypass_link(app, "https://localhost/orders?page=2&q=a%26b")
    assert TOKEN not in link
    client = app.test_client()
    reply = client.get(link)
    assert reply.status_code == 302
    assert reply.headers["Location"] == "/orders?page=2&q=a%26b"
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    cookie = client.get_cookie(COOKIE)
    assert (cookie.secure, cookie.http_only, cookie.same_site, cookie.path) == (True, True, "Lax", "/")
    assert TOKEN not in cookie.value
    assert client.post("/orders", base_url="https://localhost").status_code == 200


def test_a_link_works_in_read_only_mode_where_its_own_get_would_pass(now):
    maintenance = Maintenance()
    app = make_shop(maintenance=maintenance, config={"SVC_INFRA_MAINTENANCE_BYPASS_TOKEN": TOKEN})
    maintenance.enable()
    client = app.test_client()
    assert client.get(bypass_link(app, "http://localhost/orders")).status_code == 302
    assert client.post("/orders").status_code == 200


def test_a_link_is_good_for_an_hour_and_a_cookie_for_twelve(app, now):
    link = bypass_link(app, "http://localhost/orders")
    now["now"] = NOW + 3600
    client = app.test_client()
    assert client.get(link).status_code == 302
    now["now"] = NOW + 3601
    assert app.test_client().get(link).status_code == 503
    now["now"] = NOW + 3600 + 12 * 3600
    assert client.post("/orders").status_code == 200
    now["now"] += 1
    assert client.post("/orders").status_code == 503


def test_a_link_does_not_do_as_a_cookie_nor_a_cookie_as_a_link(app):
    signed = bypass_link(app, "http://localhost/").rpartition("=")[2]
    client = app.test_client()
    client.set_cookie(COOKIE, signed)
    assert client.post("/orders").status_code == 503
    cookie = Bypass(TOKEN)._cookies.sign("pass").decode()
    assert app.test_client().get(f"/orders?svc_infra_bypass={cookie}").status_code == 503


@pytest.mark.parametrize(
    "forged", ["", "pass", "pass.x.y", "pass.aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb", "\u00e4.b.c"]
)
def test_a_forged_signature_does_nothing(app, forged):
    client = app.test_client()
    client.set_cookie(COOKIE, forged)
    assert client.post("/orders").status_code == 503
    assert client.get("/orders", query_string={"svc_infra_bypass": forged}).status_code == 503


def test_another_token_invalidates_links_and_cookies(app):
    client = app.test_client()
    link = bypass_link(app, "http://localhost/orders")
    client.get(link)
    value = client.get_cookie(COOKIE).value
    other = closed(SVC_INFRA_MAINTENANCE_BYPASS_TOKEN="x" * 16).test_client()
    other.set_cookie(COOKIE, value)
    assert other.post("/orders").status_code == 503
    assert other.get(link).status_code == 503


@pytest.mark.parametrize("path", ["/\\evil.example/", "//evil.example/x", "/%0d%0aSet-Cookie:%20a=b"])
def test_the_redirect_leads_nowhere_else(app, path):
    signed = bypass_link(app, "http://localhost/").rpartition("=")[2]
    from urllib.parse import unquote

    reply = app.test_client().get(
        "/", query_string={"svc_infra_bypass": signed}, environ_overrides={"PATH_INFO": unquote(path)}
    )
    assert reply.status_code == 302
    location = reply.headers["Location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))
    assert "\n" not in location


def test_a_link_works_behind_a_script_name_mount(app):
    link = bypass_link(app, "http://localhost/shop/orders")
    client = app.test_client()
    reply = client.get(link.removeprefix("http://localhost/shop"), base_url="http://localhost/shop")
    assert reply.headers["Location"] == "/shop/orders"
    assert client.get_cookie(COOKIE, path="/shop").path == "/shop"


def test_the_token_is_nowhere_to_be_seen(app, caplog):
    with caplog.at_level(logging.DEBUG):
        reply = app.test_client().post("/orders", headers={HEADER: TOKEN + "x"})
    seen = reply.text + str(reply.headers) + caplog.text + repr(Bypass(TOKEN)) + str(vars(app)["extensions"])
    assert TOKEN not in seen


@pytest.mark.parametrize(
    ("address", "networks", "passes"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("192.168.1.7", "10.0.0.0/8,192.168.1.7", True),
        ("::ffff:10.1.2.3", "10.0.0.0/8", True),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db8::1", "10.0.0.0/8", False),
        ("fe80::1%eth0", "fe80::/10", True),
        ("10.1.2.3", "", False),
    ],
)
def test_clients_of_the_networks_let_in_pass(address, networks, passes):
    client = closed(SVC_INFRA_MAINTENANCE_ALLOW=networks).test_client()
    reply = client.post("/orders", environ_overrides={"REMOTE_ADDR": address})
    assert reply.status_code == (200 if passes else 503)


@pytest.mark.parametrize("address", [None, "", "unix:", "nonsense"])
def test_a_client_without_an_address_lies_in_no_network(address):
    from ipaddress import ip_network

    assert not in_networks(address, [ip_network("0.0.0.0/0"), ip_network("::/0")])


def test_behind_a_proxy_the_clients_own_address_counts_and_cannot_be_made_up():
    app = closed(SVC_INFRA_MAINTENANCE_ALLOW="10.0.0.0/8")
    claims = {"X-Forwarded-For": "10.1.2.3"}
    proxy = {"REMOTE_ADDR": "172.16.0.1"}
    assert app.test_client().post("/orders", headers=claims, environ_overrides=proxy).status_code == 503
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1)
    client = app.test_client()
    assert client.post("/orders", headers=claims, environ_overrides=proxy).status_code == 200
    forged = {"X-Forwarded-For": "10.1.2.3, 203.0.113.9"}
    assert client.post("/orders", headers=forged, environ_overrides=proxy).status_code == 503
