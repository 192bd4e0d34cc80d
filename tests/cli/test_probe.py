"""The container probe: exit codes, one line of output, the standard library alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

import pytest

from flask_svc_infra.cli.probe import main

from ._server import drip, reply, report


@pytest.fixture
def probe(capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(list(arguments))
        out, err = capsys.readouterr()
        return exit_.value.code, out, err

    return run


def test_2xx_exits_0(serve, probe):
    server = serve(reply())
    assert probe(server.url) == (0, f"healthy: {server.url}: 200\n", "")


def test_503_exits_1_and_shows_the_body_on_one_line(serve, probe):
    server = serve(reply("503 Service Unavailable", '{"status":\n "schlecht ✗\x1b[31m"}'.encode()))
    code, out, _ = probe(server.url)
    assert code == 1
    assert out.startswith(f"unhealthy: {server.url}: 503 Service Unavailable ")
    assert out.count("\n") == 1
    assert out.isascii()
    assert "\x1b" not in out


def test_long_body_is_shown_in_part(serve, probe):
    code, out, _ = probe(serve(reply("500 Oops", b"x" * 60_000)).url)
    assert code == 1
    assert len(out) < 600


def test_redirect_exits_1(serve, probe):
    home = serve(reply())
    code, out, _ = probe(serve(reply("302 Found", Location=home.url)).url)
    assert (code, home.requests) == (1, [])
    assert "302 Found" in out


def test_refused_connection_exits_1(nobody, probe):
    code, out, _ = probe(nobody)
    assert (code, out) == (1, f"unhealthy: {nobody}: Connection failed: Connection refused\n")


def test_body_that_drips_for_ever_exits_1_at_the_timeout(serve, probe):
    began = time.monotonic()
    code, out, _ = probe("-t", "0.3", serve(drip(b"HTTP/1.1 200 OK\r\n\r\n")).url)
    assert (code, "timeout" in out) == (1, True)
    assert time.monotonic() - began < 3.0


@pytest.mark.parametrize("form", [["-t", "0.2"], ["-t0.2"], ["--timeout", "0.2"], ["--timeout=0.2"]])
def test_timeout_may_be_written_in_the_usual_ways(nobody, probe, form, serve):
    code, out, _ = probe(*form, serve(drip(b"")).url)
    assert (code, "after 0.2s" in out) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one URL is needed, 0 were given"),
        (["http://a/", "http://b/"], "one URL is needed, 2 were given"),
        (["nonsense"], "not http or https"),
        (["-t", "-1", "http://a/"], "'-1' is not a number of seconds above zero"),
        (["-t", "0", "http://a/"], "'0' is not a number of seconds above zero"),
        (["-t", "soon", "http://a/"], "'soon' is not a number of seconds"),
        (["http://a/", "--timeout"], "--timeout needs a number of seconds"),
        (["--verbose", "http://a/"], "there is no option '--verbose'"),
    ],
)
def test_wrong_usage_exits_2_with_the_cure(probe, arguments, words):
    code, out, err = probe(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert "Usage: flask-svc-infra-probe" in err


def test_help_exits_0(probe):
    code, out, _ = probe("--help")
    assert code == 0
    assert "--timeout" in out


def test_installed_command_runs(serve):
    script = Path(sysconfig.get_path("scripts")) / "flask-svc-infra-probe"
    good = serve(report({"status": "ok"}))
    done = subprocess.run([script, good.url], capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"healthy: ")


def test_verdict_stands_where_there_is_no_output(serve):
    source = (
        "import sys; sys.stdout = sys.stderr = None; from flask_svc_infra.cli.probe import main; main([{!r}])"
    )
    for script, code in ((reply(), 0), (reply("503 Busy"), 1)):
        done = subprocess.run(
            [sys.executable, "-c", source.format(serve(script).url)],
            capture_output=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stderr) == (code, b"")


def test_interrupted_probe_ends_without_a_traceback(serve):
    asked = threading.Event()

    def hang(connection, _):
        asked.set()
        connection.recv(1)

    command = [sys.executable, "-m", "flask_svc_infra.cli.probe", "-t", "20", serve(hang).url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert asked.wait(10)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (1, "")
    assert out.endswith("interrupted\n")


def test_probe_imports_nothing_but_the_standard_library_and_itself():
    source = (
        "import sys; before = set(sys.modules); import flask_svc_infra.cli.probe; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - sys.stdlib_module_names)); "
        "print(sorted(name for name in sys.modules if name.startswith('flask_svc_infra')))"
    )
    out = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=20, check=True
    )
    foreign, ours = out.stdout.splitlines()
    assert foreign == "['flask_svc_infra']"
    assert ours == str(
        ["flask_svc_infra", "flask_svc_infra.cli", "flask_svc_infra.cli.fetch", "flask_svc_infra.cli.probe"]
    )
