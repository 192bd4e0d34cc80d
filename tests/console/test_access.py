"""Who may look and act, and what an attacker may not."""

from __future__ import annotations

import time

import pytest
from console.reading import Page
from flask import Flask, abort, request
from werkzeug.exceptions import Unauthorized
from werkzeug.test import create_environ, run_wsgi_app

from flask_svc_infra import ConfigurationError, SvcInfra
from flask_svc_infra.console.form import ACTIONS

ORDER = {"action": "breaker.force_open", "circuit": "payments", "reason": "x"}
EVIL = "https://evil.example"


def untouched(worker):
    return worker.page().journal == [] and worker.infra.breakers["payments"].forced is None


def only(*allowed):
    return lambda _request, action: action in allowed


def test_who_may_not_look_sees_nothing_by_any_verb(console):
    worker = console(authorize=lambda _request, _action: False)
    for method in ("GET", "HEAD", "POST"):
        reply = worker.client.open("/_ops/console", method=method, data=ORDER if method == "POST" else None)
        assert reply.status_code == 403
        assert reply.mimetype == "text/plain"
        assert "payments" not in reply.text
    assert worker.client.get("/_ops/console").text == "not authorized to look at the console\n"
    assert worker.client.get("/_ops/console?circuit=payments").status_code == 403


def test_head_is_like_get_and_other_verbs_are_405(console):
    worker = console()
    got, head = worker.client.get("/_ops/console"), worker.client.head("/_ops/console")
    assert (head.status_code, head.data) == (200, b"")
    assert dict(head.headers).keys() == dict(got.headers).keys()
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        reply = worker.client.open("/_ops/console", method=method, data=ORDER)
        assert reply.status_code == 405, method
        assert set(reply.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert worker.client.post("/_ops/console/style.css").status_code == 405
    assert untouched(worker)


def test_authorize_is_asked_for_each_thing_by_name(console):
    asked = []

    def authorize(request, action):
        asked.append((request.path, action))
        return True

    worker = console(authorize=authorize)
    worker.page()
    assert asked[0] == ("/_ops/console", "console")
    assert {action for _, action in asked} == {"console", *ACTIONS}
    circuits = {"breaker.force_open", "breaker.disable", "breaker.reset"}
    assert circuits | {"maintenance.enable", "maintenance.disable"} == ACTIONS
    asked.clear()
    worker.post("breaker.reset", circuit="payments")
    assert [action for _, action in asked] == ["console", "breaker.reset"]


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_what_may_not_be_done_is_not_offered_and_is_refused_when_sent(console, action):
    others = ACTIONS - {action}
    worker = console(authorize=only("console", *others))
    offered = {*worker.page("?circuit=payments").choices(), *worker.page("?maintenance").choices()}
    assert action not in offered
    assert offered >= others - {"maintenance.disable"}
    reply = worker.post(action, circuit="payments", mode="full", reason="x")
    assert reply.status_code == 403
    assert Page(reply).alert == f"not authorized for '{action}'; nothing was changed."
    assert untouched(worker)


def test_who_may_only_look_is_offered_nothing(console):
    worker = console(authorize=only("console"))
    for query in ("", "?circuit=payments", "?maintenance"):
        page = worker.page(query)
        assert page.status == 200
        assert page.forms == []
        assert not [link for link in page.links if "circuit" in link or "maintenance" in link]


def test_who_may_act_but_not_look_may_not_act(console):
    worker = console(authorize=only(*ACTIONS))
    assert worker.post(**ORDER).status_code == 403


def test_abort_in_authorize_passes_so_that_a_browser_asks_for_a_password(console):
    def authorize(request, _action):
        if request.authorization is None:
            raise Unauthorized(www_authenticate=_challenge())
        return request.authorization.username == "ann"

    def _challenge():
        from werkzeug.datastructures import WWWAuthenticate

        return WWWAuthenticate("basic", {"realm": "operations"})

    worker = console(authorize=authorize)
    for reply in (worker.client.get("/_ops/console"), worker.post(**ORDER)):
        assert reply.status_code == 401
        assert reply.headers["WWW-Authenticate"].lower().startswith("basic")
    assert worker.client.get("/_ops/console", auth=("bob", "x")).status_code == 403
    assert worker.client.get("/_ops/console", auth=("ann", "x")).status_code == 200


def test_abort_for_one_action_hides_its_form_and_not_the_page(console):
    def authorize(_request, action):
        return True if action == "console" else abort(401)

    worker = console(authorize=authorize)
    assert worker.page("?circuit=payments").forms == []
    assert worker.post(**ORDER).status_code == 401


@pytest.mark.parametrize(
    "error", [TimeoutError("ldap"), RuntimeError("x"), KeyError("user"), AssertionError()]
)
def test_authorize_that_fails_says_no_and_the_log_says_why(console, caplog, error):
    def authorize(_request, _action):
        raise error

    worker = console(authorize=authorize)
    assert worker.client.get("/_ops/console").status_code == 403
    assert worker.post(**ORDER).status_code == 403
    assert "authorize raised when it was asked for 'console'; it was refused" in caplog.text


def test_an_awaitable_is_not_a_yes(console, caplog):
    async def late():
        return True

    worker = console(authorize=lambda _request, _action: late())
    assert worker.client.get("/_ops/console").status_code == 403
    assert "awaitable" in caplog.text


@pytest.mark.parametrize("answer", [None, 0, "", [], False])
def test_anything_false_is_a_no(console, answer):
    assert console(authorize=lambda _r, _a: answer).client.get("/_ops/console").status_code == 403


def test_a_coroutine_function_is_refused_at_the_start():
    async def authorize(_request, _action):
        return False

    app = Flask("shop")
    app.config["SVC_INFRA_CONSOLE"] = True
    with pytest.raises(ConfigurationError, match=r"authorize is .*plain function"):
        SvcInfra(app, authorize=authorize, metrics=False)


# Other sites


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "same-origin, cross-site"},
        {"Sec-Fetch-Site": "SAME-ORIGIN<script>"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "localhost"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://evil.example/localhost"},
        {"Origin": "http://localhost:8443"},
        {"Origin": "http://localhost@evil.example"},
        {"Origin": "http://[localhost"},
        {"Origin": "file://localhost"},
        {"Origin": "http://localhost http://evil.example"},
        {"Origin": EVIL, "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"},
    ],
)
def test_a_form_of_another_site_is_refused(console, headers):
    worker = console()
    reply = worker.client.post("/_ops/console", data=ORDER, headers=headers)
    assert (reply.status_code, reply.mimetype) == (403, "text/plain")
    assert "nothing was changed" in reply.text
    assert "payments" not in reply.text
    assert untouched(worker)


@pytest.mark.parametrize(
    ("base", "headers"),
    [
        ("http://localhost", {"Sec-Fetch-Site": "same-origin"}),
        ("http://localhost", {"Sec-Fetch-Site": "same-origin", "Origin": "null"}),
        ("http://localhost", {"Sec-Fetch-Site": "none"}),
        ("http://localhost", {"Origin": "http://localhost"}),
        ("http://localhost:8000", {"Origin": "http://localhost:8000"}),
        ("http://ops.example", {"Origin": "https://ops.example"}),  # a proxy ends TLS
        ("http://ops.example", {"Origin": "https://OPS.example"}),
        ("http://[::1]:8000", {"Origin": "http://[::1]:8000"}),
        ("http://localhost", {}),
    ],
)
def test_its_own_form_and_a_client_that_is_no_browser_pass(console, base, headers):
    worker = console()
    assert worker.client.post("/_ops/console", data=ORDER, headers=headers, base_url=base).status_code == 303


def test_nothing_is_changed_by_looking(console):
    worker = console()
    for query in (
        "?action=breaker.force_open&circuit=payments&reason=x",
        "?maintenance&action=maintenance.enable",
    ):
        worker.client.get("/_ops/console" + query)
        worker.client.post("/_ops/console" + query, data={})
    assert untouched(worker)


def test_a_link_fills_in_nothing_its_reader_would_send(console):
    worker = console()
    for query in (
        "?circuit=payments&action=breaker.force_open&reason=evil",
        "?maintenance&mode=full&minutes=5&reason=evil",
    ):
        page = worker.page(query)
        assert len(page.forms) == 1
        assert not [node for node in page.tree.all("input") if "checked" in node.attributes]
        assert set(page.filled("reason")) == {""}
        assert "evil" not in page.text


# Bodies


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"data": b"x" * 16_385, "content_type": "application/x-www-form-urlencoded"}, 413),
        ({"data": b"action=breaker.reset", "content_type": "text/plain"}, 415),
        ({"json": ORDER}, 415),
        ({"data": b"action=breaker.reset&circuit=payments"}, 415),
        ({"data": {**ORDER}, "content_type": "multipart/form-data"}, 415),
        ({"data": ORDER, "headers": {"Transfer-Encoding": "chunked"}}, 411),
    ],
)
def test_what_is_no_small_form_is_not_read(console, options, status):
    worker = console()
    reply = worker.client.post("/_ops/console", **options)
    assert (reply.status_code, reply.mimetype) == (status, "text/plain")
    assert untouched(worker)


def test_a_body_that_may_be_endless_is_not_read(console):
    class Endless:
        def read(self, *_):
            raise AssertionError("it was read")

        readline = readinto = read

    worker = console()
    environ = create_environ("/_ops/console", method="POST", data=ORDER)
    environ |= {"wsgi.input": Endless(), "wsgi.input_terminated": True}
    del environ["CONTENT_LENGTH"]
    _, status, _ = run_wsgi_app(worker.app, environ)
    assert status == "411 LENGTH REQUIRED"


# Headers


def test_headers_are_strict_on_every_answer_and_no_hook_loosens_them(console):
    def prepare(app):
        @app.after_request
        def loosen(response):
            response.headers["Content-Security-Policy"] = "default-src *"
            response.headers["X-Frame-Options"] = "ALLOWALL"
            response.headers["Cache-Control"] = "public"
            response.headers["Access-Control-Allow-Origin"] = EVIL
            response.headers["Access-Control-Allow-Credentials"] = "true"
            return response

    worker = console(prepare=prepare)
    page = worker.client.get("/_ops/console")
    for reply in (
        page,
        worker.post(**ORDER),
        worker.post("breaker.reset", circuit="unknown"),
        worker.client.post("/_ops/console", data=ORDER, headers={"Origin": EVIL}),
        worker.client.get("/_ops/console/style.css"),
    ):
        policy = dict(
            part.strip().split(" ", 1) for part in reply.headers["Content-Security-Policy"].split(";")
        )
        assert policy == {
            "default-src": "'none'",
            "style-src": "'self'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "same-origin"
        assert reply.headers["X-Robots-Tag"] == "noindex"
        assert not [name for name, _ in reply.headers if name.lower().startswith("access-control")]
    assert page.headers["Cache-Control"] == "no-store"
    assert Page(page).tree.one("meta", name="robots").attributes["content"] == "noindex"


def test_the_stylesheet_is_the_only_file_there_is(console):
    worker = console()
    href = worker.page().tree.one("link", rel="stylesheet").attributes["href"]
    sheet = worker.client.get(href)
    assert (sheet.status_code, sheet.mimetype) == (200, "text/css")
    assert sheet.headers["Cache-Control"] == "public, max-age=3600"
    assert "url(" not in sheet.text
    assert "@import" not in sheet.text
    base = "/_ops/console/"
    for path in (
        "../views.py",
        "..%2fviews.py",
        "%2e%2e/views.py",
        "style.css/../../views.py",
        "..\\views.py",
        "console.css",
        "templates/console.html",
        "style.css%00.py",
        "/etc/passwd",
    ):
        assert worker.client.get(base + path).status_code == 404, path


def test_pages_link_nowhere_else(console):
    worker = console()
    for query in ("", "?circuit=payments", "?maintenance"):
        page = worker.page(query)
        assert all(link.startswith("/_ops/console") for link in page.links)
        assert all(form.attributes["action"] == "/_ops/console" for form in page.forms)


# The gates


@pytest.mark.parametrize("path", ["/_ops/console", "/_ops/console/"])
def test_it_is_the_way_out_of_every_gate(console, monkeypatch, path):
    from flask_svc_infra.health import add_startup_probe

    worker = console(
        prepare=lambda app: add_startup_probe(app, [lambda: False], block=False, timeout=0, interval=0.05)
    )
    worker.path = path
    monkeypatch.setenv("CIRCUIT_OPEN", "1")
    monkeypatch.setenv("MAINTENANCE_MODE", "1")
    worker.infra.maintenance.enable(mode="full", reason="x")
    assert worker.client.get("/").status_code == 503
    page = worker.page()
    assert page.status == 200
    assert "Readiness is held back: starting" in " ".join(page.concerns)
    assert worker.post("maintenance.disable").status_code == 303
    assert worker.client.get(path.rstrip("/") + "/style.css").status_code == 200
    assert worker.client.get(path.rstrip("/") + "y").status_code == 503
    assert worker.client.get(path.rstrip("/") + "/other").status_code == 503


def test_it_is_measured_under_its_rule_and_is_no_probe(console):
    worker = console()
    worker.page("?circuit=payments")
    worker.post("breaker.reset", circuit="payments")
    exposed = worker.client.get("/metrics").text
    assert 'http_requests_total{method="GET",path="/_ops/console",status="200"} 1.0' in exposed
    assert 'http_requests_total{method="POST",path="/_ops/console",status="303"} 1.0' in exposed


# Where it is mounted


def test_it_follows_the_ops_prefix(console):
    worker = console(SVC_INFRA_OPS_PREFIX="/internal/ops")
    worker.path = "/internal/ops/console"
    assert (
        worker.page().tree.one("link", rel="stylesheet").attributes["href"].startswith(worker.path + "/style")
    )
    assert worker.post("breaker.reset", circuit="payments").headers["Location"] == worker.path
    assert worker.client.get("/_ops/console").status_code == 404


@pytest.mark.parametrize("root", ["/shop", "/shöp & co"])
def test_it_works_under_a_mount(console, root):
    from urllib.parse import quote

    worker = console()
    options = {"environ_overrides": {"SCRIPT_NAME": root.encode().decode("latin-1")}}
    page = Page(worker.client.get("/_ops/console?circuit=payments", **options))
    here = quote(root, safe="/&") + "/_ops/console"
    assert page.forms[0].attributes["action"] == here
    assert page.tree.one("link", rel="stylesheet").attributes["href"].startswith(here + "/style.css")
    reply = worker.client.post(
        "/_ops/console", data={"action": "breaker.reset", "circuit": "payments"}, **options
    )
    assert reply.headers["Location"] == here


def test_it_works_where_an_app_tells_its_hosts_apart():
    app = Flask("shop", host_matching=True, static_host="static.example")
    app.config["SVC_INFRA_CONSOLE"] = True
    SvcInfra(app, authorize=lambda _request, _action: True)
    client = app.test_client()
    for base in ("http://ops.example", "http://localhost:8000"):
        assert Page(client.get("/_ops/console", base_url=base)).status == 200
        assert client.get("/_ops/console/style.css", base_url=base).status_code == 200
        assert client.post("/_ops/console", data=ORDER, base_url=base).status_code == 409


def test_an_apps_own_templates_escaping_and_blueprints_make_no_difference(console):
    from flask import Blueprint
    from jinja2 import DictLoader

    def prepare(app):
        app.jinja_loader = DictLoader({"console.html": "theirs", "svc_infra/console.html": "theirs"})
        app.jinja_env.autoescape = False
        app.jinja_env.filters["urlencode"] = lambda _value: "broken"
        app.context_processor(lambda: 1 / 0)
        app.register_blueprint(Blueprint("svc_infra_console", "theirs"))

    worker = console(prepare=prepare)
    worker.post("breaker.disable", circuit="payments", reason="<b>bold</b>")
    assert worker.page().circuit("payments")["Why"] == "<b>bold</b> (console)"


def test_a_hook_of_the_app_that_asks_for_a_login_comes_first(console):
    def prepare(app):
        @app.before_request
        def login():
            if request.headers.get("X-User") is None:
                abort(401)

    worker = console(prepare=prepare)
    assert worker.client.get("/_ops/console").status_code == 401
    assert worker.client.post("/_ops/console", data=ORDER).status_code == 401
    assert worker.page(headers={"X-User": "ann"}).status == 200
    assert worker.page(headers={"X-User": "ann"}).journal == []


def test_a_hanging_authorize_holds_up_its_own_request_alone(console):
    import threading

    entered, release = threading.Event(), threading.Event()

    def authorize(request, _action):
        if "slow" in request.args:
            entered.set()
            release.wait(10)
            raise TimeoutError
        return True

    worker = console(authorize=authorize)
    statuses = []
    slow = threading.Thread(
        target=lambda: statuses.append(worker.app.test_client().get("/_ops/console?slow").status_code)
    )
    slow.start()
    assert entered.wait(5)
    began = time.monotonic()
    assert worker.post("breaker.reset", circuit="payments").status_code == 303
    assert worker.page().status == 200
    assert time.monotonic() - began < 2
    release.set()
    slow.join(5)
    assert statuses == [403]
