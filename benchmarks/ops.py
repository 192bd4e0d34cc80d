"""What probes, gates and draining cost, under gunicorn on the loopback.

Every figure is the median over interleaved rounds of pairs, so that a noisy machine shifts both sides: trust
the ratios. Load comes from wrk where it is installed (Debian: ``apt install wrk``), else from threads of this
process. ``--markdown`` prints the tables of docs/performance/ops.md.

    make bench BENCH=benchmarks/ops.py
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.gunicorn_runner import Gunicorn
from support.processes import eventually
from werkzeug.test import create_environ

HEAD = """
from flask import Flask
app = Flask(__name__)
app.add_url_rule("/", "index", lambda: {"status": "ok"})
"""
APPS = {
    "bare": HEAD,
    "probes": HEAD + "from flask_svc_infra.ops import add_probes\nadd_probes(app)\n",
    "gate": HEAD + "from flask_svc_infra.ops import add_maintenance_mode\nadd_maintenance_mode(app)\n",
    "gates": HEAD
    + "from flask_svc_infra.ops import add_circuit_gate, add_maintenance_mode\n"
    + "add_maintenance_mode(app)\nadd_circuit_gate(app)\n",
    "healthz": HEAD
    + "from flask_healthz import healthz\n"
    + 'app.register_blueprint(healthz, url_prefix="/healthz")\n'
    + 'app.config["HEALTHZ"] = {"live": lambda: None}\n',
}
SERVED = "from flask_svc_infra import SvcInfra\n" + HEAD + "app.config.from_prefixed_env()\nSvcInfra(app)\n"
CONNECTIONS = 8


@dataclass(frozen=True)
class Measured:
    """One burst of load."""

    rate: float
    p50: float
    p99: float


def wrk(url: str, seconds: int) -> Measured:
    """Load *url* with wrk."""
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency", url]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=seconds + 20).stdout
    assert "Non-2xx" not in said, said
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate, said
    return Measured(float(rate[1]), _latency(said, "50%"), _latency(said, "99%"))


def _latency(said: str, quantile: str) -> float:
    found = re.search(rf"\s{quantile}\s+([\d.]+)(us|ms|s)", said)
    assert found, said
    return float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[found[2]]


def threads(url: str, seconds: int) -> Measured:
    """Load *url* from threads of this process: a weaker driver, good for ratios of slow apps."""
    host, _, path = url.removeprefix("http://").partition("/")
    deadline = time.monotonic() + seconds
    took: list[float] = []

    def client() -> None:
        connection = http.client.HTTPConnection(host)
        while (began := time.monotonic()) < deadline:
            connection.request("GET", f"/{path}")
            reply = connection.getresponse()
            reply.read()
            assert reply.status == 200
            took.append(time.monotonic() - began)
        connection.close()

    clients = [threading.Thread(target=client) for _ in range(CONNECTIONS)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    took.sort()
    return Measured(len(took) / seconds, took[len(took) // 2], took[int(len(took) * 0.99)])


load: Callable[[str, float], Measured] = wrk if shutil.which("wrk") else threads


@contextmanager
def serving(source: str, **options: Any) -> Iterator[Gunicorn]:
    """Serve *source* as a module under one gunicorn."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "benched.py").write_text(source)
        server = Gunicorn("benched:app", Path(folder), **options)
        try:
            server.wait_ready("/")
            yield server
        finally:
            server.kill()


def paired(urls: Mapping[str, str], rounds: int, seconds: int) -> dict[str, Measured]:
    """Load every URL in turn, *rounds* times; return each one's medians, its rate relative to the first's."""
    for url in urls.values():
        load(url, 1)
    bursts: dict[str, list[Measured]] = {name: [] for name in urls}
    ratios: dict[str, list[float]] = {name: [] for name in urls}
    for number in range(rounds):
        names = list(urls) if number % 2 else list(reversed(urls))
        burst = {name: load(urls[name], seconds) for name in names}
        for name, measured in burst.items():
            bursts[name].append(measured)
            ratios[name].append(measured.rate / burst[next(iter(urls))].rate)
    return {
        name: Measured(
            statistics.median(ratios[name]),
            statistics.median(m.p50 for m in bursts[name]),
            statistics.median(m.p99 for m in bursts[name]),
        )
        for name in urls
    }


def probes(rounds: int, seconds: int) -> dict[str, Measured]:
    """Liveness of several packages beside a bare route, each in its own gunicorn."""
    with ExitStack() as stack:
        urls = {}
        wanted = {"bare": "/", "probes": "/_ops/live"}
        if importlib.util.find_spec("flask_healthz"):
            wanted["healthz"] = "/healthz/live"
        for name, path in wanted.items():
            server = stack.enter_context(serving(APPS[name], worker_class="gthread", threads=4))
            urls[name] = server.url + path
        return paired(urls, rounds, seconds)


def gates(rounds: int) -> dict[str, tuple[float, float]]:
    """An empty view without a gate, with maintenance mode switched off, and with both gates open.

    In this process and by its own CPU time, without a server, which would hide the difference: each one's
    microseconds per request, and its requests per CPU second relative to the first's.
    """
    apps = {}
    for name in ("bare", "gate", "gates"):
        module: dict[str, Any] = {"__name__": name}
        exec(APPS[name], module)
        apps[name] = module["app"]
    environ = create_environ("/")

    def burst(app: Any, calls: int = 400) -> float:
        began = time.process_time()
        for _ in range(calls):
            body = app(dict(environ), lambda status, headers, exc_info=None: None)
            b"".join(body)
            body.close()
        return (time.process_time() - began) / calls

    took: dict[str, list[float]] = {name: [] for name in apps}
    for app in apps.values():
        burst(app)
    for number in range(rounds):
        for name in apps if number % 2 else reversed(apps):
            took[name].append(burst(apps[name]))
    bare = took["bare"]
    return {
        name: (
            statistics.median(took[name]) * 1e6,
            statistics.median(b / t for b, t in zip(bare, took[name], strict=True)),
        )
        for name in apps
    }


def served_gates(rounds: int, seconds: int) -> dict[str, float]:
    """The same under gunicorn, gthread: requests per CPU second of the worker, relative to the first's."""
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(serving(APPS[name], worker_class="gthread", threads=4))
            for name in ("bare", "gate", "gates")
        }
        cost: dict[str, list[float]] = {name: [] for name in servers}
        for number in range(rounds):
            for name in servers if number % 2 else reversed(servers):
                worker = servers[name].pids()[0]
                before = cpu_seconds(worker)
                rate = load(servers[name].url + "/", seconds).rate
                cost[name].append((cpu_seconds(worker) - before) / (rate * seconds))
        bare = cost["bare"]
        return {
            name: statistics.median(b / c for b, c in zip(bare, cost[name], strict=True)) for name in cost
        }


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drains(worker_class: str, *, preload: bool) -> tuple[float, int, int]:
    """Send SIGTERM under load; return seconds until readiness says 503, requests served, requests lost."""
    env = {"FLASK_SVC_INFRA_DRAIN_SECONDS": "2"}
    conf = "python:flask_svc_infra.gunicorn"
    with serving(
        SERVED, workers=2, worker_class=worker_class, threads=4, preload=preload, env=env, conf=conf
    ) as server:
        eventually(lambda: len({server.get("/").headers["Date"] for _ in range(1)}) == 1)
        time.sleep(0.5)  # both workers up
        lost, served, over = [], [], threading.Event()

        def client() -> None:
            while not over.is_set():
                try:
                    served.append(server.get("/").status)
                except OSError as error:
                    lost.append(error)

        clients = [threading.Thread(target=client) for _ in range(2)]
        for each in clients:
            each.start()
        time.sleep(0.3)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        while server.get("/_health/ready").status != 503:
            pass
        turned = time.monotonic() - began
        time.sleep(max(0.0, began + 1.5 - time.monotonic()))
        over.set()
        for each in clients:
            each.join()
        server.wait(timeout=20)
        return turned, len(served), len(lost) + sum(status != 200 for status in served)


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--markdown", action="store_true", help="print tables for the documentation")
    parser.add_argument("--only", choices=["probes", "gates", "drains"])
    asked = parser.parse_args()
    row = "| {} |" if asked.markdown else "{}"
    print(
        f"Python {platform.python_version()}, gunicorn {version('gunicorn')}, Flask {version('flask')}, "
        f"load by {load.__name__}, {asked.rounds} rounds\n"
    )

    def table(title: str, header: list[str], rows: list[list[str]]) -> None:
        print(f"{title}\n")
        widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
        for number, line in enumerate([header, *rows]):
            print(row.format(" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))))
            if number == 0 and asked.markdown:
                print(row.format(" | ".join("---" for _ in header)))
        print()

    def latencies(measured: dict[str, Measured], names: dict[str, str]) -> list[list[str]]:
        return [
            [names[n], f"{m.rate:.2f}", f"{m.p50 * 1e3:.2f} ms", f"{m.p99 * 1e3:.2f} ms"]
            for n, m in measured.items()
        ]

    if asked.only in (None, "probes"):
        header = ["", "requests/s, relative", "p50", "p99"]
        names = {"bare": "bare Flask route", "probes": "`/_ops/live`", "healthz": "flask-healthz, no check"}
        table("Liveness, gthread, 4 threads", header, latencies(probes(asked.rounds, asked.seconds), names))
    if asked.only in (None, "gates"):
        names = {"bare": "no gate", "gate": "maintenance mode, off", "gates": "both gates, open"}
        served = served_gates(asked.rounds, asked.seconds)
        rows = [
            [names[n], f"{micros:.1f}", f"{ratio:.3f}", f"{served[n]:.3f}"]
            for n, (micros, ratio) in gates(asked.rounds * 15).items()
        ]
        header = ["", "µs a request, no server", "requests/s, relative", "under gunicorn, relative"]
        table("An empty view", header, rows)
    if asked.only in (None, "drains"):
        rows = []
        for worker_class in ("sync", "gthread", "gevent"):
            for preload in (False, True):
                turned, served, lost = drains(worker_class, preload=preload)
                name = worker_class + (", --preload" if preload else "")
                rows.append([name, f"{turned * 1e3:.0f} ms", str(served), str(lost)])
        table(
            "SIGTERM under load, 2 workers",
            ["", "until readiness says 503", "requests served meanwhile", "lost"],
            rows,
        )


if __name__ == "__main__":
    main()
