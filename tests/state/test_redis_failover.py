"""``redis+sentinel://``: real Sentinels, a primary that dies, hangs or is demoted, passwords of all kinds."""

from __future__ import annotations

import time

import pytest
from state.conftest import open_, put, sync
from state.worker import Process
from support.fleet import Worker
from support.processes import eventually, finish, free_port, spawn
from support.sentinel import Failover
from support.tls import Certificates, TlsFront

from flask_svc_infra.state.store import StoreError
from flask_svc_infra.state.urls import open_store

pytestmark = pytest.mark.needs("redis", "trustme")
LASTING = {"failure_threshold": 2, "recovery_timeout": 60}


@pytest.fixture
def service(tmp_path):
    """Make a service with its Sentinels: ``service(password="…", sentinel_password="…")``."""
    made = []

    def make(**passwords):
        made.append(Failover(tmp_path, **passwords))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def begin(service):
    """Make workers in this process."""
    made = []

    def make(url, *names):
        made.append(Worker(open_store(url)))
        for name in names or ("payments",):
            made[-1].breaker(name, **LASTING)
        return made[-1]

    yield make
    for worker in made:
        worker.reporter.stop()


@pytest.mark.parametrize("end", ["kill", pytest.param("stop", marks=pytest.mark.slow)])
def test_a_failover_loses_nothing_that_the_fleet_knows(service, begin, said, end):
    servers = service()
    processes = [Process(servers.url, **LASTING) for _ in range(2)]
    worker = begin(servers.url, "payments", "orders")
    try:
        eventually(lambda: worker.reporter.up)
        worker.breakers["payments"].force_open("the provider asked")
        eventually(lambda: all(process.ask("state") == "open" for process in processes), timeout=3)
        servers.replica.command("CONFIG SET replica-read-only no")
        servers.replica.command("FLUSHALL")  # as if the last of it had not got there
        old, new = servers.primary, servers.replica
        getattr(old, end)()
        eventually(lambda: not worker.reporter.up, timeout=3)
        worker.fail("orders", times=2)
        assert worker.state("orders") == "open"  # it decides for itself
        assert [process.ask("state") for process in processes] == ["open", "open"]
        eventually(lambda: servers.primary_port() == new.port, timeout=15)
        eventually(lambda: worker.reporter.up and all(p.ask("up") for p in processes), timeout=4)
        newcomer = begin(servers.url, "payments", "orders")
        eventually(lambda: newcomer.state("payments") == newcomer.state("orders") == "open", timeout=4)
        assert newcomer.breakers["payments"].forced.reason == "the provider asked"
        if end == "stop":
            old.cont()
            eventually(lambda: servers.role(old) == "slave", timeout=8)
        newcomer.breakers["payments"].reset("over")
        eventually(lambda: all(p.ask("state") == "closed" for p in processes), timeout=3)
        lost, found = said()
        assert "does not answer" in lost
        assert "answers again" in found
    finally:
        for process in processes:
            process.kill()


def test_a_planned_failover_moves_the_fleet_to_the_new_primary(service, begin, said):
    servers = service()
    workers = [begin(servers.url) for _ in range(3)]
    eventually(lambda: all(worker.reporter.up and worker.reporter._belled for worker in workers))
    servers.fail_over()
    eventually(lambda: servers.primary_port() == servers.replica.port, timeout=15)
    eventually(lambda: servers.role(servers.primary) == "slave", timeout=8)
    workers[0].fail(times=2)
    eventually(lambda: {worker.state() for worker in workers} == {"open"}, timeout=3)
    there = open_store(f"redis://127.0.0.1:{servers.replica.port}/0")
    eventually(lambda: sync(there, seen=-1)["records"].get("payments", {}).get("state") == "open", timeout=3)
    there.close()
    lines = said()
    assert len(lines) <= 6
    assert len(lines) == 2 * sum("answers again" in line for line in lines)


def test_a_demoted_primary_is_noticed_by_whoever_is_still_connected(service):
    servers = service()
    store = open_store(servers.url)
    assert open_(store, recovery=60_000)["state"] == "open"
    servers.primary.command(f"REPLICAOF 127.0.0.1 {servers.replica.port}")
    with pytest.raises(StoreError, match=r"slave|read only"):
        open_(store, "orders", recovery=60_000)
    servers.primary.command("REPLICAOF NO ONE")
    assert open_(store, "orders", recovery=60_000)["state"] == "open"
    store.close()


def test_looking_up_again_and_again_leaves_no_connection_behind(service):
    servers = service()
    store = open_store(servers.url)

    def connected():
        with servers.client(servers.ports[0], "") as client:
            return len(client.client_list())

    before = connected()
    for _ in range(10):
        store.act("journal", {"limit": 1})
        store.close()
    assert eventually(lambda: connected() <= before + 1, timeout=3)


def test_sentinels_have_a_password_of_their_own(service, begin, said):
    servers = service(password="hunter2secret", sentinel_password="hush5secret")
    named = begin(servers.url + "?sentinel_password=hush5secret")
    eventually(lambda: named.reporter.up, timeout=3)
    assert said() == []
    for url in (
        servers.url,
        servers.url + "?sentinel_password=wrong7secret",
        servers.url.replace("hunter2secret", "wrong7secret") + "?sentinel_password=hush5secret",
        servers.url.replace(":hunter2secret@", "") + "?sentinel_password=hush5secret",
    ):
        store = open_store(url)
        with pytest.raises(StoreError, match=r"[Aa]uthentication|invalid (username-)?password") as caught:
            store.act("journal", {"limit": 1})
        shown = f"{store!r} {store.url} {caught.value!r}"
        assert "5secret" not in shown
        assert "2secret" not in shown
        assert "7secret" not in shown


@pytest.fixture
def sentinel_behind_tls(valkey, tmp_path):
    """A Sentinel behind TLS and the server it names behind TLS: what each shows, the URL without options."""
    certificates = Certificates(tmp_path)
    port = free_port()
    with TlsFront(valkey.port, certificates) as server, TlsFront(port, certificates) as sentinel:
        conf = tmp_path / "conf"
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {server.port} 1\n",
            encoding="utf-8",
        )
        process = spawn([valkey.binary(), conf, "--sentinel"], log=tmp_path / "log", cwd=tmp_path)
        try:
            yield certificates, f"127.0.0.1:{sentinel.port}/main/0"
        finally:
            finish(process)


def test_tls_to_the_sentinels_and_to_the_server(sentinel_behind_tls):
    certificates, where = sentinel_behind_tls
    store = open_store(f"rediss+sentinel://{where}?ssl_ca_certs={certificates.ca}&socket_timeout=0.5")

    def answers():
        try:
            return put(store, body='{"mode":"full"}')
        except StoreError as error:
            raise AssertionError(str(error)) from error

    assert eventually(answers)["body"] == '{"mode":"full"}'
    store.close()
    suspicious = open_store(f"rediss+sentinel://{where}?ssl_ca_certs={certificates.other_ca}")
    with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
        suspicious.act("journal", {"limit": 1})


def test_options_of_a_sentinel_url_hold(service):
    servers = service()
    patient = open_store(servers.url + "?socket_timeout=5")
    patient.act("journal", {"limit": 1})
    servers.primary.stop()
    began = time.monotonic()
    with pytest.raises(StoreError):
        hasty = open_store(servers.url)
        hasty.act("journal", {"limit": 1})
    assert time.monotonic() - began < 1
    servers.primary.cont()
    assert patient.act("journal", {"limit": 1}) == {"entries": {}}
    patient.close()
