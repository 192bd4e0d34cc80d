"""What a refused client reads: JSON, or a page that the app may replace."""

from __future__ import annotations

import pytest
from flask import Blueprint, Flask
from jinja2 import DictLoader

from flask_svc_infra.ops import Maintenance, add_maintenance_mode

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"


@pytest.fixture
def maintenance():
    return Maintenance()


@pytest.fixture
def app(maintenance):
    app = Flask("app")
    add_maintenance_mode(app, maintenance=maintenance)
    return app


def ask(app, accept):
    return app.test_client().post("/", headers={} if accept is None else {"Accept": accept})


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/*", "application/json"),
        ("image/png", "application/json"),
        ("text/html;q=0.5,application/json", "application/json"),
        ("", "application/json"),
        ("nonsense;;,", "application/json"),
        (BROWSER, "text/html"),
        ("text/html", "text/html"),
        ("text/*", "text/html"),
        ("application/json;q=0.5,text/html", "text/html"),
    ],
)
def test_a_client_reads_what_it_accepts_best(app, maintenance, accept, kind):
    maintenance.enable(mode="full")
    reply = ask(app, accept)
    assert (reply.status_code, reply.mimetype) == (503, kind)
    assert "Accept" in reply.vary
    assert reply.headers["Retry-After"] == "60"
    assert int(reply.headers["Content-Length"]) == len(reply.data)
    if kind == "application/json":
        assert reply.json == {"detail": "maintenance"}


def test_the_page_says_which_mode_and_never_why(app, maintenance):
    maintenance.enable(mode="full", reason="a secret reason")
    full = ask(app, BROWSER).text
    maintenance.enable(mode="read-only", reason="a secret reason")
    reading = ask(app, BROWSER).text
    assert "Down for maintenance" in full
    assert "go on reading" in reading
    assert "secret reason" not in full + reading + ask(app, None).text


def test_the_apps_own_template_replaces_the_page(app, maintenance):
    app.jinja_loader = DictLoader(
        {"svc_infra/maintenance.html": "{{ mode }}|{{ reason }}|{{ retry_after }}|{{ request.path }}"}
    )
    maintenance.enable(mode="full", reason="<b>new disks</b>", retry_after=5)
    assert ask(app, BROWSER).text == "full|&lt;b&gt;new disks&lt;/b&gt;|5|/"


@pytest.mark.parametrize("source", ["{{ 1 / 0 }}", "{% broken", "{% extends 'missing.html' %}"])
def test_a_broken_template_is_logged_and_the_refusal_stands(app, maintenance, caplog, source):
    app.jinja_loader = DictLoader({"svc_infra/maintenance.html": source})
    maintenance.enable(mode="full")
    reply = ask(app, BROWSER)
    assert (reply.status_code, reply.json) == (503, {"detail": "maintenance"})
    assert "could not be rendered; JSON was sent instead" in caplog.text


def test_context_processors_are_not_asked_for_they_may_need_what_is_down(app, maintenance):
    @app.context_processor
    def menu():
        raise RuntimeError("the database is down")

    maintenance.enable(mode="full")
    assert ask(app, BROWSER).mimetype == "text/html"


def test_a_blueprint_of_the_users_with_our_name_is_no_obstacle(maintenance):
    app = Flask("app")
    app.register_blueprint(Blueprint("svc_infra_maintenance", "theirs"))
    add_maintenance_mode(app, maintenance=maintenance)
    maintenance.enable(mode="full")
    assert ask(app, BROWSER).mimetype == "text/html"
