"""``flask svc-infra doctor``: it finds what was broken on purpose, and nothing on a sound app."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from flask import Flask, redirect
from flask.cli import ScriptInfo
from prometheus_client import CollectorRegistry

from flask_svc_infra import SvcInfra
from flask_svc_infra.cli import group, mounted
from flask_svc_infra.health import add_startup_probe, check_database, check_tcp
from flask_svc_infra.mounts import mounts_of
from flask_svc_infra.resilience import CircuitBreaker


def sound_app() -> Flask:
    app = Flask("shop")
    infra = SvcInfra()
    infra.health.add("database", lambda: True)
    infra.init_app(app)
    return app


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in (
        "PROMETHEUS_MULTIPROC_DIR",
        "WEB_CONCURRENCY",
        "GUNICORN_CMD_ARGS",
        "MAINTENANCE_MODE",
        "CIRCUIT_OPEN",
    ):
        monkeypatch.delenv(name, raising=False)


def findings_of(flask_command, app, exit_code=0):
    result = flask_command("doctor", "--json", app=app)
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def bad(findings):
    return [(finding["level"], finding["topic"]) for finding in findings if finding["level"] != "ok"]


def test_sound_app_has_no_warning_and_no_problem(flask_command):
    findings = findings_of(flask_command, sound_app())
    assert bad(findings) == []
    topics = {finding["topic"] for finding in findings}
    assert topics >= {
        "python",
        "releases",
        "drivers",
        "gunicorn",
        "multiprocess",
        "app",
        "probes",
        "checks",
        "metrics",
    }


def test_findings_are_printed_one_a_line_with_the_cure_below(flask_command):
    result = flask_command("doctor", app=Flask("bare"))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    at = next(
        i for i, line in enumerate(lines) if line.startswith("problem  probes: the app 'bare' has no probes")
    )
    assert lines[at + 1].strip().startswith("Call SvcInfra(app)")


def test_app_that_cannot_be_loaded_is_a_problem_and_the_rest_is_still_examined(flask_command):
    def make():
        raise ConnectionError("postgresql://me:s3cret@db/shop refused")

    result = flask_command("doctor", app=make)
    assert result.exit_code == 1
    assert "problem  app: the app cannot be loaded: ConnectionError: " in result.stdout
    assert "s3cret" not in result.output
    assert "releases" in result.stdout


def test_cure_of_a_malformed_url_is_left_readable(flask_command):
    result = flask_command("doctor", app=lambda: check_database("mysql://me:s3cret@db/shop"))
    assert result.exit_code == 1
    assert "Write postgresql://user:password@host:port/database." in result.output
    assert "s3cret" not in result.output


def test_bad_setting_is_a_problem_with_its_cure(flask_command):
    def make():
        app = Flask("shop")
        app.config["SVC_INFRA_METRICS_PTH"] = "/m"
        SvcInfra(app)
        return app

    result = flask_command("doctor", app=make)
    assert result.exit_code == 1
    assert "Did you mean SVC_INFRA_METRICS_PATH?" in result.stdout


def test_unhealthy_readiness_is_a_warning(flask_command):
    app = Flask("shop")
    infra = SvcInfra(app)
    infra.health.add("database", lambda: False)
    assert bad(findings_of(flask_command, app)) == [("warning", "probes"), ("warning", "probes")]


def test_without_a_critical_check_readiness_means_little(flask_command):
    app = Flask("shop")
    SvcInfra(app)
    assert bad(findings_of(flask_command, app)) == [("warning", "checks")]


def test_middleware_that_swallows_the_probes_is_a_problem(flask_command):
    app = sound_app()
    inner = app.wsgi_app

    def only_shop(environ, start_response):
        if not environ["PATH_INFO"].startswith("/shop"):
            start_response("404 Not Found", [("Content-Length", "0")])
            return [b""]
        return inner(environ, start_response)

    app.wsgi_app = only_shop
    problems = bad(findings_of(flask_command, app, exit_code=1))
    assert problems.count(("problem", "metrics")) == 1
    assert problems.count(("problem", "probes")) == len(mounts_of(app).probes)


def test_middleware_that_raises_is_a_problem_not_a_traceback(flask_command):
    app = sound_app()

    def broken(environ, start_response):
        raise RuntimeError("no session")

    app.wsgi_app = broken
    problems = findings_of(flask_command, app, exit_code=1)
    assert any("raises RuntimeError: no session" in finding["text"] for finding in problems)


def test_redirect_to_https_does_not_reach_the_probes(flask_command):
    """Hooks run after the probes have been answered: nothing to find."""
    app = sound_app()
    app.before_request(lambda: redirect("https://shop.example/"))
    assert bad(findings_of(flask_command, app)) == []


def test_metrics_switched_off_are_a_warning(flask_command):
    app = Flask("shop")
    app.config["SVC_INFRA_METRICS_ENABLED"] = False
    SvcInfra(app).health.add("database", lambda: True)
    assert bad(findings_of(flask_command, app)) == [("warning", "metrics")]


def test_view_behind_a_probe_is_found(flask_command):
    app = sound_app()
    app.add_url_rule("/_ops/live", "mine", lambda: "mine")
    (finding,) = [f for f in findings_of(flask_command, app) if f["level"] != "ok"]
    assert "the view 'mine' is mounted at '/_ops/live'" in finding["text"]


def test_breakers_of_one_name_are_found(flask_command):
    twins = [CircuitBreaker("doctors-twins"), CircuitBreaker("doctors-twins")]
    findings = findings_of(flask_command, sound_app())
    assert any("2 breakers are called 'doctors-twins'" in finding["text"] for finding in findings)
    del twins


def test_state_store_is_asked_and_one_that_does_not_answer_is_a_problem(flask_command, tmp_path):
    def stored(url):
        app = Flask("shop")
        app.config["SVC_INFRA_STATE_URL"] = url
        infra = SvcInfra(metrics=False)
        infra.health.add("database", lambda: True)
        infra.init_app(app)
        return app

    def store_of(findings):
        (found,) = [finding for finding in findings if finding["topic"] == "store"]
        return found

    well = store_of(findings_of(flask_command, stored(f"sqlite:///{tmp_path}/state.db")))
    assert (well["level"], well["cure"]) == ("ok", None)
    alone = store_of(findings_of(flask_command, sound_app()))
    assert (alone["level"], alone["text"]) == (
        "ok",
        "none: each worker keeps its own circuits and maintenance",
    )
    lost = store_of(findings_of(flask_command, stored(f"sqlite:///{tmp_path}/no/folder.db"), exit_code=1))
    assert lost["level"] == "problem"
    assert "does not answer" in lost["text"]
    assert lost["cure"]


@pytest.mark.needs("redis")
def test_a_dead_state_store_names_no_secret(flask_command):
    app = Flask("shop")
    app.config["SVC_INFRA_STATE_URL"] = "redis://:hunter2secret@127.0.0.1:1/0"
    SvcInfra(app, metrics=False)
    result = flask_command("doctor", app=app)
    assert result.exit_code == 1
    assert "problem  store: the state store 'redis://127.0.0.1:1/0' does not answer" in result.output
    assert "hunter2secret" not in result.output


def test_request_metrics_of_prometheus_flask_exporter_are_found():
    from prometheus_flask_exporter import PrometheusMetrics

    registry = CollectorRegistry()
    PrometheusMetrics(Flask("shop"), path=None, export_defaults=False, registry=registry)
    assert mounted.measured_twice(registry) == []
    PrometheusMetrics(Flask("shop"), registry=registry)
    (finding,) = mounted.measured_twice(registry)
    assert (finding.level, "export_defaults=False" in finding.cure) == ("warning", True)


def test_flags_and_strays_of_the_environment_are_found(flask_command, monkeypatch):
    monkeypatch.setenv("MAINTENANCE_MODE", "ture")
    monkeypatch.setenv("SVC_INFRA_METRICS_PATH", "/m")
    assert bad(findings_of(flask_command, sound_app())) == [("warning", "settings"), ("warning", "flags")]


def test_readiness_held_back_by_something_else_than_a_check_says_by_what(flask_command):
    app = sound_app()
    add_startup_probe(app, [check_tcp("127.0.0.1", 9)], block=False)
    held = [finding for finding in findings_of(flask_command, app) if finding["level"] == "warning"]
    assert {finding["text"].partition(" ")[0] for finding in held} == {"/_health/ready", "/_health/startup"}
    assert all("whatever the checks say: starting" in finding["text"] for finding in held)


def test_error_while_importing_is_told_by_its_last_line(tmp_path, monkeypatch):
    (tmp_path / "wsgi_without_driver.py").write_text(
        "from flask_svc_infra import MissingDriverError\n"
        "raise MissingDriverError('check_database()', module='psycopg2', extra='postgres')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    info = ScriptInfo(app_import_path="wsgi_without_driver", set_debug_flag=False)
    result = CliRunner().invoke(group, ["doctor"], obj=info)
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("problem  app")]
    assert "Traceback" not in line
    assert "While importing 'wsgi_without_driver': MissingDriverError: check_database() needs" in line
    assert line.endswith("Run: pip install 'flask-svc-infra[postgres]'")


def test_settings_of_an_app_that_cannot_be_loaded_are_not_called_unread(flask_command, monkeypatch):
    monkeypatch.setenv("FLASK_SVC_INFRA_METRICS_PTH", "/m")

    def make():
        app = Flask("shop")
        app.config.from_prefixed_env()
        SvcInfra(app)
        return app

    assert bad(findings_of(flask_command, make, exit_code=1)) == [("problem", "app")]
