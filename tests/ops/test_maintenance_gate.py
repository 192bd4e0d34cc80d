"""The maintenance gate: what passes, what is refused, and how the refusal reads."""

from __future__ import annotations

import logging

import pytest
from flask import Blueprint, Flask, request
from flask.views import MethodView
from hypothesis import given
from hypothesis import strategies as st
from ops._shop import make_shop

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.mounts import mounts_of
from flask_svc_infra.ops import Maintenance, add_maintenance_mode, add_probes

WRITES = ["POST", "PUT", "PATCH", "DELETE"]
FLAG = "MAINTENANCE_MODE"


@pytest.mark.parametrize("method", WRITES)
def test_writes_are_refused_while_the_variable_is_on(shop, monkeypatch, method):
    client = shop.test_client()
    assert client.open("/orders", method=method).status_code == 200
    monkeypatch.setenv(FLAG, "1")
    reply = client.open("/orders", method=method)
    assert (reply.status_code, reply.json) == (503, {"detail": "maintenance"})
    assert reply.headers["Retry-After"] == "60"
    assert reply.headers["Cache-Control"] == "no-store"
    monkeypatch.setenv(FLAG, "")
    assert client.open("/orders", method=method).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reads_pass_while_the_variable_is_on(shop, monkeypatch, method):
    monkeypatch.setenv(FLAG, "1")
    assert shop.test_client().open("/orders", method=method).status_code == 200


@pytest.mark.parametrize("value", ["1", "true", "TRUE", " yes ", "On", "\ttrue\n"])
def test_a_flag_is_read_as_people_write_it(shop, monkeypatch, value):
    monkeypatch.setenv(FLAG, value)
    assert shop.test_client().post("/orders").status_code == 503


@pytest.mark.parametrize("value", ["0", "false", "No", " off ", "", "  "])
def test_an_off_flag_is_off_and_nothing_is_said(shop, monkeypatch, value, caplog):
    monkeypatch.setenv(FLAG, value)
    assert shop.test_client().post("/orders").status_code == 200
    assert caplog.records == []


def test_any_other_value_is_off_with_one_warning_for_each_value(shop, monkeypatch, caplog):
    client = shop.test_client()
    for value in ["read-only", "read-only", "2", "read-only"]:
        monkeypatch.setenv(FLAG, value)
        assert client.post("/orders").status_code == 200
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "MAINTENANCE_MODE is 'read-only', which is neither on nor off" in warnings[0]


def test_unknown_paths_are_refused_too(shop, monkeypatch):
    monkeypatch.setenv(FLAG, "1")
    assert shop.test_client().post("/nowhere").status_code == 503
    assert shop.test_client().get("/nowhere").status_code == 404


def test_gate_runs_before_every_hook_of_the_app(monkeypatch):
    app = Flask("app")
    ran = []
    app.before_request(lambda: ran.append("theirs"))
    add_maintenance_mode(app)
    monkeypatch.setenv(FLAG, "1")
    assert app.test_client().post("/").status_code == 503
    assert ran == []


def test_probes_and_metrics_are_exempt_whatever_the_method(shop, monkeypatch):
    mounts_of(shop).metrics_paths = ("/metrics",)
    shop.add_url_rule("/metrics", "metrics", lambda: "metrics", methods=["GET", "POST"])
    monkeypatch.setenv(FLAG, "1")
    client = shop.test_client()
    assert client.get("/_ops/ready").status_code == 200
    assert client.post("/_ops/ready").status_code == 405
    assert client.post("/metrics").data == b"metrics"


@pytest.mark.parametrize("path", ["/_ops", "/_ops/echo", "/_opsy-admin", "/_ops/live/x", "/metricsx"])
def test_what_merely_resembles_a_probe_is_refused(shop, monkeypatch, path):
    monkeypatch.setenv(FLAG, "1")
    assert shop.test_client().post(path).status_code == 503


@pytest.mark.parametrize("path", ["/hooks", "/hooks/", "/hooks/stripe", "//hooks/stripe", "/hooks%2Fstripe"])
def test_exempt_prefixes_pass(monkeypatch, path):
    app = make_shop(exempt_prefixes=("/hooks",))
    monkeypatch.setenv(FLAG, "1")
    reply = app.test_client().post("/", environ_overrides={"PATH_INFO": path.replace("%2F", "/")})
    assert reply.status_code in (404, 308)


@pytest.mark.parametrize("path", ["/hooksy", "/hooks-admin", "/Hooks/stripe", "/x/hooks", "/h%6foks"])
def test_exempt_prefixes_match_whole_segments_and_case(monkeypatch, path):
    app = make_shop(exempt_prefixes=("/hooks",))
    monkeypatch.setenv(FLAG, "1")
    expected = 404 if "%6f" in path else 503  # percent-encoding is another spelling of the same path
    assert app.test_client().post(path).status_code == expected


PIECES = [
    "/",
    "//",
    "_ops",
    "live",
    "livex",
    "hooks",
    "Hooks",
    "hooksy",
    ".",
    "..",
    ";",
    "\\",
    " ",
    "\u00e9",
    "",
]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_nothing_gets_through_but_what_is_exempt(path_info):
    reached = []
    maintenance = Maintenance()
    app = make_shop(maintenance=maintenance, exempt_prefixes=("/hooks",))

    @app.post("/<path:rest>")
    def anything(rest):
        reached.append(request.path)
        return "in"

    maintenance.enable(mode="full")
    reply = app.test_client().post("/", environ_overrides={"PATH_INFO": path_info})
    path = "/" + path_info.encode("latin-1").decode("utf-8", "replace").lstrip("/")
    exempt = path == "/_ops/live" or path.split("/")[1] == "hooks"
    assert (reply.status_code != 503) == exempt
    assert reached in ([], [path] if exempt else [])


def test_exempt_prefixes_come_from_the_settings_when_not_given(monkeypatch):
    monkeypatch.setenv(FLAG, "1")
    config = {"SVC_INFRA_MAINTENANCE_EXEMPT_PREFIXES": "/a,/b/"}
    client = make_shop(config=config).test_client()
    assert [client.post(p).status_code for p in ("/a/x", "/b/x", "/c")] == [404, 404, 503]
    client = make_shop(config=config, exempt_prefixes=("/c",)).test_client()
    assert [client.post(p).status_code for p in ("/a/x", "/b/x", "/c")] == [503, 503, 404]
    client = make_shop(config=config, exempt_prefixes=()).test_client()
    assert client.post("/a/x").status_code == 503


@pytest.mark.parametrize("prefixes", [("hooks",), ("/",), ("",), ("/ok", "//")])
def test_a_prefix_that_cannot_work_is_refused_and_nothing_is_mounted(prefixes):
    app = Flask("app")
    with pytest.raises(ConfigurationError, match="nothing was mounted"):
        add_maintenance_mode(app, exempt_prefixes=prefixes)
    add_maintenance_mode(app, exempt_prefixes="/hooks")


def test_another_variable_can_be_named(monkeypatch):
    app = make_shop(env_var="SHOP_CLOSED")
    monkeypatch.setenv(FLAG, "1")
    assert app.test_client().post("/orders").status_code == 200
    monkeypatch.setenv("SHOP_CLOSED", "1")
    assert app.test_client().post("/orders").status_code == 503


def test_the_settings_name_the_variable_and_the_wait(monkeypatch):
    app = make_shop(
        config={"SVC_INFRA_MAINTENANCE_ENV_VAR": "CLOSED", "SVC_INFRA_MAINTENANCE_RETRY_AFTER": "120"}
    )
    monkeypatch.setenv("CLOSED", "1")
    assert app.test_client().post("/orders").headers["Retry-After"] == "120"


def test_a_second_gate_by_one_variable_is_refused_with_the_cure(shop):
    with pytest.raises(RuntimeError, match=r"'MAINTENANCE_MODE' is already mounted.*another env_var"):
        add_maintenance_mode(shop)


def test_gates_by_two_variables_stand_side_by_side(shop, monkeypatch):
    add_maintenance_mode(shop, env_var="CLOSED", exempt_prefixes=("/hooks",))
    watch = mounts_of(shop).parts["ops.maintenance"]
    assert watch.mode == "off"
    for variable in (FLAG, "CLOSED"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "1")
            assert shop.test_client().post("/orders").status_code == 503
            assert watch.mode == "read-only"
    assert watch.mode == "off"


def test_add_maintenance_mode_returns_none():
    assert add_maintenance_mode(Flask("app")) is None


def test_full_mode_refuses_reads_too_but_not_probes():
    maintenance = Maintenance()
    client = make_shop(maintenance=maintenance, exempt_prefixes=("/hooks",)).test_client()
    maintenance.enable(mode="full")
    assert [client.open("/orders", method=m).status_code for m in ("GET", "HEAD", "OPTIONS")] == [503] * 3
    assert client.get("/_ops/live").status_code == 200
    assert client.get("/hooks/x").status_code == 404
    maintenance.disable()
    assert client.get("/orders").status_code == 200


def test_one_maintenance_serves_several_apps():
    maintenance = Maintenance()
    clients = [make_shop(maintenance=maintenance).test_client() for _ in range(2)]
    maintenance.enable()
    assert [client.post("/orders").status_code for client in clients] == [503, 503]


def test_the_variable_of_one_app_does_not_close_another(monkeypatch):
    maintenance = Maintenance()
    one = make_shop(maintenance=maintenance, env_var="ONE").test_client()
    other = make_shop(maintenance=maintenance, env_var="OTHER").test_client()
    monkeypatch.setenv("ONE", "1")
    assert [one.post("/orders").status_code, other.post("/orders").status_code] == [503, 200]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "60"),
        ({"duration": 7200}, "60"),
        ({"duration": 12.2}, "13"),
        ({"duration": 5, "retry_after": 90}, "90"),
    ],
)
def test_retry_after_is_as_ordered_else_the_default_cut_at_the_end(clock, options, expected):
    maintenance = Maintenance(clock=clock)
    client = make_shop(maintenance=maintenance).test_client()
    maintenance.enable(**options)
    assert client.post("/orders").headers["Retry-After"] == expected


def test_exempted_views_pass_and_their_neighbours_do_not():
    maintenance = Maintenance()
    app = make_shop(maintenance=maintenance)

    @app.post("/hooks")
    @maintenance.exempt
    def hooks():
        return "took it"

    @maintenance.exempt
    class Refunds(MethodView):
        def post(self):
            return "refunded"

    app.add_url_rule("/refunds", view_func=Refunds.as_view("refunds"))
    maintenance.enable(mode="full")
    client = app.test_client()
    assert client.post("/hooks").text == "took it"
    assert client.post("/refunds").text == "refunded"
    assert client.post("/orders").status_code == 503


def test_exempted_blueprints_pass_with_everything_nested_in_them():
    maintenance = Maintenance()
    app = make_shop(maintenance=maintenance)
    admin, deep, other = Blueprint("admin", "x"), Blueprint("deep", "x"), Blueprint("other", "x")
    for blueprint in (admin, deep, other):
        blueprint.add_url_rule("/", "index", lambda: "in", methods=["POST"])
    admin.register_blueprint(deep, url_prefix="/deep")
    app.register_blueprint(admin, url_prefix="/admin")
    app.register_blueprint(other, url_prefix="/other")
    maintenance.exempt(admin)
    maintenance.enable()
    client = app.test_client()
    assert [client.post(f"{p}/").status_code for p in ("/admin", "/admin/deep", "/other")] == [200, 200, 503]


def test_the_gate_works_behind_a_script_name_mount(shop, monkeypatch):
    monkeypatch.setenv(FLAG, "1")
    client = shop.test_client()
    assert client.post("/orders", base_url="http://x/shop").status_code == 503
    assert client.post("/_ops/live", base_url="http://x/shop").status_code == 405


def test_probes_added_after_the_gate_are_exempt(monkeypatch):
    app = Flask("app")
    add_maintenance_mode(app)
    add_probes(app, prefix="/_later")
    monkeypatch.setenv(FLAG, "1")
    assert app.test_client().post("/_later/live").status_code == 405
