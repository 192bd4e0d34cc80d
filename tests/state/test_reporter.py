"""The reporter: nobody waits for it, it learns what changes, and it lives through what happens to stores."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time

import pytest
from flask import Flask
from state.conftest import open_, put, report
from support.processes import eventually

from flask_svc_infra import SvcInfra
from flask_svc_infra.state.reporter import LONGEST_QUEUE, Reporter
from flask_svc_infra.state.store import MemoryStore
from flask_svc_infra.state.urls import open_store


class Listener:
    """Learns, and reports what it is told to."""

    def __init__(self):
        self.pending = []
        self.tallies = []
        self.learned = []

    def reports(self):
        pending, self.pending = self.pending, []
        return pending

    def counted(self, _store, told, tally):
        self.tallies.append((told["name"], tally["run"]))

    def learn(self, records, documents):
        self.learned.append((records, documents))

    def state(self, name="payments"):
        return self.learned and self.learned[-1][0].get(name, {}).get("state")


@pytest.fixture
def begin():
    made = []

    def make(store):
        reporter = Reporter(store)
        listener = Listener()
        reporter.join(listener)
        made.append(reporter)
        return reporter, listener

    yield make
    for reporter in made:
        reporter.stop()


def commands(server):
    import redis

    with redis.Redis(port=server.port) as client:
        return client.info("commandstats")


def calls(server, before):
    now = commands(server)
    return sum(
        stats["calls"] - before.get(name, {"calls": 0})["calls"]
        for name, stats in now.items()
        if name in ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_publish", "cmdstat_ping")
    )


def test_nothing_starts_before_there_is_something_to_do(begin):
    before = threading.active_count()
    begin(MemoryStore())
    assert threading.active_count() == before


def test_a_change_is_learned_by_all(make_store, begin):
    _, listener = ours = begin(make_store())
    ours[0].start()
    eventually(lambda: ours[0].up)
    open_(make_store(), recovery=1000)
    eventually(lambda: listener.state() == "open", timeout=1.5)


def test_the_bell_is_faster_than_the_poll(valkey, begin):
    ours, listener = begin(open_store(valkey.url))
    ours.start()
    eventually(lambda: ours.up and ours._belled)
    time.sleep(0.05)
    other = open_store(valkey.url)
    took = []
    for number in range(20):
        began = time.monotonic()
        open_(other, f"c{number}", recovery=1000)
        eventually(lambda n=number: listener.state(f"c{n}") == "open", timeout=1, interval=0.001)
        took.append(time.monotonic() - began)
        time.sleep(0.02)
    other.close()
    assert sorted(took)[10] < 0.05


def test_what_is_rung_for_is_reported_at_once(make_store, begin):
    ours, listener = begin(make_store())
    ours.start()
    eventually(lambda: ours.up)
    listener.pending.append(report(run=2))
    ours.ring()
    eventually(lambda: listener.tallies == [("payments", 2)], timeout=0.8)


def test_at_rest_one_command_a_second(valkey, begin):
    ours, _ = begin(open_store(valkey.url))
    ours.start()
    eventually(lambda: ours.up and ours._belled)
    time.sleep(0.1)
    before = commands(valkey)
    time.sleep(3)
    assert calls(valkey, before) <= 3


def test_a_storm_of_rings_is_a_hundred_commands_a_second(valkey, begin):
    ours, listener = begin(open_store(valkey.url))
    ours.start()
    eventually(lambda: ours.up)
    before = commands(valkey)
    began = time.monotonic()
    while time.monotonic() < began + 1:
        listener.pending = [report(run=1)]
        ours.ring()
    assert calls(valkey, before) <= 130


def test_a_hung_store_costs_the_caller_nothing(valkey, begin):
    ours, listener = begin(open_store(valkey.url))
    ours.start()
    eventually(lambda: ours.up)
    valkey.stop()
    took = []
    for _ in range(2000):
        began = time.perf_counter()
        listener.pending.append(report(run=1))
        ours.ring()
        ours.submit(lambda store: None)
        took.append(time.perf_counter() - began)
        time.sleep(0.0002)
    # Whoever waits for the store waits for its timeout, 50 ms; test_processes.py compares with no store.
    assert sorted(took)[int(len(took) * 0.99)] < 0.025
    assert not ours.up
    valkey.cont()
    eventually(lambda: ours.up, timeout=3)


def test_a_full_queue_says_so_at_once(valkey, begin):
    ours, _ = begin(open_store(valkey.url))
    release = threading.Event()
    begun = threading.Event()
    ours.submit(lambda store: begun.set() or release.wait(10))
    assert begun.wait(10)
    lost = []
    for _ in range(LONGEST_QUEUE + 5):
        ours.submit(lambda store: store is None and lost.append(1))
    assert len(lost) == 5
    release.set()


@pytest.mark.usefixtures("quick_polls")
@pytest.mark.parametrize("fault", ["kill", "hang", "reset", "half", "refuse", "script flush", "empty"])
def test_what_others_did_meanwhile_is_learned_after(valkey, begin, fault, caplog):
    caplog.set_level(logging.INFO, "flask_svc_infra.state")
    proxy = valkey.proxy()
    ours, listener = begin(open_store(proxy.url))
    ours.start()
    eventually(lambda: ours.up and ours._belled)
    if fault == "kill":
        valkey.kill()
    elif fault == "script flush":
        valkey.command("SCRIPT FLUSH")
    elif fault == "empty":
        valkey.restart()
    else:
        getattr(proxy, fault)()
        if fault == "refuse":
            proxy.cut()
    if fault not in ("script flush", "empty"):
        eventually(lambda: not ours.up, timeout=3)
        time.sleep(1.2)
    if fault == "kill":
        valkey.start()
    proxy.heal()
    other = open_store(valkey.url)
    open_(other, "meanwhile", recovery=1000)
    eventually(lambda: listener.state("meanwhile") == "open", timeout=4)
    other.close()
    assert ours.up
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (0 if fault == "script flush" else 2) or fault in ("empty", "half"), lines
    assert len(lines) % 2 == 0


def test_a_delay_within_the_timeout_is_no_fault(valkey, begin):
    proxy = valkey.proxy()
    ours, listener = begin(open_store(proxy.url))
    ours.start()
    eventually(lambda: ours.up)
    proxy.delay(0.02)
    put(open_store(valkey.url), body="{}")
    eventually(lambda: listener.learned and "maintenance" in listener.learned[-1][1], timeout=3)
    assert ours.up


def test_a_read_only_replica_is_not_up(valkey, private_valkey, begin, caplog):
    private_valkey.command(f"REPLICAOF 127.0.0.1 {valkey.port}")
    ours, _ = begin(open_store(private_valkey.url))
    ours.start()
    eventually(lambda: caplog.records, timeout=3)
    time.sleep(2.3)
    assert not ours.up
    assert len(caplog.records) == 1
    private_valkey.command("REPLICAOF NO ONE")
    eventually(lambda: ours.up, timeout=3)


@pytest.mark.parametrize(
    "garbage",
    ["x", "null", "[]", '{"state":"open"}', '{"epoch":1e300,"state":"open"}', "[" * 3000, '{"epoch":-1}'],
)
def test_garbage_is_ignored_with_a_line_and_written_over(valkey, begin, caplog, garbage):
    import redis

    with redis.Redis(port=valkey.port) as client:
        client.hset("svc_infra:1:{default}:records", "payments", garbage)
        client.hset("svc_infra:1:{default}:documents", "maintenance", garbage)
        client.hset("svc_infra:1:{default}:tallies", "payments", garbage)
        client.set("svc_infra:1:{default}:revision", "1")
    ours, listener = begin(open_store(valkey.url))
    ours.start()
    eventually(lambda: listener.learned == [({}, {})])
    assert "'maintenance', 'payments'" in caplog.text
    other = open_store(valkey.url)
    assert open_(other, recovery=1000)["state"] == "open"
    eventually(lambda: listener.state() == "open", timeout=1.5)
    other.close()


def test_a_key_of_another_type_is_a_store_that_is_down(valkey, begin, caplog):
    valkey.command("SET svc_infra:1:{default}:records x")
    ours, _ = begin(open_store(valkey.url))
    ours.start()
    eventually(lambda: "WRONGTYPE" in caplog.text, timeout=3)
    assert not ours.up


def test_every_key_has_an_end(valkey):
    import redis

    store = open_store(valkey.url)
    open_(store, recovery=1000)
    put(store)
    store.act("sync", {"seen": -1, "reports": [report("other", run=1)], "probe": True})
    store.close()
    with redis.Redis(port=valkey.port) as client:
        keys = list(client.scan_iter())
        assert len(keys) == 5
        assert all(0 < client.pttl(key) <= 30 * 86_400_000 for key in keys)
        assert all(key.startswith(b"svc_infra:1:{default}:") for key in keys)


@pytest.mark.parametrize("make_store", ["sqlite", "valkey"], indirect=True)  # a child has a memory of its own
def test_a_forked_child_talks_for_itself(make_store, begin):
    ours, listener = begin(make_store())
    ours.start()
    eventually(lambda: ours.up)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ours.start()
            eventually(lambda: ours.up, timeout=5)
            open_(make_store(), "from-the-child", recovery=1000)
            eventually(lambda: listener.state("from-the-child") == "open", timeout=5)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    eventually(lambda: listener.state("from-the-child") == "open", timeout=2)


def test_a_fork_in_the_middle_of_a_job_leaves_the_child_whole(make_store, begin):
    ours, _ = begin(make_store())
    held, release = threading.Event(), threading.Event()

    def job(store):
        held.set()
        release.wait(10)

    ours.submit(job)
    assert held.wait(5)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ours.start()
            eventually(lambda: ours.up, timeout=5)
            code = 0
        finally:
            os._exit(code)
    release.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_thread_ends_and_the_store_is_closed_when_the_app_is_gone(tmp_path):
    def serve():
        app = Flask("shop")
        app.config["SVC_INFRA_STATE_URL"] = f"sqlite:///{tmp_path}/state.db"
        infra = SvcInfra(app)
        infra.breaker("payments")
        app.test_client().get("/")
        reporter = app.extensions["svc_infra"].parts["state.reporter"]
        eventually(lambda: reporter.up)
        return reporter._thread, reporter.store

    thread, store = serve()
    gc.collect()
    eventually(lambda: not thread.is_alive(), timeout=3)
    assert store._file.connection is None
