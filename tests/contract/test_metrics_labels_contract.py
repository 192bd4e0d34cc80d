"""Labels stay bounded, carry the route's class, and their error series exist from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from contract._metrics import COUNT, TOTAL, requests, shop
from contract._parts import (
    bare_app,
    scrape,
    series,
    value,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder, run_wsgi_app

from flask_svc_infra.obs import add_observability
from flask_svc_infra.ops import add_probes

if TYPE_CHECKING:
    from flask import Flask

# --- bounded labels -----------------------------------------------------------------------------------------


def test_what_matches_no_rule_is_unmatched():
    app = shop()
    app.add_url_rule("/dir/", "dir", lambda: "dir")
    client = app.test_client()
    client.get("/nothing-here")
    client.delete("/users/1")
    client.get("/dir")
    samples = scrape(client)
    assert requests(samples, method="GET", path="<unmatched>", status="404") == 1
    assert requests(samples, method="DELETE", path="<unmatched>", status="405") == 1
    assert requests(samples, method="GET", path="<unmatched>", status="308") == 1


def test_hundreds_of_unknown_paths_and_methods_make_no_new_series_each():
    client = shop().test_client()
    client.get("/")
    before = len(scrape(client))
    for n in range(300):
        client.get(f"/random/{n}/{n * 7919}")
    for n in range(50):
        client.open("/", method=f"XMETHOD{n}")
    samples = scrape(client)
    labels = {(s["method"], s["path"]) for s in series(samples, TOTAL)}
    assert ("OTHER", "/") in labels or ("OTHER", "<unmatched>") in labels
    assert not [m for m, _ in labels if m.startswith("XMETHOD")]
    assert len(samples) - before < 60


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.text(max_size=40), method=st.text(min_size=1, max_size=8), host=st.text(max_size=20))
def test_hostile_paths_methods_and_hosts_leave_a_valid_exposition(hostile_client, path, method, host):
    environ = EnvironBuilder("/").get_environ() | {
        "PATH_INFO": "/" + path.encode().decode("latin-1"),
        "REQUEST_METHOD": method.encode().decode("latin-1"),
        "HTTP_HOST": host.encode().decode("latin-1"),
    }
    run_wsgi_app(hostile_client.application, environ)  # the client of some versions reads the host itself
    samples = scrape(hostile_client)
    assert {s["path"] for s in series(samples, TOTAL)} <= {
        "/",
        "<unmatched>",
        "/users/<int:user>",
        "/boom",
        "/teapot",
    }
    assert {s["method"] for s in series(samples, TOTAL)} <= {
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "OTHER",
    }  # fmt: skip


@pytest.fixture
def hostile_client():
    return shop().test_client(use_cookies=False)  # or older clients choke on the host themselves


# --- series from birth --------------------------------------------------------------------------------------


def test_error_series_exist_before_the_first_error():
    app = shop()
    app.add_url_rule("/late", "late", lambda: "late", methods=["PUT"])
    samples = scrape(app.test_client())
    for method, path in [
        ("GET", "/"),
        ("GET", "/users/<int:user>"),
        ("POST", "/users/<int:user>"),
        ("PUT", "/late"),
    ]:
        for status in ("500", "503"):
            assert requests(samples, method=method, path=path, status=status) == 0, (method, path, status)
    for method in ("HEAD", "OPTIONS"):
        assert requests(samples, method=method, path="/", status="500") is None
    assert not [s for s in series(samples, TOTAL) if "static" in s["path"]]


# --- route classes ------------------------------------------------------------------------------------------


def documented_classifier(path: str, method: str) -> str:
    if path.startswith("/admin"):
        return "admin"
    if path.startswith("/api/internal"):
        return "internal"
    if path.startswith("/_"):
        return "system"
    return "public"


def classified(classifier=documented_classifier) -> Flask:
    app = bare_app()
    for rule in ("/", "/admin/<page>", "/api/internal/sync", "/orders/<int:n>"):
        app.add_url_rule(rule, rule.replace(".", ""), lambda **_: "ok", methods=["GET", "POST"])
    add_probes(app)
    add_observability(app, route_classifier=classifier)
    return app


def test_class_is_appended_to_the_rule_as_documented():
    client = classified().test_client()
    for path in ("/", "/admin/users", "/api/internal/sync", "/orders/7", "/_ops/live"):
        client.get(path)
    samples = scrape(client)
    for path in (
        "/|public",
        "/admin/<page>|admin",
        "/api/internal/sync|internal",
        "/orders/<int:n>|public",
        "/_ops/live|system",
    ):
        assert requests(samples, method="GET", path=path, status="200") == 1


def test_class_is_on_every_metric_that_has_a_path():
    client = classified().test_client()
    client.get("/orders/7")
    client.get("/nothing-here")
    samples = scrape(client)
    for name, labels in samples:
        path = dict(labels).get("path")
        if path is not None:
            assert "|" in path, (name, path)
    assert value(samples, COUNT, method="GET", path="/orders/<int:n>|public") == 1
    assert requests(samples, method="GET", path="<unmatched>|unmatched", status="404") == 1


def test_classifier_gets_the_rule_and_the_method_once_each():
    asked = []

    def classifier(path, method):
        asked.append((path, method))
        return "c"

    client = classified(classifier).test_client()
    for _ in range(5):
        client.get("/orders/7")
        client.get("/orders/8")
    client.post("/orders/7")
    scrape(client)
    assert asked.count(("/orders/<int:n>", "GET")) == 1
    assert asked.count(("/orders/<int:n>", "POST")) == 1
    assert all(rule.startswith("/") for rule, _ in asked)


@pytest.mark.parametrize(
    "classifier",
    [
        lambda path, method: 1 / 0,
        lambda path, method: None,
        lambda path, method: 7,
        lambda path, method: 'a"b\n\\',
    ],
    ids=["raises", "None", "int", "unprintable"],
)
def test_classifier_that_misbehaves_fails_no_request(classifier):
    client = classified(classifier).test_client()
    assert client.get("/orders/7").status_code == 200
    assert client.get("/_ops/live").status_code == 200
    samples = scrape(client)
    counted = [
        s for s in series(samples, TOTAL) if s["path"].startswith("/orders/<int:n>") and s["status"] == "200"
    ]
    assert len(counted) == 1


def test_bar_in_a_rule_does_not_confuse_the_exposition():
    app = bare_app()
    app.add_url_rule("/a|b/<x>", "bar", lambda x: x)
    add_observability(app, route_classifier=lambda path, method: "public")
    client = app.test_client()
    client.get("/a|b/1")
    assert requests(scrape(client), method="GET", path="/a|b/<x>|public", status="200") == 1
