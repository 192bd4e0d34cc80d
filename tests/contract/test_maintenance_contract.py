"""Maintenance mode: which requests pass, what the refused get, how it is switched."""

from __future__ import annotations

import logging
import os

import pytest
from contract._parts import HEALTHY, bare_app, registry_of
from flask import Blueprint, Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from flask_svc_infra import SvcInfra
from flask_svc_infra.health import add_health_routes
from flask_svc_infra.obs import add_observability
from flask_svc_infra.ops import add_maintenance_mode, add_probes

READS = ["GET", "HEAD", "OPTIONS"]
WRITES = ["POST", "PUT", "PATCH", "DELETE"]


@pytest.fixture(autouse=True)
def _no_switches(monkeypatch):
    monkeypatch.delenv("MAINTENANCE_MODE", raising=False)
    monkeypatch.delenv("CIRCUIT_OPEN", raising=False)


def shop(**options) -> Flask:
    app = bare_app()
    app.add_url_rule("/orders", "orders", lambda: "orders", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    app.add_url_rule("/<path:anything>", "any", lambda anything: anything, methods=["GET", "POST"])
    assert add_maintenance_mode(app, **options) is None
    return app


@pytest.fixture
def on(monkeypatch):
    monkeypatch.setenv("MAINTENANCE_MODE", "1")


@pytest.mark.parametrize("method", READS + WRITES)
def test_off_means_off(method):
    assert shop().test_client().open("/orders", method=method).status_code == 200


@pytest.mark.parametrize("method", READS)
@pytest.mark.usefixtures("on")
def test_reads_pass(method):
    assert shop().test_client().open("/orders", method=method).status_code == 200


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.usefixtures("on")
def test_writes_get_503_with_detail_and_retry_after(method):
    response = shop().test_client().open("/orders", method=method)
    assert response.status_code == 503
    assert response.json == {"detail": "maintenance"}
    assert response.content_type.startswith("application/json")
    assert response.headers["Retry-After"] == "60"


@pytest.mark.usefixtures("on")
def test_write_to_an_unknown_path_gets_the_same_answer():
    app = bare_app()
    add_maintenance_mode(app)
    response = app.test_client().post("/no-such-path")
    assert (response.status_code, response.json) == (503, {"detail": "maintenance"})


@pytest.mark.usefixtures("on")
def test_retry_after_is_a_setting():
    app = bare_app(SVC_INFRA_MAINTENANCE_RETRY_AFTER="120")
    add_maintenance_mode(app)
    assert app.test_client().post("/").headers["Retry-After"] == "120"


@pytest.mark.parametrize("flag", ["1", "true", "True", " true ", "YES", "on"])
def test_flag_is_read_stripped_and_case_folded(monkeypatch, flag):
    monkeypatch.setenv("MAINTENANCE_MODE", flag)
    assert shop().test_client().post("/orders").status_code == 503


@pytest.mark.parametrize("flag", ["", "0", "false", "No", "off", " 0 "])
def test_off_words_are_off(monkeypatch, flag):
    monkeypatch.setenv("MAINTENANCE_MODE", flag)
    assert shop().test_client().post("/orders").status_code == 200


def test_any_other_word_is_off_with_one_warning(monkeypatch, caplog):
    monkeypatch.setenv("MAINTENANCE_MODE", "maybe-tomorrow")
    client = shop().test_client()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert client.post("/orders").status_code == 200
    assert sum("maybe-tomorrow" in r.getMessage() for r in caplog.records) == 1


def test_programmatic_control_through_the_environment_as_documented():
    client = shop().test_client()
    try:
        os.environ["MAINTENANCE_MODE"] = "1"
        assert client.post("/orders").status_code == 503
        os.environ["MAINTENANCE_MODE"] = ""
        assert client.post("/orders").status_code == 200
    finally:
        os.environ.pop("MAINTENANCE_MODE", None)


def test_another_variable_may_be_the_switch(monkeypatch):
    client = shop(env_var="SHOP_CLOSED").test_client()
    monkeypatch.setenv("MAINTENANCE_MODE", "1")
    assert client.post("/orders").status_code == 200
    monkeypatch.setenv("SHOP_CLOSED", "1")
    assert client.post("/orders").status_code == 503


# --- exemptions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/_ops", 200),
        ("/_ops/anything", 200),
        ("/_opsy", 503),
        ("/_opsy-admin/drop", 503),
        ("/x/_ops/y", 503),
        ("/webhooks/stripe", 200),
        ("/webhooks", 200),
        ("/webhooks2", 503),
    ],
)
@pytest.mark.usefixtures("on")
def test_exempt_prefixes_match_whole_segments(path, code):
    client = shop(exempt_prefixes=("/_ops", "/webhooks/")).test_client()
    assert client.post(path).status_code == code


segments = st.text(alphabet="abc_-.%", min_size=1, max_size=4).filter(lambda s: s.strip("."))


@settings(max_examples=80, deadline=None)
@given(st.lists(segments, min_size=1, max_size=3), st.lists(segments, max_size=3), st.text("abc", max_size=2))
def test_exempt_is_exactly_what_lies_under_the_prefix(prefix, rest, glued):
    """No path that merely begins with the prefix's letters slips through."""
    os.environ["MAINTENANCE_MODE"] = "1"
    try:
        prefix_path = "/" + "/".join(prefix)
        client = shop(exempt_prefixes=[prefix_path]).test_client()
        path = "/".join([prefix_path + glued, *rest])
        response = client.open("/", method="POST", environ_overrides={"PATH_INFO": path})
        assert (response.status_code == 503) == (glued != "")
    finally:
        os.environ.pop("MAINTENANCE_MODE", None)


@pytest.mark.parametrize("path", ["/_ops/../orders", "/_ops//../orders", "/_ops/%2e%2e/orders", "//orders"])
@pytest.mark.usefixtures("on")
def test_prefix_cannot_be_climbed_out_of(path):
    app = shop(exempt_prefixes=("/_ops",))
    touched = []
    app.view_functions["orders"] = lambda: touched.append(1) or "orders"
    app.test_client().post(path, follow_redirects=True)
    assert touched == []


@pytest.mark.usefixtures("on")
def test_probes_and_metrics_this_app_serves_are_always_exempt():
    app = bare_app()
    add_maintenance_mode(app)
    add_probes(app)
    add_health_routes(app, registry_of(db=HEALTHY))
    add_observability(app)
    client = app.test_client()
    for path in [
        "/_ops/live",
        "/_ops/ready",
        "/_health/live",
        "/_health/ready",
        "/_health/checks/db",
        "/metrics",
    ]:
        assert client.get(path).status_code == 200
        assert client.post(path).status_code == 405, path


@pytest.mark.usefixtures("on")
def test_exempt_are_the_probes_not_whatever_lies_under_their_prefix():
    app = bare_app()
    add_probes(app)
    app.add_url_rule("/_ops/admin", "admin", lambda: "admin", methods=["POST"])
    add_maintenance_mode(app)
    assert app.test_client().post("/_ops/admin").status_code == 503


@pytest.mark.usefixtures("on")
def test_documented_call_works_as_written():
    app = bare_app()
    app.add_url_rule("/_health/purge", "purge", lambda: "purged", methods=["POST"])
    app.add_url_rule("/orders", "orders", lambda: "orders", methods=["POST"])
    add_maintenance_mode(app, env_var="MAINTENANCE_MODE", exempt_prefixes=("/_health", "/_ops"))
    client = app.test_client()
    assert client.post("/_health/purge").status_code == 200
    assert client.post("/orders").status_code == 503


@pytest.mark.usefixtures("on")
def test_exempt_prefix_counts_behind_a_script_name_mount():
    app = shop(exempt_prefixes=("/webhooks",))
    client = Client(DispatcherMiddleware(Flask("root"), {"/shop": app}))
    assert client.post("/shop/webhooks/x").status_code == 200
    assert client.post("/shop/orders").status_code == 503


@pytest.mark.usefixtures("on")
def test_views_of_blueprints_are_gated_too():
    app = bare_app()
    bp = Blueprint("bp", __name__)
    bp.add_url_rule("/save", "save", lambda: "saved", methods=["POST"])
    app.register_blueprint(bp, url_prefix="/bp")
    add_maintenance_mode(app)
    assert app.test_client().post("/bp/save").status_code == 503


@pytest.mark.usefixtures("on")
def test_method_override_in_a_header_does_not_open_the_gate():
    response = shop().test_client().post("/orders", headers={"X-HTTP-Method-Override": "GET"})
    assert response.status_code == 503


# --- mounting -----------------------------------------------------------------------------------------------


def test_second_gate_on_one_variable_is_refused():
    app = shop()
    with pytest.raises(RuntimeError, match="MAINTENANCE_MODE"):
        add_maintenance_mode(app)


def test_two_gates_on_two_variables_are_fine(monkeypatch):
    app = shop()
    add_maintenance_mode(app, env_var="OTHER_SWITCH")
    monkeypatch.setenv("OTHER_SWITCH", "on")
    assert app.test_client().post("/orders").status_code == 503


# --- through the extension ----------------------------------------------------------------------------------


def test_extension_installs_the_gate(monkeypatch):
    app = bare_app()
    app.add_url_rule("/orders", "orders", lambda: "orders", methods=["GET", "POST"])
    SvcInfra(app)
    client = app.test_client()
    assert client.post("/orders").status_code == 200
    monkeypatch.setenv("MAINTENANCE_MODE", "1")
    assert client.get("/orders").status_code == 200
    assert client.post("/orders").json == {"detail": "maintenance"}


def test_extension_takes_variable_and_exemptions_from_the_settings(monkeypatch):
    app = bare_app(
        SVC_INFRA_MAINTENANCE_ENV_VAR="SHOP_CLOSED", SVC_INFRA_MAINTENANCE_EXEMPT_PREFIXES="/webhooks,/admin"
    )
    app.add_url_rule("/<path:p>", "any", lambda p: p, methods=["POST"])
    SvcInfra(app)
    monkeypatch.setenv("SHOP_CLOSED", "yes")
    client = app.test_client()
    assert client.post("/webhooks/x").status_code == 200
    assert client.post("/admin").status_code == 200
    assert client.post("/orders").status_code == 503


def test_maintenance_can_be_switched_by_the_program():
    app = bare_app()
    app.add_url_rule("/orders", "orders", lambda: "orders", methods=["GET", "POST"])
    infra = SvcInfra(app)
    client = app.test_client()
    infra.maintenance.enable(reason="index rebuild", retry_after=7)
    response = client.post("/orders")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "7")
    assert client.get("/orders").status_code == 200
    assert infra.maintenance.status()
    infra.maintenance.disable()
    assert client.post("/orders").status_code == 200


def test_full_maintenance_refuses_reads_but_not_probes():
    app = bare_app()
    app.add_url_rule("/orders", "orders", lambda: "orders")
    infra = SvcInfra(app)
    infra.maintenance.enable(mode="full")
    client = app.test_client()
    assert client.get("/orders").status_code == 503
    assert client.get("/_health/live").status_code == 200
    assert client.get("/metrics").status_code == 200
    infra.maintenance.disable()


def test_exempt_view_is_served():
    app = bare_app()
    infra = SvcInfra()

    @app.post("/hook")
    @infra.maintenance.exempt
    def hook():
        return "taken"

    app.add_url_rule("/orders", "orders", lambda: "orders", methods=["POST"])
    infra.init_app(app)
    infra.maintenance.enable(mode="full")
    client = app.test_client()
    assert client.post("/hook").get_data() == b"taken"
    assert client.post("/orders").status_code == 503
    infra.maintenance.disable()
