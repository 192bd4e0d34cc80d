"""What the probes answer beyond the documented bodies: caching, formats, groups, holds, mounting."""

import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask, current_app

from flask_svc_infra import ConfigurationError
from flask_svc_infra.health import (
    HealthCheckResult,
    HealthRegistry,
    HealthStatus,
    add_dependency_health,
    add_health_routes,
    openapi_paths,
)
from flask_svc_infra.mounts import Hold, entry_of, mounts_of

HEALTHY, DEGRADED, UNHEALTHY, UNKNOWN = (
    HealthStatus.HEALTHY,
    HealthStatus.DEGRADED,
    HealthStatus.UNHEALTHY,
    HealthStatus.UNKNOWN,
)


PATHS = ["live", "ready", "startup", "checks/db", "checks/nope", "groups/ready", "groups/nope"]


def make_app(ttl=0.0, **config):
    app = Flask("served")
    app.config.update(SVC_INFRA_HEALTH_CACHE_TTL=ttl, **config)
    return app


def serve(registry, ttl=0.0, **options):
    app = make_app(ttl)
    add_health_routes(app, registry, **options)
    return app.test_client()


@pytest.fixture
def registry():
    registry = HealthRegistry()
    registry.add("db", lambda: True)
    registry.add("cache", lambda: HealthCheckResult("x", UNHEALTHY, 0, "Connection refused"), critical=False)
    return registry


# --- the view and the short cut say the same ---------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("accept", [None, "text/plain", "application/health+json"])
def test_view_answers_as_the_short_cut_does(registry, path, accept):
    app = make_app()
    add_health_routes(app, registry)
    client = app.test_client()
    headers = {"Accept": accept} if accept else {}
    short = client.get(f"/_health/{path}", headers=headers)
    entry_of(app).shortcut(None)
    viewed = client.get(f"/_health/{path}", headers=headers)
    assert viewed.status_code == short.status_code
    assert viewed.content_type == short.content_type
    assert viewed.headers["Cache-Control"] == short.headers["Cache-Control"] == "no-store"
    assert client.head(f"/_health/{path}", headers=headers).status_code == short.status_code
    scrubbed = [_without_times(each.get_data(as_text=True)) for each in (short, viewed)]
    assert scrubbed[0] == scrubbed[1]


def _without_times(text):
    def scrub(value):
        if isinstance(value, dict):
            return {k: scrub(v) for k, v in value.items() if k not in ("latency_ms", "observedValue", "time")}
        return [scrub(each) for each in value] if isinstance(value, list) else value

    return scrub(json.loads(text)) if text.startswith("{") else text


# --- probe storms ------------------------------------------------------------------------------


def test_fresh_answer_has_exactly_the_documented_keys(registry):
    body = serve(registry).get("/_health/ready").json
    assert set(body) == {"status", "checks"}
    assert set(body["checks"][0]) == {"name", "status", "latency_ms"}


def test_result_within_the_ttl_is_used_again_and_tells_its_age(clock):
    runs = itertools.count(1)
    registry = HealthRegistry(clock=clock)
    registry.add("db", lambda: next(runs) > 0)
    client = serve(registry, ttl=1.0)
    client.get("/_health/ready")
    clock.advance(0.75)
    (check,) = client.get("/_health/ready").json["checks"]
    assert check["age_ms"] == 750
    assert check["checked_at"].endswith("Z")
    assert client.get("/_health/checks/db").json["age_ms"] == 750
    assert next(runs) == 2
    clock.advance(0.5)
    (check,) = client.get("/_health/ready").json["checks"]
    assert "age_ms" not in check
    assert next(runs) == 4


def test_python_calls_run_fresh_whatever_the_ttl(clock):
    runs = itertools.count(1)
    registry = HealthRegistry(clock=clock)
    registry.add("db", lambda: next(runs) > 0)
    serve(registry, ttl=60).get("/_health/ready")
    registry.check_all()
    assert next(runs) == 3


def test_thousand_probes_in_a_second_are_at_most_two_runs():
    runs = []
    registry = HealthRegistry()
    registry.add("db", lambda: runs.append(1) or True)
    app = make_app(ttl=1.0)
    add_health_routes(app, registry)
    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda _: app.test_client().get("/_health/ready").status_code, range(1000)))
    assert set(codes) == {200}
    assert len(runs) <= 1 + (time.monotonic() - began) // 1.0 + 1


def test_hundred_probes_at_once_are_one_run():
    runs, release = [], threading.Event()
    registry = HealthRegistry()
    registry.add("db", lambda: runs.append(1) or release.wait(5))
    app = make_app()
    add_health_routes(app, registry)
    with ThreadPoolExecutor(100) as pool:
        asked = [pool.submit(lambda: app.test_client().get("/_health/ready").status_code) for _ in range(100)]
        while registry._lanes["db"].run is None or registry._lanes["db"].run.askers < 100:
            time.sleep(0.005)
        release.set()
        assert {each.result() for each in asked} == {200}
    assert len(runs) == 1


def test_hung_check_leaves_liveness_alone_and_is_answered_at_once(hanging):
    registry = HealthRegistry()
    registry.add("hung", hanging, timeout=0.1)
    client = serve(registry, ttl=0.01)
    assert client.get("/_health/ready").status_code == 503
    began = time.monotonic()
    for _ in range(50):
        assert client.get("/_health/live").status_code == 200
        assert client.get("/_health/ready").status_code == 503
    assert time.monotonic() - began < 1
    assert hanging.started == 1


# --- groups, exclude, verbose ------------------------------------------------------------------


def test_group_asks_its_own_checks_alone():
    registry = HealthRegistry()
    registry.add("db", lambda: True)
    registry.add("report", lambda: False, groups=("deep",))
    registry.add("queue", lambda: False, critical=False, groups=["ready", "deep"])
    client = serve(registry)
    assert [c["name"] for c in client.get("/_health/ready").json["checks"]] == ["db", "queue"]
    deep = client.get("/_health/groups/deep")
    assert deep.status_code == 503
    assert [c["name"] for c in deep.json["checks"]] == ["report", "queue"]
    assert client.get("/_health/startup").json == {"status": "ok"}
    assert client.get("/_health/groups/startup").json == {"status": "ok"}
    missing = client.get("/_health/groups/nope")
    assert (missing.status_code, missing.json) == (404, {"error": "health group 'nope' not found"})


def test_excluding_every_check_is_not_having_none():
    registry = HealthRegistry()
    registry.add("db", lambda: False)
    response = serve(registry).get("/_health/ready?exclude=db")
    assert (response.status_code, response.json["message"]) == (200, "every check is excluded")


def test_excluded_checks_are_neither_run_nor_counted():
    registry = HealthRegistry()
    registry.add("db", lambda: pytest.fail("it ran"))
    registry.add("cache", lambda: True)
    response = serve(registry).get("/_health/ready?exclude=db&exclude=typo")
    assert response.status_code == 200
    assert [c["name"] for c in response.json["checks"]] == ["cache"]
    assert response.json["message"] == "nothing to exclude by the name of typo"


def test_verbose_says_all_that_is_known(registry):
    body = serve(registry).get("/_health/ready?verbose").json
    check = body["checks"][1]
    assert (check["critical"], check["timeout"], check["groups"]) == (False, 5.0, ["ready"])
    assert {"checked_at", "age_ms", "message"} <= set(check)
    assert serve(registry).get("/_health/startup?verbose").json["checks"][0]["name"] == "db"


def test_plain_text_is_a_word_and_verbose_a_line_a_check(registry):
    client, headers = serve(registry), {"Accept": "text/plain"}
    assert client.get("/_health/ready", headers=headers).get_data() == b"ok\n"
    assert client.get("/_health/live", headers=headers).get_data() == b"ok\n"
    assert client.get("/_health/startup", headers=headers).get_data() == b"ok\n"
    verbose = client.get("/_health/ready?verbose&exclude=db", headers=headers)
    assert verbose.content_type == "text/plain; charset=utf-8"
    assert verbose.get_data(as_text=True).splitlines() == [
        "[-]cache unhealthy: Connection refused",
        "[+]db excluded: ok",
        "ready check passed",
    ]
    assert client.get("/_health/checks/cache?verbose", headers=headers).get_data(as_text=True) == (
        "[-]cache unhealthy: Connection refused\n"
    )
    registry.add("queue", lambda: False)
    failed = client.get("/_health/ready", headers=headers)
    assert failed.status_code == 503
    assert failed.get_data(as_text=True).splitlines()[-2:] == ["[-]queue unhealthy", "ready check failed"]


def test_health_json_is_given_to_who_asks_for_it(registry):
    client = serve(registry)
    response = client.get(
        "/_health/ready", headers={"Accept": "application/health+json, application/json;q=0.5"}
    )
    assert response.content_type == "application/health+json"
    assert response.json["status"] == "warn"
    (cache,) = response.json["checks"]["cache:responseTime"]
    assert (cache["status"], cache["observedUnit"], cache["output"]) == ("fail", "ms", "Connection refused")
    assert client.get("/_health/live", headers={"Accept": "application/health+json"}).json == {
        "status": "pass"
    }


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("image/png", "application/json"),
        ("text/*", "text/plain; charset=utf-8"),
        ("text/plain;q=0.1, application/json", "application/json"),
        (";;;,,=", "application/json"),
    ],
)
def test_format_is_what_accept_prefers_and_json_in_doubt(registry, accept, content_type):
    assert serve(registry).get("/_health/ready", headers={"Accept": accept}).content_type == content_type


@pytest.mark.parametrize("accept", ["application/json", "text/plain", "application/health+json"])
@pytest.mark.parametrize("path", ["ready", "startup", "checks/cache", "groups/ready"])
def test_details_off_names_nothing_in_any_format(registry, accept, path):
    client = serve(registry, detailed_on_failure=False)
    registry.add("queue", lambda: HealthCheckResult("x", UNHEALTHY, 0, "secret plan"))
    text = client.get(f"/_health/{path}?verbose", headers={"Accept": accept}).get_data(as_text=True)
    assert "secret plan" not in text
    assert "refused" not in text
    assert "db" not in text


# --- holds -------------------------------------------------------------------------------------


def test_hold_comes_before_the_checks(registry):
    app = make_app()
    add_health_routes(app, registry)
    why = ["draining"]
    mounts_of(app).holds += (Hold("draining", frozenset({"ready"}), lambda: why[0]),)
    client = app.test_client()
    held = client.get("/_health/ready")
    assert (held.status_code, held.json) == (
        503,
        {"status": "unhealthy", "checks": [], "message": "draining"},
    )
    assert client.get("/_health/groups/ready").status_code == 503
    assert client.get("/_health/startup").status_code == 200
    assert client.get("/_health/live").status_code == 200
    text = client.get("/_health/ready", headers={"Accept": "text/plain"})
    assert (text.status_code, text.get_data()) == (503, b"unhealthy: draining\n")
    draft = client.get("/_health/ready", headers={"Accept": "application/health+json"})
    assert draft.json == {"status": "fail", "output": "draining"}
    why[0] = None
    assert client.get("/_health/ready").status_code == 200


def test_hold_says_the_status_alone_when_details_are_off(registry):
    app = make_app()
    add_health_routes(app, registry, detailed_on_failure=False)
    mounts_of(app).holds += (Hold("draining", frozenset({"ready"}), lambda: "draining"),)
    assert app.test_client().get("/_health/ready").json == {"status": "unhealthy"}


# --- contexts and lifetimes --------------------------------------------------------------------


def test_sync_checks_see_the_app_asked_and_python_calls_the_one_mounted():
    registry = HealthRegistry()
    registry.add("app", lambda: HealthCheckResult("x", HEALTHY, 0, current_app.name))
    one, two = Flask("one"), Flask("two")
    for app in (one, two):
        app.config["SVC_INFRA_HEALTH_CACHE_TTL"] = 0
        add_health_routes(app, registry)
    assert two.test_client().get("/_health/checks/app").json["message"] == "two"
    assert one.test_client().get("/_health/checks/app").json["message"] == "one"
    assert registry.check_one("app").message == "one"


def test_check_removed_meanwhile_is_a_404_and_no_error():
    registry = HealthRegistry()
    registry.add("db", lambda: True)
    client = serve(registry)
    registry.remove("db")
    assert client.get("/_health/checks/db").status_code == 404
    assert client.get("/_health/ready").json["message"] == "No health checks registered"


def test_non_ascii_name_is_found():
    registry = HealthRegistry()
    registry.add("bücher", lambda: True)
    client = serve(registry)
    assert client.get("/_health/checks/bücher").json["name"] == "bücher"
    assert client.get("/_health/checks/b%C3%BCcher").status_code == 200
    assert client.get("/_health/checks/b%FFcher").status_code == 404


# --- mounting ----------------------------------------------------------------------------------


def test_second_mount_under_one_prefix_is_refused_with_the_cure_and_another_prefix_is_not(registry):
    app = make_app()
    add_health_routes(app, registry)
    with pytest.raises(RuntimeError, match="another prefix"):
        add_health_routes(app, HealthRegistry())
    add_health_routes(app, HealthRegistry(), prefix="/other")
    assert app.test_client().get("/other/ready").json["message"] == "No health checks registered"
    assert mounts_of(app).parts["health.registry"] is registry


def test_mounting_after_the_first_request_loses_nothing(registry):
    app = make_app()
    app.test_client().get("/")
    with pytest.raises(RuntimeError, match="served its first request"):
        add_health_routes(app, registry)
    assert mounts_of(app).probes == {}


def test_what_is_no_registry_is_refused():
    with pytest.raises(ConfigurationError, match="dict for a registry"):
        add_health_routes(make_app(), {})


def test_registry_with_a_sync_side_is_served_by_it(registry):
    class Awaited:
        sync = registry

    assert [c["name"] for c in serve(Awaited()).get("/_health/ready").json["checks"]] == ["db", "cache"]


def test_dependency_joins_the_registry_that_is_served(registry):
    app = make_app()
    add_health_routes(app, registry)
    add_dependency_health(app, "queue", lambda: True, critical=False)
    assert [check.name for check in registry.checks] == ["db", "cache", "queue"]
    with pytest.raises(ValueError, match="already registered"):
        add_dependency_health(app, "queue", lambda: True)


def test_dependency_makes_and_mounts_a_registry_where_the_settings_say():
    app = make_app(SVC_INFRA_HEALTH_PREFIX="/probes")
    with pytest.raises(ConfigurationError):
        add_dependency_health(app, "db", "no check")
    add_dependency_health(app, "db", lambda: True)
    add_dependency_health(app, "cache", lambda: False, critical=False)
    body = app.test_client().get("/probes/ready").json
    assert (body["status"], len(body["checks"])) == ("degraded", 2)


def test_dependency_of_what_is_no_app_is_refused():
    class NoStateApp:
        pass

    with pytest.raises(ValueError, match="state"):
        add_dependency_health(NoStateApp(), "db", lambda: True)


def test_openapi_paths_hold_what_may_be_seen(registry):
    app = make_app()
    add_health_routes(app, registry, include_in_schema=True)
    add_health_routes(app, HealthRegistry(), prefix="/hidden")
    paths = openapi_paths(app)
    assert set(paths) == {
        "/_health/live",
        "/_health/ready",
        "/_health/startup",
        "/_health/checks/{name}",
        "/_health/groups/{name}",
    }
    assert set(paths["/_health/checks/{name}"]["get"]["responses"]) == {"200", "503", "404"}
    paths.clear()
    assert openapi_paths(app)
