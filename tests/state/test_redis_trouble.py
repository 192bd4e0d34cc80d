"""What befalls a Redis, each with what is promised: local decisions, one line each way, all learned anew."""

from __future__ import annotations

import os
import re
import socket
import threading
import time

import pytest
import redis
from state.conftest import open_, put
from support.fleet import Worker
from support.processes import eventually
from support.valkey import ValkeyServer

from flask_svc_infra.state.store import StoreError
from flask_svc_infra.state.urls import open_store

pytestmark = [pytest.mark.needs("redis"), pytest.mark.usefixtures("quick_polls")]
PATIENT = "?socket_timeout=5"
"""For a store that is the test's own tool."""
KEYS = "svc_infra:1:{default}"


@pytest.fixture
def begin(valkey):
    made = []

    def make(url, *names):
        made.append(Worker(open_store(url)))
        for name in names or ("payments",):
            made[-1].breaker(name, failure_threshold=2, recovery_timeout=60)
        return made[-1]

    yield make
    for worker in made:
        worker.reporter.stop()


def up(*workers):
    eventually(lambda: all(worker.reporter.up and worker.reporter._belled for worker in workers), timeout=5)


def client(server, **options):
    return redis.Redis(port=server.port, **options)


def demote(server, proxy):
    server.command("REPLICAOF 127.0.0.1 1")
    return lambda: server.command("REPLICAOF NO ONE")


def want_a_password(server, proxy):
    server.command("CONFIG SET requirepass hunter2secret")

    def lift():
        with client(server, password="hunter2secret") as other:
            other.config_set("requirepass", "")

    with client(server, password="hunter2secret") as other:
        other.execute_command("CLIENT", "KILL", "TYPE", "normal")
    return lift


def fill(server, proxy):
    server.command("CONFIG SET maxmemory 1mb")
    return lambda: server.command("CONFIG SET maxmemory 0")


def bend_a_key(server, proxy):
    with client(server) as other:
        other.delete(f"{KEYS}:records")
        other.set(f"{KEYS}:records", "x")

        def straighten():
            with client(server) as other:
                other.delete(f"{KEYS}:records")

    return straighten


def through(fault, *arguments):
    def trouble(server, proxy):
        getattr(proxy, fault)(*arguments)
        return proxy.heal

    trouble.__name__ = fault
    return trouble


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (demote, "read only replica"),
        (want_a_password, "AuthenticationError|closed by server"),
        (fill, "maxmemory"),
        (bend_a_key, "WRONGTYPE"),
        (through("delay", 0.2), "Timeout"),
        (through("stall"), "Timeout"),
        (through("hang"), "Timeout"),
        (through("half"), "onnection"),
        (through("reset"), "onnection"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_process_goes_on_alone_and_all_agree_afterwards(valkey, begin, said, trouble, reason):
    proxy = valkey.proxy()
    one, other = begin(proxy.url), begin(proxy.url)
    up(one, other)
    end = trouble(valkey, proxy)
    try:
        one.fail(times=2)
        assert one.state() == "open"
        eventually(lambda: not one.reporter.up, timeout=3)
        time.sleep(0.7)
        assert (one.reporter.up, other.state()) == (False, "closed")
        assert sum("does not answer" in line for line in said()) == 1 + (not other.reporter.up)
    finally:
        end()
    eventually(lambda: one.state() == other.state() == "open", timeout=3)
    up(one, other)
    lines = said()
    lost = [line for line in lines if "does not answer" in line]
    assert all(re.search(reason, line) for line in lost), lost
    assert len(lines) == 2 * len(lost) <= 4
    assert "hunter2secret" not in "".join(lines)


def test_a_wrong_password_is_named_and_not_shown(valkey, begin, said):
    with client(valkey) as other:
        other.execute_command("ACL", "SETUSER", "shop", "on", ">right3secret", "~*", "&*", "+@all")
    url = f"redis://shop:hunter2secret@127.0.0.1:{valkey.port}/0"
    worker = begin(url)
    eventually(said, timeout=3)
    worker.fail(times=2)
    assert (worker.state(), worker.reporter.up) == ("open", False)
    (line,) = said()
    assert "invalid username-password pair" in line
    store = open_store(url)
    with pytest.raises(StoreError) as caught:
        store.act("journal", {"limit": 1})
    assert "hunter2secret" not in f"{line}{caught.value!r}{store!r}{worker.reporter!r}{store.url}"
    with client(valkey) as other:
        other.execute_command("ACL", "SETUSER", "shop", ">hunter2secret")
        up(worker)
        assert len(said()) == 2
        other.execute_command("ACL", "DELUSER", "shop")


def test_a_delay_of_forty_milliseconds_is_no_trouble(valkey, begin, said):
    proxy = valkey.proxy()
    one, other = begin(proxy.url), begin(valkey.url)
    up(one, other)
    proxy.delay(0.04)
    other.fail(times=2)
    eventually(lambda: one.state() == "open", timeout=2)
    one.breakers["payments"].reset()
    eventually(lambda: other.state() == "closed", timeout=2)
    time.sleep(0.5)
    assert one.reporter.up
    assert said() == []


def test_a_bell_that_is_cut_is_hung_again_without_a_word(valkey, begin, said):
    worker = begin(valkey.url + PATIENT)
    up(worker)
    with client(valkey) as other:
        for turn in range(3):
            eventually(lambda: len(other.client_list(_type="pubsub")) == 1, timeout=3)
            assert other.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
            open_(store := open_store(valkey.url + PATIENT), f"c{turn}", recovery=60_000)
            store.close()
            eventually(lambda: len(other.client_list(_type="pubsub")) == 1, timeout=3)
    worker.breaker("c0")
    eventually(lambda: worker.state("c0") == "open", timeout=2)
    up(worker)
    assert said() == []


def test_keys_that_a_server_short_of_memory_drops_are_told_again(valkey, begin):
    worker = begin(valkey.url)
    up(worker)
    worker.fail(times=2)
    put(store := open_store(valkey.url + PATIENT), "circuit:payments", '{"kind":"open","reason":"why"}')
    eventually(lambda: worker.breakers["payments"].forced is not None, timeout=2)
    with client(valkey) as other:
        for part in ("revision", "records", "documents", "tallies", "journal"):
            other.delete(f"{KEYS}:{part}")
            eventually(lambda: other.hexists(f"{KEYS}:documents", "circuit:payments"), timeout=3)
            newcomer = begin(valkey.url)
            eventually(lambda w=newcomer: w.breakers["payments"].forced is not None, timeout=2)
        before = other.get(f"{KEYS}:revision")
        time.sleep(0.7)
        assert other.get(f"{KEYS}:revision") == before, "told once, not for ever"
    store.close()


def test_a_server_that_evicts_anything_is_lived_with(valkey, begin):
    """``allkeys-lru`` and no room at all: what the fleet knows stays with its members."""
    one, other = begin(valkey.url), begin(valkey.url)
    up(one, other)
    one.fail(times=2)
    eventually(lambda: other.state() == "open", timeout=2)
    with client(valkey) as control:
        control.config_set("maxmemory-policy", "allkeys-lru")
        control.config_set("maxmemory", "1mb")
        try:
            with pytest.raises(redis.ResponseError):  # what is left after all keys are gone is still too much
                control.set("another", "x")
            assert control.dbsize() == 0
            time.sleep(0.7)
            assert (one.state(), other.state()) == ("open", "open")
        finally:
            control.config_set("maxmemory", "0")
            control.config_set("maxmemory-policy", "noeviction")
    newcomer = begin(valkey.url)
    eventually(lambda: newcomer.state() == "open", timeout=3)


def test_a_server_that_loads_its_data_is_down_until_it_has(begin, said):
    server = ValkeyServer()
    starting = threading.Thread(target=server.start)
    try:
        open_(store := open_store(server.url + PATIENT), recovery=60_000)
        store.close()
        with client(server) as other:
            other.mset({f"k{number}": os.urandom(1100) for number in range(600)})
            other.save()
        server.kill()
        server.arguments += ["--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"]
        starting.start()
        eventually(lambda: b"LOADING" in server.command("GET x"), timeout=5)
        worker = begin(server.url)
        eventually(said, timeout=1)
        eventually(lambda: worker.state() == "open", timeout=8)  # what was saved is learned
        assert "loading the dataset" in said()[0]
        assert len(said()) == 2
        worker.reporter.stop()
    finally:
        starting.join()
        server.close()


def test_a_name_that_is_no_longer_resolved_is_a_store_that_is_down(valkey, begin, said, monkeypatch):
    resolve, known = socket.getaddrinfo, True

    def getaddrinfo(host, *rest, **more):
        if host != "store.test":
            return resolve(host, *rest, **more)
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    worker = begin(f"redis://store.test:{valkey.port}/0{PATIENT}")
    up(worker)
    known = False
    time.sleep(0.4)
    assert worker.reporter.up, "whoever is connected needs no name"
    valkey.restart()
    eventually(lambda: not worker.reporter.up, timeout=3)
    time.sleep(0.5)
    worker.fail(times=2)
    assert worker.state() == "open"
    known = True
    up(worker)
    lost, _ = said()
    assert "not known" in lost or "Connection" in lost


def test_nobody_stampedes_when_the_store_is_back(valkey, begin):
    names = [f"c{number}" for number in range(10)]
    workers = [begin(valkey.url, *names) for _ in range(6)]
    up(*workers)
    for name in names:
        workers[0].fail(name, times=2)
    eventually(lambda: all(w.state(name) == "open" for w in workers for name in names), timeout=3)
    valkey.restart()  # empty: sixty circuits could be put back
    time.sleep(1)
    up(*workers)
    with client(valkey) as other:
        stats = other.info("commandstats")
        assert other.hlen(f"{KEYS}:records") >= 10
    commands = sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))
    # A second at five polls a second, one put back of each circuit by whoever was first (two, if two were),
    # and what its bell makes the others ask.
    assert commands <= 6 * 5 + 3 * 10 + 6 * 10
    assert stats.get("cmdstat_script|load", {"calls": 0})["calls"] <= 6 * 2


def test_the_metric_says_up_and_down(valkey):
    from flask import Flask

    from flask_svc_infra import SvcInfra

    app = Flask("shop")
    proxy = valkey.proxy()
    app.config["SVC_INFRA_STATE_URL"] = proxy.url
    infra = SvcInfra(app)
    web = app.test_client()

    def says(value):
        return f"svc_infra_state_up {value}" in web.get("/metrics").text

    try:
        web.get("/")  # the first request begins the polls
        eventually(lambda: says("1.0"), timeout=3)
        proxy.reset()
        eventually(lambda: says("0.0"), timeout=3)
        proxy.heal()
        eventually(lambda: says("1.0"), timeout=3)
    finally:
        infra._sharing[1].stop()
