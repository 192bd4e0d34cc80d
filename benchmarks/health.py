"""What a hung dependency and a probe storm do to a service, with us and with the other health libraries.

    make bench BENCH=benchmarks/health.py
    python benchmarks/health.py --quick --markdown

Everything runs under gunicorn (gthread, 4 threads) on the loopback. The hung dependency is a TCP server
that takes connections and says nothing; it counts what it was asked. Rates are medians of interleaved
rounds, given as a ratio to a bare Flask route in the same round. ``--markdown`` prints the tables of
docs/performance/health.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import platform
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops import paired, serving

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.processes import eventually

if TYPE_CHECKING:
    from support.gunicorn_runner import Gunicorn

HEAD = """
import socket, time
from flask import Flask
app = Flask(__name__)
app.add_url_rule("/", "index", lambda: {"status": "ok"})

def dependency():
    with socket.create_connection(("127.0.0.1", PORT)) as connection:
        connection.recv(1)
    return True
"""
APPS = {
    "bare route": HEAD,
    "flask-svc-infra": HEAD
    + "from flask_svc_infra.health import HealthRegistry, add_health_routes\n"
    + "registry = HealthRegistry()\n"
    + 'registry.add("dependency", dependency, timeout=1)\n'
    + "add_health_routes(app, registry)\n",
    "flask-healthz": HEAD
    + "from flask_healthz import healthz\n"
    + 'app.register_blueprint(healthz, url_prefix="/healthz")\n'
    + 'app.config["HEALTHZ"] = {"live": lambda: None, "ready": dependency}\n',
    "allgreen": HEAD
    + "import allgreen\n"
    + '@allgreen.check("dependency", timeout=1)\n'
    + "def checked():\n    allgreen.make_sure(dependency())\n"
    + "allgreen.mount_healthcheck(app)\n",
}
READY = {
    "flask-svc-infra": "/_health/ready",
    "flask-healthz": "/healthz/ready",
    "allgreen": "/healthcheck.json",
}
# allgreen has one page and no liveness: that page, with a check that does nothing, since it wants one.
IDLE = HEAD + (
    "import allgreen\n"
    '@allgreen.check("nothing")\n'
    "def checked():\n    allgreen.make_sure(True)\n"
    "allgreen.mount_healthcheck(app)\n"
)
LIVE = {
    "bare route": "/",
    "flask-svc-infra": "/_health/live",
    "flask-healthz": "/healthz/live",
    "allgreen": "/healthcheck.json",
}
MODULES = {"flask-healthz": "flask_healthz", "allgreen": "allgreen"}
FIVE = HEAD + (
    "from flask_svc_infra.health import HealthRegistry, add_health_routes\n"
    "registry = HealthRegistry()\n"
    "for n in range(5):\n    registry.add(str(n), lambda: time.sleep(0.1) is None)\n"
    'app.config["SVC_INFRA_HEALTH_CACHE_TTL"] = 0\n'
    "add_health_routes(app, registry)\n"
)
PATIENCE = 3.0
"""Seconds a probe waits before it gives up: the documented probe timeout."""


class Dependency:
    """A TCP server that answers at once, or takes connections and says nothing until told to."""

    def __init__(self) -> None:
        self.hangs = threading.Event()
        self.asked = 0
        self._waiting: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.asked += 1
                if self.hangs.is_set():
                    self._waiting.append(connection)
                else:
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.sendall(b"!")

    def open_sockets(self) -> int:
        """Return how many of those who wait have not left."""
        return sum(not self._left(connection) for connection in self._waiting)

    def _left(self, connection: socket.socket) -> bool:
        connection.setblocking(False)
        try:
            return connection.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def recover(self) -> None:
        self.hangs.clear()
        while self._waiting:
            self._answer(self._waiting.pop())


@dataclass(frozen=True)
class Hang:
    """What happened while the dependency hung; seconds, None where no answer came."""

    first: float | None
    p50: float | None
    answered: int
    runs: int
    threads: int
    sockets: int
    live: float | None
    recovered: float | None

    def row(self, probes: int) -> list[str]:
        counts = [str(count) for count in (self.runs, self.threads, self.sockets)]
        answered = f"{self.answered} of {probes}"
        times = [shown(self.first, "s"), shown(self.p50), answered]
        return [*times, *counts, shown(self.live), shown(self.recovered, "s")]


HANG_HEAD = (
    "library | first answer | later answers, p50 | answered | runs | extra threads | open sockets "
    "| liveness, p50 | recovered after"
)


def timed(server: Gunicorn, path: str, statuses: tuple[int, ...] = (200, 500, 503)) -> float | None:
    """GET *path* as a probe would; return the seconds it took, None when it gave up."""
    began = time.monotonic()
    try:
        reply = server.get(path, timeout=PATIENCE)
    except OSError:
        return None
    return time.monotonic() - began if reply.status in statuses else None


def threads_of(server: Gunicorn) -> int:
    (pid,) = server.pids()
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def hang(name: str, probes: int) -> Hang:
    """Let the dependency hang, probe the app, let it recover."""
    dependency = Dependency()
    source = APPS[name].replace("PORT", str(dependency.port))
    with serving(source, worker_class="gthread", threads=4) as server:
        with ThreadPoolExecutor(8) as pool:  # all of gunicorn's own threads are there afterwards
            list(pool.map(lambda _: timed(server, READY[name]), range(200)))
        before, asked = threads_of(server), dependency.asked
        time.sleep(1.1)  # what is cached is old by then
        dependency.hangs.set()
        first = timed(server, READY[name])
        took: list[float | None] = []
        for _ in range(probes):
            took.append(timed(server, READY[name]))
            if len(took) >= 6 and not any(took):
                break  # it does not answer any more
            time.sleep(0.05)
        live = statistics.median(
            [timed(server, "/" if name == "allgreen" else LIVE[name]) or PATIENCE for _ in range(5)]
        )
        counted = (dependency.asked - asked, threads_of(server) - before, dependency.open_sockets())
        dependency.recover()
        began = time.monotonic()
        try:
            eventually(lambda: timed(server, READY[name], (200,)), timeout=20)
            recovered: float | None = time.monotonic() - began
        except AssertionError:
            recovered = None
    answers = [each for each in took if each is not None]
    p50 = statistics.median(answers) if answers else None
    return Hang(first, p50, len(answers), *counted, live if live < PATIENCE else None, recovered)


def storm(name: str) -> tuple[int, int]:
    """Return the runs that 100 probes at once make, and that 1,000 in a second make."""
    dependency = Dependency()
    source = APPS[name].replace("PORT", str(dependency.port))
    with serving(source, worker_class="gthread", threads=100) as server:
        with ThreadPoolExecutor(100) as pool:
            dependency.hangs.set()
            asked = [pool.submit(timed, server, READY[name]) for _ in range(100)]
            time.sleep(0.7)
            dependency.recover()
            assert all(each.result() for each in asked)
            at_once = dependency.asked
            time.sleep(1.1)
            before, began = dependency.asked, time.monotonic()
            list(pool.map(lambda _: timed(server, READY[name]), range(1000)))
            seconds = time.monotonic() - began
        return at_once, round((dependency.asked - before) / max(1.0, seconds))


def five() -> float:
    """Return the median seconds of a readiness probe that runs five checks of 100 ms."""
    with serving(FIVE.replace("PORT", "0"), worker_class="gthread", threads=4) as server:
        return statistics.median([timed(server, "/_health/ready") or PATIENCE for _ in range(11)])


def rates(paths: dict[str, str], rounds: int, seconds: int, apps: dict[str, str] = APPS) -> dict[str, Any]:
    """Load each of *paths* of *apps* in turn, each in its own gunicorn, the bare route first."""
    dependency = Dependency()
    with ExitStack() as stack:
        urls = {}
        for name, path in {"bare route": "/", **paths}.items():
            source = apps[name].replace("PORT", str(dependency.port))
            server = stack.enter_context(serving(source, worker_class="gthread", threads=4))
            urls[name] = server.url + path
        return paired(urls, rounds, seconds)


def table(head: str, rows: list[list[str]]) -> str:
    columns = head.split(" | ")
    return "\n".join(["| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *rows]])


def shown(value: float | None, unit: str = "ms") -> str:
    if value is None:
        return "never"
    return f"{value * 1000:.1f} ms" if unit == "ms" else f"{value:.2f} s"


def rate_rows(measured: dict[str, Any]) -> list[list[str]]:
    return [[name, f"{m.rate:.2f}", shown(m.p50), shown(m.p99)] for name, m in measured.items()]


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--markdown", action="store_true", help="as docs/performance/health.md has it")
    options = parser.parse_args()
    rounds, seconds, probes = (3, 2, 10) if options.quick else (7, 3, 50)
    present = [name for name in APPS if name not in MODULES or importlib.util.find_spec(MODULES[name])]

    def say(title: str, make: Callable[[], str]) -> None:
        print(f"\n{'## ' if options.markdown else ''}{title}\n", flush=True)
        print(make(), flush=True)

    packages = ["flask", "gunicorn", *(name for name in MODULES if name in present)]
    print(f"CPython {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in packages)}")

    def hung() -> str:
        return table(HANG_HEAD, [[name, *hang(name, probes).row(probes)] for name in present[1:]])

    def storms() -> str:
        rows = [[name, *map(str, storm(name))] for name in present[1:2]]
        return table("library | runs for 100 probes at once | runs per second for 1,000 probes", rows)

    say("A dependency hangs, its check's timeout is 1 s", hung)
    say("A storm of probes", storms)
    say("Five checks of 100 ms", lambda: f"{five() * 1000:.0f} ms")
    ready = {name: READY[name] for name in present[1:]}
    live = {name: LIVE[name] for name in present[1:] if name in LIVE}
    idle = {**APPS, "allgreen": IDLE}
    head = "path | requests/s, ratio to the bare route | p50 | p99"
    say("Liveness under load", lambda: table(head, rate_rows(rates(live, rounds, seconds, idle))))
    say("Readiness under load, one check", lambda: table(head, rate_rows(rates(ready, rounds, seconds))))


if __name__ == "__main__":
    main()
