"""``flask svc-infra health``: what is printed, and the exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

import pytest
from flask import Flask

from flask_svc_infra import SvcInfra
from flask_svc_infra.health import HealthCheckResult, HealthRegistry, HealthStatus, add_health_routes

from ._server import drip, healthy_from, reply, report

FLASK = Path(sysconfig.get_path("scripts")) / "flask"


def test_check_of_a_healthy_url_exits_0(serve, flask_command):
    server = serve(reply())
    result = flask_command("health", "check", server.url)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"✓ {server.url}"
    assert re.fullmatch(r"  Status: healthy \(\d+\.\dms\)", lines[1])
    assert len(lines) == 2


def test_check_of_an_unhealthy_url_exits_1_and_says_why(serve, flask_command):
    server = serve(reply("503 Service Unavailable"))
    result = flask_command("health", "check", server.url)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"✗ {server.url}",
        "  Status: unhealthy",
        "  Message: Expected status 2xx, got 503",
    ]


def test_check_where_nobody_listens_exits_1(nobody, flask_command):
    result = flask_command("health", "check", nobody)
    assert result.exit_code == 1
    assert "✗" in result.stdout
    assert "Message: Connection failed: Connection refused" in result.stdout


def test_check_does_not_take_a_redirect_for_health(serve, flask_command):
    home = serve(reply())
    result = flask_command("health", "check", serve(reply("302 Found", Location=home.url)).url)
    assert result.exit_code == 1
    assert f"got 302 (a redirect to {home.url}, not followed)" in result.stdout


def test_check_keeps_its_timeout(serve, flask_command):
    began = time.monotonic()
    result = flask_command("health", "check", serve(drip(b"")).url, "--timeout", "0.3")
    assert result.exit_code == 1
    assert "Message: Request timeout after 0.3s" in result.stdout
    assert time.monotonic() - began < 3.0


def test_check_json_has_every_field(serve, flask_command):
    result = flask_command("health", "check", serve(report({"version": "1.0.0"})).url, "--json")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert set(data) == {"name", "status", "latency_ms", "details"}
    assert (data["name"], data["status"]) == ("127.0.0.1", "healthy")
    assert data["latency_ms"] > 0
    assert data["details"] == {"version": "1.0.0", "status_code": 200}


def test_check_json_of_an_unreachable_url_is_json_too(nobody, flask_command):
    result = flask_command("health", "check", nobody, "-j")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["message"] == "Connection failed: Connection refused"


def test_check_verbose_lists_what_the_body_reports(serve, flask_command):
    result = flask_command(
        "health", "check", serve(report({"database": "connected", "cache": "ready"})).url, "--verbose"
    )
    assert result.exit_code == 0
    assert result.stdout.splitlines()[2:] == [
        "  Details:",
        "    database: connected",
        "    cache: ready",
        "    status_code: 200",
    ]


def test_check_verbose_lists_the_checks_of_our_own_probes(serve, flask_command):
    body = {
        "status": "unhealthy",
        "checks": [
            {"name": "database", "status": "unhealthy", "latency_ms": 2.5, "message": "timed out"},
            {"name": "cache", "status": "healthy", "latency_ms": 1},
        ],
    }
    result = flask_command("health", "check", serve(report(body, "503 Service Unavailable")).url, "-v")
    assert result.exit_code == 1
    assert "    database: unhealthy (2.5ms): timed out\n    cache: healthy (1.0ms)\n" in result.stdout


def test_a_servers_words_do_not_steer_the_terminal(serve, flask_command):
    result = flask_command("health", "check", serve(report({"a\x1b[2J": "b\r\nc\x07"})).url, "-v")
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert "    a [2J: b  c " in result.stdout


def test_url_is_shown_without_user_password_and_query(serve, flask_command):
    server = serve(reply())
    url = f"http://me:s3cret@127.0.0.1:{server.port}/health?token=t0ken"
    for command in ("check", "wait"):
        output = flask_command("health", command, url).output
        assert f"http://127.0.0.1:{server.port}/health" in output
        assert "s3cret" not in output
        assert "t0ken" not in output
    assert b"GET /health?token=t0ken " in server.requests[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check"], "Missing argument"),
        (["check", "localhost:8000"], "not http or https"),
        (["check", "http://"], "names no host"),
        (["check", "http://host:99999/"], "cannot be read"),
        (["check", "http://host/", "-t", "-1"], "'-1' is not a number of seconds above zero"),
        (["check", "http://host/", "-t", "nan"], "'nan' is not a number of seconds above zero"),
        (["check", "http://host/", "--retries", "3"], "No such option"),
        (["wait", "http://host/", "-t", "0"], "'0' is not a number of seconds above zero"),
        (["wait", "http://host/", "-i", "0"], "'0' is not a number of seconds above zero"),
        (["wait", "nonsense"], "not http or https"),
    ],
)
def test_wrong_usage_exits_2_with_the_cure(flask_command, arguments, words):
    result = flask_command("health", *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


def test_wait_returns_at_once_when_healthy(serve, flask_command):
    server = serve(reply())
    result = flask_command("health", "wait", server.url)
    assert result.exit_code == 0
    first, last = result.stdout.splitlines()
    assert first == f"Attempt 1: Checking {server.url}..."
    assert re.fullmatch(r"✓ Healthy \(\d+\.\dms\)", last)


def test_wait_asks_until_it_is_healthy(serve, flask_command):
    server = serve(healthy_from(3))
    result = flask_command("health", "wait", server.url, "--timeout", "10", "--interval", "0.05")
    assert result.exit_code == 0
    assert "  → Expected status 2xx, got 503" in result.stdout
    assert "Attempt 3: " in result.stdout
    assert "Attempt 4: " not in result.stdout
    assert len(server.requests) == 3


def test_wait_keeps_its_deadline_though_the_server_hangs(serve, flask_command):
    began = time.monotonic()
    result = flask_command("health", "wait", serve(drip(b"")).url, "--timeout", "0.5")
    took = time.monotonic() - began
    assert result.exit_code == 1
    assert "ERROR: Endpoint not healthy after 0.5s" in result.stdout
    assert 0.5 <= took < 3.0


def test_wait_keeps_its_deadline_though_the_interval_is_longer(nobody, flask_command):
    began = time.monotonic()
    result = flask_command("health", "wait", nobody, "-t", "0.4", "-i", "60")
    assert result.exit_code == 1
    assert 0.4 <= time.monotonic() - began < 3.0


def test_wait_says_whole_seconds_plainly(nobody, flask_command):
    result = flask_command("health", "wait", nobody, "-t", "1", "-i", "0.3")
    assert "not healthy after 1s" in result.stdout


def test_quiet_wait_says_nothing_but_the_failure_and_why(serve, nobody, flask_command):
    assert flask_command("health", "wait", serve(reply()).url, "--quiet").output == ""
    result = flask_command("health", "wait", nobody, "-q", "-t", "0.2")
    assert result.exit_code == 1
    assert re.fullmatch(r"ERROR: Endpoint not healthy after 0\.2s: .*refused.*\n", result.output)


def test_wait_json_tells_the_attempts_and_the_last_result(serve, flask_command):
    result = flask_command("health", "wait", serve(healthy_from(2)).url, "-i", "0.05", "--json")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert (data["healthy"], data["attempts"], data["last"]["status"]) == (True, 2, "healthy")
    assert data["waited"] >= 0.05


def test_wait_ends_when_the_server_comes_up(flask_command, serve, nobody):
    server = serve(healthy_from(10_000))
    turn = threading.Timer(0.3, lambda: setattr(server, "_script", reply()))
    turn.start()
    result = flask_command("health", "wait", server.url, "-i", "0.05", "-t", "10")
    turn.join()
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check"], ["Check health of a URL endpoint", "--timeout", "--json", "--verbose"]),
        (["wait"], ["Wait for a health endpoint to become healthy", "--timeout", "--interval", "--quiet"]),
        (["show"], ["--json"]),
        ([], ["check", "wait", "show"]),
    ],
)
def test_help_names_what_there_is(flask_command, arguments, words):
    result = flask_command("health", *arguments, "--help")
    assert result.exit_code == 0
    for word in words:
        assert word in result.stdout


def result_of(status: HealthStatus, message: str | None = None):
    return lambda: HealthCheckResult("own", status, 1.0, message=message)


def app_with(**checks) -> Flask:
    app = Flask("shop")
    app.config["SVC_INFRA_HEALTH_CACHE_TTL"] = 0  # each probe runs the checks, as show does
    registry = HealthRegistry()
    for name, (status, critical) in checks.items():
        registry.add(
            name, result_of(status, "it is late" if status != "healthy" else None), critical=critical
        )
    add_health_routes(app, registry)
    return app


def test_show_runs_the_apps_own_checks(flask_command):
    app = app_with(database=(HealthStatus.HEALTHY, True), cache=(HealthStatus.UNHEALTHY, False))
    result = flask_command("health", "show", app=app)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["CHECK", "STATUS", "CRITICAL", "LATENCY", "MESSAGE"]
    assert lines[1][:3] == ["database", "healthy", "yes"]
    assert lines[2][:3] == ["cache", "unhealthy", "no"]
    assert lines[2][4:] == ["it", "is", "late"]
    assert lines[3] == ["✓", "degraded"]


def test_show_exits_1_when_the_app_is_unhealthy(flask_command):
    result = flask_command("health", "show", app=app_with(database=(HealthStatus.UNHEALTHY, True)))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "✗ unhealthy"


def test_show_json_is_the_body_of_readiness(flask_command):
    app = app_with(database=(HealthStatus.UNHEALTHY, True))
    result = flask_command("health", "show", "--json", app=app)
    assert result.exit_code == 1
    shown, served = json.loads(result.stdout), app.test_client().get("/_health/ready").json
    for body in (shown, served):
        for check in body["checks"]:
            check["latency_ms"] = 0
    assert shown == served


def test_show_works_for_the_extension_and_without_checks(flask_command):
    app = Flask("shop")
    SvcInfra(app)
    result = flask_command("health", "show", app=app)
    assert (result.exit_code, result.stdout) == (0, "No checks are registered.\n✓ healthy\n")


def test_show_without_mounted_checks_says_the_cure(flask_command):
    result = flask_command("health", "show", app=Flask("shop"))
    assert result.exit_code == 1
    assert "the app 'shop' has no health checks mounted" in result.output
    assert "Call SvcInfra(app)" in result.output


def test_url_commands_work_when_the_app_cannot_be_imported(serve, tmp_path):
    (tmp_path / "broken.py").write_text("raise RuntimeError('no database')\n", encoding="utf-8")
    command = [FLASK, "--app", "broken", "svc-infra", "health"]
    good = subprocess.run(
        [*command, "check", serve(reply()).url],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (good.returncode, good.stderr) == (0, "")
    assert "✓" in good.stdout
    shown = subprocess.run(
        [*command, "show"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert shown.returncode != 0
    assert "no database" in shown.stderr


def test_check_prints_where_the_terminal_has_no_tick(serve, tmp_path):
    env = {"PATH": "/usr/bin", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [FLASK, "svc-infra", "health", "check", serve(report({"größe": "groß"})).url, "--verbose"],
        capture_output=True,
        cwd=tmp_path,
        timeout=30,
        env=env,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"OK http://")
    assert b"gr\\xf6\\xdfe: gro\\xdf" in done.stdout


def test_importing_the_commands_imports_no_flask_and_no_driver():
    source = (
        "import sys; from flask_svc_infra.cli import group; "
        "print(sorted({'flask', 'redis', 'requests', 'psycopg2', 'prometheus_client'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"
