"""The `/_health` routes: paths, status codes, bodies and headers."""

from __future__ import annotations

import threading
import time

import pytest
from contract._parts import (
    DEGRADED,
    HEALTHY,
    UNHEALTHY,
    UNKNOWN,
    answers,
    bare_app,
    faster_than,
    registry_of,
    served,
)
from flask import Blueprint, Flask, abort, url_for
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from flask_svc_infra.health import HealthRegistry, add_dependency_health, add_health_routes

PROBES = ["/_health/live", "/_health/ready", "/_health/startup", "/_health/checks/db"]


def test_documented_routes_are_in_the_url_map():
    app = Flask(__name__)
    add_health_routes(app, HealthRegistry())
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    assert {"/_health/live", "/_health/ready", "/_health/startup", "/_health/checks/<name>"} <= rules


def test_each_route_can_be_built_by_url_for():
    app = Flask(__name__)
    add_health_routes(app, HealthRegistry())
    with app.test_request_context():
        for rule in list(app.url_map.iter_rules()):
            if rule.rule.startswith("/_health"):
                values = dict.fromkeys(rule.arguments, "db")
                assert url_for(rule.endpoint, **values).startswith("/_health/")


def test_add_health_routes_returns_nothing():
    assert add_health_routes(Flask(__name__), HealthRegistry()) is None


def test_prefix_moves_every_route():
    client = served(registry_of(db=HEALTHY), prefix="/probes")
    for path in ["/probes/live", "/probes/ready", "/probes/startup", "/probes/checks/db"]:
        assert client.get(path).status_code == 200
    assert client.get("/_health/live").status_code == 404


# --- live ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [HEALTHY, DEGRADED, UNHEALTHY, UNKNOWN])
def test_live_is_always_ok(status):
    response = served(registry_of(db=status)).get("/_health/live")
    assert response.status_code == 200
    assert response.json == {"status": "ok"}


def test_live_runs_no_check():
    ran = []
    registry = HealthRegistry()
    registry.add("db", lambda: ran.append(1) or True)
    served(registry).get("/_health/live")
    assert ran == []


def test_live_answers_while_a_check_hangs():
    release = threading.Event()
    registry = HealthRegistry()
    registry.add("hung", lambda: release.wait(5), timeout=2.0)
    client = served(registry)
    thread = threading.Thread(target=lambda: client.application.test_client().get("/_health/ready"))
    thread.start()
    with faster_than(1.5):
        assert client.get("/_health/live").status_code == 200
    release.set()
    thread.join(5)


# --- ready --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "critical", "code", "overall"),
    [
        (HEALTHY, True, 200, "healthy"),
        (DEGRADED, True, 200, "degraded"),
        (UNHEALTHY, False, 200, "degraded"),
        (UNKNOWN, False, 200, "degraded"),
        (UNHEALTHY, True, 503, "unhealthy"),
        (UNKNOWN, True, 503, "unhealthy"),
    ],
)
def test_ready_is_200_when_healthy_or_degraded_and_503_when_unhealthy(status, critical, code, overall):
    response = served(registry_of(db=(status, critical))).get("/_health/ready")
    assert response.status_code == code
    assert response.json["status"] == overall


def test_ready_body_lists_each_check_with_name_status_and_latency():
    response = served(registry_of(database=HEALTHY, cache=(UNHEALTHY, False))).get("/_health/ready")
    assert response.content_type.startswith("application/json")
    assert response.json["status"] == "degraded"
    database, cache = response.json["checks"]
    assert (database["name"], database["status"]) == ("database", "healthy")
    assert (cache["name"], cache["status"]) == ("cache", "unhealthy")
    assert all(isinstance(c["latency_ms"], int | float) and c["latency_ms"] >= 0 for c in (database, cache))


def test_ready_without_any_check_is_healthy():
    response = served(HealthRegistry()).get("/_health/ready")
    assert (response.status_code, response.json["status"], response.json["checks"]) == (200, "healthy", [])


def test_ready_follows_the_dependency():
    state = {"up": True}
    registry = HealthRegistry()
    registry.add("db", lambda: state["up"])
    client = served(registry)
    codes = []
    for up in (True, False, True):
        state["up"] = up
        codes.append(client.get("/_health/ready").status_code)
    assert codes == [200, 503, 200]


def test_check_added_after_the_routes_is_served():
    registry = HealthRegistry()
    client = served(registry)
    registry.add("late", answers(UNHEALTHY))
    assert client.get("/_health/ready").status_code == 503
    assert client.get("/_health/checks/late").status_code == 503


def test_ready_takes_as_long_as_the_slowest_check_not_the_sum():
    registry = HealthRegistry()
    for index in range(10):
        registry.add(f"c{index}", lambda: time.sleep(0.3) or True)
    client = served(registry)
    with faster_than(2.0):
        assert client.get("/_health/ready").status_code == 200


def test_ready_reuses_a_result_no_older_than_the_cache_ttl():
    runs = []
    registry = HealthRegistry()
    registry.add("db", lambda: runs.append(1) or True)
    app = bare_app(SVC_INFRA_HEALTH_CACHE_TTL=30)
    add_health_routes(app, registry)
    client = app.test_client()
    for _ in range(20):
        assert client.get("/_health/ready").status_code == 200
    assert len(runs) == 1
    registry.check_all()
    assert len(runs) == 2


def test_no_reuse_with_a_ttl_of_zero():
    runs = []
    registry = HealthRegistry()
    registry.add("db", lambda: runs.append(1) or True)
    client = served(registry)
    client.get("/_health/ready")
    client.get("/_health/ready")
    assert len(runs) == 2


# --- startup ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [HEALTHY, DEGRADED])
def test_startup_good_is_ok(status):
    response = served(registry_of(db=status)).get("/_health/startup")
    assert (response.status_code, response.json) == (200, {"status": "ok"})


@pytest.mark.parametrize("status", [UNHEALTHY, UNKNOWN])
def test_startup_is_503_while_a_critical_check_fails(status):
    response = served(registry_of(db=status)).get("/_health/startup")
    assert response.status_code == 503
    assert response.json["status"] == "unhealthy"
    assert [c["name"] for c in response.json["checks"]] == ["db"]


def test_startup_runs_the_critical_checks_only():
    ran = []
    registry = HealthRegistry()
    registry.add("db", lambda: ran.append("db") or True)
    registry.add("cache", lambda: ran.append("cache") or False, critical=False)
    assert served(registry).get("/_health/startup").json == {"status": "ok"}
    assert ran == ["db"]


# --- one check ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"), [(HEALTHY, 200), (DEGRADED, 200), (UNHEALTHY, 503), (UNKNOWN, 503)]
)
@pytest.mark.parametrize("critical", [True, False])
def test_single_check_is_200_when_healthy_or_degraded_else_503(status, code, critical):
    response = served(registry_of(db=(status, critical))).get("/_health/checks/db")
    assert response.status_code == code
    assert response.json["name"] == "db"
    assert response.json["status"] == status.value
    assert "latency_ms" in response.json


def test_unknown_check_is_404_with_its_name():
    response = served(registry_of(db=HEALTHY)).get("/_health/checks/x")
    assert response.status_code == 404
    assert response.json == {"error": "health check 'x' not found"}


def test_single_check_runs_no_other():
    ran = []
    registry = HealthRegistry()
    registry.add("db", lambda: ran.append("db") or True)
    registry.add("cache", lambda: ran.append("cache") or True)
    served(registry).get("/_health/checks/db")
    assert ran == ["db"]


@pytest.mark.parametrize("name", ["payment-api", "db:5432", "a b", "größe", "ready"])
def test_check_of_any_printable_name_has_its_route(name):
    registry = HealthRegistry()
    registry.add(name, answers(HEALTHY))
    response = served(registry).get(f"/_health/checks/{name}")
    assert response.status_code == 200
    assert response.json["name"] == name


def test_unknown_name_is_echoed_as_json_and_nothing_else():
    response = served(HealthRegistry()).get("/_health/checks/<script>alert(1)<%2Fscript>")
    assert response.status_code == 404
    assert response.content_type.startswith(("application/json", "text/html"))
    if response.content_type.startswith("text/html"):  # the slash made it another path
        assert "<script>" not in response.get_data(as_text=True)


# --- details ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "critical", "code", "overall"),
    [
        (HEALTHY, True, 200, "healthy"),
        (UNHEALTHY, False, 200, "degraded"),
        (UNHEALTHY, True, 503, "unhealthy"),
    ],
)
def test_without_details_ready_says_status_alone(status, critical, code, overall):
    response = served(registry_of(db=(status, critical)), detailed_on_failure=False).get("/_health/ready")
    assert (response.status_code, response.json) == (code, {"status": overall})


def test_without_details_startup_says_status_alone():
    client = served(registry_of(db=UNHEALTHY), detailed_on_failure=False)
    response = client.get("/_health/startup")
    assert (response.status_code, response.json) == (503, {"status": "unhealthy"})
    client = served(registry_of(db=HEALTHY), detailed_on_failure=False)
    assert client.get("/_health/startup").json == {"status": "ok"}


@pytest.mark.parametrize(("status", "code"), [(HEALTHY, 200), (UNHEALTHY, 503)])
def test_without_details_single_check_says_name_and_status_alone(status, code):
    response = served(registry_of(db=status), detailed_on_failure=False).get("/_health/checks/db")
    assert (response.status_code, response.json) == (code, {"name": "db", "status": status.value})


def test_without_details_the_404_is_unchanged():
    response = served(HealthRegistry(), detailed_on_failure=False).get("/_health/checks/x")
    assert (response.status_code, response.json) == (404, {"error": "health check 'x' not found"})


def test_details_can_be_switched_off_by_the_deployment():
    app = bare_app(SVC_INFRA_DETAILED_ON_FAILURE="False")
    add_health_routes(app, registry_of(db=UNHEALTHY))
    assert app.test_client().get("/_health/ready").json == {"status": "unhealthy"}


# --- HTTP ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [HEALTHY, UNHEALTHY])
@pytest.mark.parametrize("path", [*PROBES, "/_health/checks/unknown"])
def test_head_answers_like_get_without_a_body(path, status):
    client = served(registry_of(db=status))
    head, get = client.head(path), client.get(path)
    assert head.status_code == get.status_code
    assert head.get_data() == b""
    assert head.content_type == get.content_type


@pytest.mark.parametrize("status", [HEALTHY, UNHEALTHY])
@pytest.mark.parametrize("path", [*PROBES, "/_health/checks/unknown"])
def test_no_probe_may_be_cached(path, status):
    response = served(registry_of(db=status)).get(path)
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_not_allowed(path, method):
    assert served(registry_of(db=HEALTHY)).open(path, method=method).status_code == 405


@pytest.mark.parametrize(
    "path", ["/_health/", "/_health", "/_healthy", "/_health/live/x", "/_health/checks/"]
)
def test_paths_beside_the_probes_are_plain_404s(path):
    assert served(registry_of(db=HEALTHY)).get(path).status_code == 404


def test_query_string_does_not_disturb_a_probe():
    assert served(registry_of(db=HEALTHY)).get("/_health/live?cb=123").status_code == 200


def test_before_request_of_the_app_cannot_fail_a_probe():
    app = bare_app()
    app.before_request(lambda: abort(401))
    add_health_routes(app, registry_of(db=HEALTHY))
    client = app.test_client()
    assert [client.get(path).status_code for path in PROBES] == [200] * 4


def test_catch_all_route_of_the_app_does_not_shadow_the_probes():
    app = bare_app()
    app.add_url_rule("/<path:anything>", "spa", lambda anything: "spa")
    add_health_routes(app, registry_of(db=UNHEALTHY))
    client = app.test_client()
    assert client.get("/_health/ready").status_code == 503
    assert client.get("/elsewhere").get_data() == b"spa"


def test_probes_work_behind_a_script_name_mount():
    app = bare_app()
    add_health_routes(app, registry_of(db=UNHEALTHY))
    client = Client(DispatcherMiddleware(Flask("root"), {"/shop": app}))
    assert client.get("/shop/_health/live").status_code == 200
    assert client.get("/shop/_health/ready").status_code == 503
    assert client.get("/shop/_health/checks/db").status_code == 503
    assert client.get("/_health/live").status_code == 404


def test_probes_work_with_strict_host_matching_settings():
    app = bare_app(SERVER_NAME="shop.example")
    add_health_routes(app, registry_of(db=HEALTHY))
    response = app.test_client().get("/_health/live", headers={"Host": "10.1.2.3:8000"})
    assert response.status_code == 200


def test_user_blueprint_with_a_like_prefix_keeps_its_routes():
    app = bare_app()
    pages = Blueprint("pages", __name__, url_prefix="/_health")
    pages.add_url_rule("/report", "report", lambda: "report")
    app.register_blueprint(pages)
    add_health_routes(app, registry_of(db=HEALTHY))
    assert app.test_client().get("/_health/report").get_data() == b"report"


# --- mounting -----------------------------------------------------------------------------------------------


def test_second_mount_under_one_prefix_is_refused_with_the_cure():
    app = bare_app()
    add_health_routes(app, registry_of(db=HEALTHY))
    with pytest.raises(RuntimeError, match="/_health"):
        add_health_routes(app, registry_of(db=UNHEALTHY))
    assert app.test_client().get("/_health/ready").status_code == 200


def test_two_registries_live_under_two_prefixes():
    app = bare_app()
    add_health_routes(app, registry_of(db=HEALTHY))
    add_health_routes(app, registry_of(db=UNHEALTHY), prefix="/_deep")
    client = app.test_client()
    assert client.get("/_health/ready").status_code == 200
    assert client.get("/_deep/ready").status_code == 503


def test_two_apps_keep_to_their_own_registry():
    one, two = served(registry_of(db=HEALTHY)), served(registry_of(db=UNHEALTHY))
    assert one.get("/_health/ready").status_code == 200
    assert two.get("/_health/ready").status_code == 503


def test_one_registry_may_serve_two_apps():
    registry = registry_of(db=HEALTHY)
    for client in (served(registry), served(registry)):
        assert client.get("/_health/ready").status_code == 200


# --- add_dependency_health ----------------------------------------------------------------------------------


def test_dependency_health_makes_and_mounts_a_registry():
    app = bare_app()
    add_dependency_health(app, "db", answers(HEALTHY))
    response = app.test_client().get("/_health/ready")
    assert (response.status_code, [c["name"] for c in response.json["checks"]]) == (200, ["db"])


def test_dependency_health_adds_to_the_registry_it_made():
    app = bare_app()
    add_dependency_health(app, "db", answers(HEALTHY))
    add_dependency_health(app, "cache", answers(UNHEALTHY), critical=False)
    response = app.test_client().get("/_health/ready")
    assert response.json["status"] == "degraded"
    assert [c["name"] for c in response.json["checks"]] == ["db", "cache"]


def test_dependency_health_joins_the_registry_the_app_already_serves():
    registry = registry_of(db=HEALTHY)
    app = bare_app()
    add_health_routes(app, registry)
    add_dependency_health(app, "cache", answers(UNHEALTHY))
    assert [c.name for c in registry.checks] == ["db", "cache"]
    assert app.test_client().get("/_health/ready").status_code == 503


def test_dependency_health_is_critical_by_default():
    app = bare_app()
    add_dependency_health(app, "db", answers(UNHEALTHY))
    assert app.test_client().get("/_health/ready").status_code == 503


def test_dependency_health_of_a_taken_name_is_refused():
    app = bare_app()
    add_dependency_health(app, "db", answers(HEALTHY))
    with pytest.raises(ValueError, match="already registered"):
        add_dependency_health(app, "db", answers(HEALTHY))


def test_secret_in_a_check_reaches_no_body():
    def raises():
        raise ConnectionError("postgresql://shop:hunter2secret@db/shop refused")

    registry = HealthRegistry()
    registry.add("db", raises)
    client = served(registry)
    for path in ("/_health/ready", "/_health/startup", "/_health/checks/db"):
        body = client.get(path).get_data(as_text=True)
        assert "hunter2secret" not in body
        assert "refused" in body


# --- documentation of the probes ----------------------------------------------------------------------------


def test_schema_leaves_the_probes_out_by_default():
    apiflask = pytest.importorskip("apiflask")
    app = apiflask.APIFlask(__name__)
    add_health_routes(app, HealthRegistry())
    assert not [path for path in app.spec["paths"] if path.startswith("/_health")]


def test_include_in_schema_documents_the_probes():
    apiflask = pytest.importorskip("apiflask")
    app = apiflask.APIFlask(__name__)
    add_health_routes(app, HealthRegistry(), include_in_schema=True)
    paths = app.spec["paths"]
    assert {"/_health/live", "/_health/ready", "/_health/startup", "/_health/checks/{name}"} <= set(paths)


def test_openapi_paths_gives_elsewhere_what_to_merge():
    from flask_svc_infra.health import openapi_paths

    app = bare_app()
    add_health_routes(app, HealthRegistry(), include_in_schema=True)
    add_health_routes(app, HealthRegistry(), prefix="/_hidden")
    paths = openapi_paths(app)
    assert {"/_health/live", "/_health/ready", "/_health/startup", "/_health/checks/{name}"} <= set(paths)
    assert {"200", "503"} <= set(paths["/_health/ready"]["get"]["responses"])
    assert not [path for path in paths if path.startswith("/_hidden")]


@pytest.mark.parametrize("path", PROBES)
def test_a_slash_at_the_end_makes_no_difference(path):
    """The documented library answers both; a kubelet configured with the slash must not meet a 404."""
    client = served(registry_of(db=HEALTHY))
    assert client.get(path + "/").status_code == client.get(path).status_code == 200
