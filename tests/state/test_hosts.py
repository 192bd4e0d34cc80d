"""``quorum=2`` over processes that are hosts: each has a name, the kernel's where it allows that."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest
from state.conftest import open_, sync
from state.worker import Process
from support.processes import eventually

from flask_svc_infra.state.urls import open_store

pytestmark = pytest.mark.needs("redis")
OPTIONS = {"failure_threshold": 2, "recovery_timeout": 60, "quorum": 2}


@pytest.fixture
def hosts():
    made = []

    def make(url, *names, **options):
        new = [Process(url, hostname=name, **OPTIONS | options) for name in names]
        made.extend(new)
        return new

    yield make
    for process in made:
        process.kill()


def states(processes):
    return [process.ask("state") for process in processes]


def test_one_bad_host_opens_alone_and_two_open_it_for_all(hosts, valkey):
    fleet = bad, twin, second, _ = hosts(valkey.url, "pod-1", "pod-1", "pod-2", "pod-3")
    bad.ask("fail", 2)
    twin.ask("fail", 2)  # of the same host: no second voice
    time.sleep(1.3)  # a poll of everybody
    assert states(fleet) == ["open", "open", "closed", "closed"]
    second.ask("fail", 2)
    eventually(lambda: states(fleet) == ["open"] * 4, timeout=2)
    store = open_store(valkey.url + "?socket_timeout=5")
    (entry,) = [e for e in store.act("journal", {"limit": 10})["entries"] if e["what"] == "closed -> open"]
    store.close()
    assert entry["actor"] == f"pod-2:{second.popen.pid}"


def test_the_vote_of_a_host_that_is_gone_counts_until_it_runs_out(valkey):
    store = open_store(valkey.url + "?socket_timeout=5")
    assert open_(store, host="gone", quorum=2, vote=400)["state"] == "closed"
    assert open_(store, host="gone-again", quorum=3, vote=60_000)["state"] == "closed"
    time.sleep(0.45)
    assert open_(store, host="new", quorum=3, vote=60_000)["state"] == "closed", "of three votes one is over"
    assert open_(store, host="newer", quorum=3, vote=60_000)["state"] == "open"
    store.close()


@pytest.fixture
def network(valkey):
    """Two network namespaces, the store's and a host's, joined by a wire: the URL as the host sees it."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("only root may lay a wire; test_redis_halves.py cuts one by a proxy instead")
    name = f"svc{os.getpid()}"

    def ip(*arguments):
        return subprocess.run(["ip", *arguments], check=False, capture_output=True).returncode == 0

    wired = (
        ip("netns", "add", name)
        and ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        and ip("address", "add", "198.18.77.1/30", "dev", f"{name}a")
        and ip("link", "set", f"{name}a", "up")
        and ip("-n", name, "address", "add", "198.18.77.2/30", "dev", f"{name}b")
        and ip("-n", name, "link", "set", f"{name}b", "up")
    )
    valkey.command("CONFIG SET protected-mode no")
    valkey.command("CONFIG SET bind 0.0.0.0")
    try:
        if not wired:
            pytest.skip("this kernel lays no wire; test_redis_halves.py cuts one by a proxy instead")
        yield name, f"redis://198.18.77.1:{valkey.port}/0", lambda state: ip("link", "set", f"{name}a", state)
    finally:
        valkey.command(f"CONFIG SET bind {valkey.host}")
        ip("netns", "delete", name)
        ip("link", "delete", f"{name}a")


def test_a_host_whose_cable_is_pulled_comes_back(hosts, valkey, network):
    name, url, cable = network
    near = hosts(valkey.url, "near", quorum=1)[0]
    far = hosts(url, "far", quorum=1, netns=name)[0]
    assert cable("down")
    eventually(lambda: not far.ask("up"), timeout=4)
    near.ask("fail", 2)
    time.sleep(0.2)
    assert states([near, far]) == ["open", "closed"]
    assert cable("up")
    eventually(lambda: states([near, far]) == ["open", "open"], timeout=4)
    near.ask("reset")
    eventually(lambda: states([near, far]) == ["closed", "closed"], timeout=2)
    store = open_store(valkey.url + "?socket_timeout=5")
    assert sync(store, seen=-1)["records"]["payments"]["state"] == "closed"
    store.close()
