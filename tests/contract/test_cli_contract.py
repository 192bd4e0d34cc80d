"""`flask svc-infra health check|wait|show` and the stdlib-only container probe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner
from contract._parts import HEALTHY, UNHEALTHY, answers, bare_app, faster_than, run_python
from flask.cli import FlaskGroup

from flask_svc_infra import SvcInfra
from flask_svc_infra.cli import group


def cli(*arguments):
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


# --- health check -------------------------------------------------------------------------------------------


def test_check_reports_a_healthy_url(web):
    result = cli("health", "check", web.url + "/health")
    assert result.exit_code == 0, result.output
    assert f"✓ {web.url}/health" in result.output
    import re

    assert re.search(r"Status: healthy \(\d+\.\dms\)", result.output)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_check_takes_any_2xx_as_healthy(web, status):
    web.status = status
    assert cli("health", "check", web.url).exit_code == 0


@pytest.mark.parametrize("status", [301, 400, 404, 500, 503])
def test_check_takes_anything_else_as_unhealthy(web, status):
    web.status = status
    result = cli("health", "check", web.url)
    assert result.exit_code == 1
    assert f"✗ {web.url}" in result.output
    assert "Status: unhealthy" in result.output
    assert str(status) in result.output


def test_check_of_an_unreachable_url_exits_1_with_the_reason():
    result = cli("health", "check", "http://127.0.0.1:1/health")
    assert result.exit_code == 1
    assert "✗ http://127.0.0.1:1/health" in result.output
    assert "Message: " in result.output


@pytest.mark.parametrize("flag", ["--json", "-j"])
def test_check_as_json_is_the_result(web, flag):
    result = cli("health", "check", web.url, flag)
    assert result.exit_code == 0
    body = json.loads(result.stdout)
    assert body["status"] == "healthy"
    assert isinstance(body["latency_ms"], int | float)
    assert body["details"]["status_code"] == 200


def test_check_as_json_of_an_unhealthy_url_is_json_and_exits_1(web):
    web.status = 503
    result = cli("health", "check", web.url, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["status"] == "unhealthy"


@pytest.mark.parametrize("flag", ["--verbose", "-v"])
def test_check_verbose_shows_details(web, flag):
    result = cli("health", "check", web.url, flag)
    assert "Details:" in result.output
    assert "status_code: 200" in result.output


@pytest.mark.parametrize("flag", ["--timeout", "-t"])
def test_check_gives_up_at_its_timeout(web, flag):
    web.delay = 5
    with faster_than(4):
        result = cli("health", "check", web.url, flag, "0.3")
    assert result.exit_code == 1


def test_check_help_names_the_options():
    result = cli("health", "check", "--help")
    assert result.exit_code == 0
    assert "Check health of a URL endpoint" in result.output
    for option in ("--timeout", "-t", "--json", "-j", "--verbose", "-v"):
        assert option in result.output


def test_check_without_a_url_is_a_usage_error():
    assert cli("health", "check").exit_code == 2


@pytest.mark.parametrize("arguments", [("-t", "-1"), ("-t", "0"), ("-t", "soon"), ("-t", "nan")])
def test_check_with_an_impossible_timeout_is_a_usage_error(web, arguments):
    result = cli("health", "check", web.url, *arguments)
    assert result.exit_code == 2
    assert web.requests == []


@pytest.mark.parametrize("url", ["not-a-url", "ftp://x/", "http://", "http://h:notaport/"])
def test_check_of_something_that_is_no_url_is_refused_in_words(url):
    result = cli("health", "check", url)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_check_prints_no_password(web):
    result = cli("health", "check", f"http://svc:hunter2secret@127.0.0.1:{web.port}/")
    assert result.exit_code == 0
    assert "hunter2secret" not in result.output


def test_options_have_the_documented_defaults():
    health = group.commands["health"]
    check, wait = health.commands["check"], health.commands["wait"]
    defaults = {
        (c.name, o.name): float(o.default)
        for c in (check, wait)
        for o in c.params
        if o.name in ("timeout", "interval")
    }
    assert defaults == {("check", "timeout"): 10.0, ("wait", "timeout"): 60.0, ("wait", "interval"): 2.0}


# --- health wait --------------------------------------------------------------------------------------------


def test_wait_returns_once_healthy(web):
    result = cli("health", "wait", web.url, "--timeout", "5")
    assert result.exit_code == 0
    assert "Healthy" in result.output


def test_wait_becomes_healthy_after_retries(web):
    web.status = 503
    threading.Timer(0.25, lambda: setattr(web, "status", 200)).start()
    result = cli("health", "wait", web.url, "--timeout", "10", "--interval", "0.05")
    assert result.exit_code == 0
    assert "Healthy" in result.output
    assert len(web.requests) >= 2


def test_wait_gives_up_at_its_deadline(web):
    web.status = 503
    with faster_than(4):
        result = cli("health", "wait", web.url, "-t", "1", "-i", "0.2")
    assert result.exit_code == 1
    assert "not healthy after 1s" in result.output


def test_wait_keeps_its_deadline_on_a_hung_server(web):
    web.delay = 10
    with faster_than(4):
        result = cli("health", "wait", web.url, "-t", "1")
    assert result.exit_code == 1


@pytest.mark.parametrize("flag", ["--quiet", "-q"])
def test_wait_quiet_says_nothing_of_its_progress(web, flag):
    result = cli("health", "wait", web.url, flag)
    assert result.exit_code == 0
    assert "Attempt" not in result.output
    assert "Checking" not in result.output


def test_wait_help_names_the_options():
    result = cli("health", "wait", "--help")
    assert result.exit_code == 0
    assert "Wait for a health endpoint to become healthy" in result.output
    for option in ("--timeout", "-t", "--interval", "-i", "--quiet", "-q"):
        assert option in result.output


def test_health_help_lists_the_commands():
    result = cli("health", "--help")
    assert result.exit_code == 0
    for command in ("check", "wait", "show"):
        assert command in result.output


# --- health show --------------------------------------------------------------------------------------------


def flask_command(app, *arguments):
    """Run ``flask …`` as the console script does, entry points and all, for *app*."""
    return CliRunner().invoke(FlaskGroup(create_app=lambda: app), arguments)


@pytest.fixture
def shop():
    app = bare_app()
    infra = SvcInfra(app)
    infra.health.add("database", answers(HEALTHY))
    infra.health.add("cache", answers(UNHEALTHY, message="refused"), critical=False)
    return app, infra


def test_show_runs_the_apps_own_checks(shop):
    app, _ = shop
    result = flask_command(app, "svc-infra", "health", "show")
    assert result.exit_code == 0, result.output
    for word in ("database", "healthy", "cache", "unhealthy", "degraded"):
        assert word in result.output


def test_show_exits_1_when_unhealthy(shop):
    app, infra = shop
    infra.health.add("queue", answers(UNHEALTHY))
    assert flask_command(app, "svc-infra", "health", "show").exit_code == 1


def test_show_as_json(shop):
    app, _ = shop
    result = flask_command(app, "svc-infra", "health", "show", "--json")
    body = json.loads(result.stdout)
    assert body["status"] == "degraded"
    assert [c["name"] for c in body["checks"]] == ["database", "cache"]


# --- as people type it --------------------------------------------------------------------------------------


def test_flask_finds_the_command_without_an_app(web):
    done = subprocess.run(
        [sys.executable, "-m", "flask", "svc-infra", "health", "check", web.url],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        cwd="/",
        env={k: v for k, v in os.environ.items() if k != "FLASK_APP"} | {"PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    assert "✓" in done.stdout


def test_output_survives_a_terminal_without_unicode(web):
    done = subprocess.run(
        [sys.executable, "-m", "flask", "svc-infra", "health", "check", web.url],
        capture_output=True,
        timeout=20,
        check=False,
        cwd="/",
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (204, 0), (503, 1), (404, 1)])
def test_container_probe_exits_by_the_status(web, status, code):
    web.status = status
    done = subprocess.run(
        [sys.executable, "-m", "flask_svc_infra.cli.probe", web.url],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == code, done.stderr


def test_container_probe_imports_the_standard_library_only():
    run_python("""
        import sys
        for name in ("flask", "werkzeug", "click", "requests", "redis", "psycopg2", "prometheus_client",
                     "tenacity", "blinker"):
            sys.modules[name] = None
        from flask_svc_infra.cli.probe import main
        try:
            code = main(["http://127.0.0.1:1/"])
        except SystemExit as stop:
            code = stop.code
        assert code == 1, code
    """)
