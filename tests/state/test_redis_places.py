"""Where a Redis may live and who may talk to it: a cluster's node, and a user with the documented rights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis
from state.conftest import open_
from support.fleet import Worker
from support.processes import eventually
from support.valkey import ValkeyServer

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.resilience import Outcome
from flask_svc_infra.state.store import StoreError
from flask_svc_infra.state.urls import open_store

pytestmark = [pytest.mark.needs("redis"), pytest.mark.usefixtures("quick_polls")]
PATIENT = "?socket_timeout=5"
PAGE = Path(__file__).parents[2] / "docs" / "shared-state.md"


@pytest.fixture
def begin():
    made = []

    def make(url, **options):
        made.append(Worker(open_store(url)))
        made[-1].breaker("payments", **options)
        return made[-1]

    yield make
    for worker in made:
        worker.reporter.stop()


@pytest.fixture
def cluster():
    """Two nodes: the first holds the slot of the default namespace, the second all others."""
    nodes = [ValkeyServer("--cluster-enabled", "yes") for _ in range(2)]
    first, second = (redis.Redis(port=node.port) for node in nodes)
    with first, second:
        slot = int(first.execute_command("CLUSTER", "KEYSLOT", "svc_infra:1:{default}:records"))
        first.execute_command("CLUSTER", "ADDSLOTS", slot)
        second.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, slot - 1, slot + 1, 16383)
        first.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
        eventually(lambda: all(b"cluster_state:ok" in raw(each) for each in (first, second)), timeout=20)
    yield nodes
    for node in nodes:
        node.close()


def raw(client):
    client.response_callbacks.clear()
    return client.execute_command("CLUSTER", "INFO")


def test_a_clusters_node_that_holds_the_namespace_is_a_store(cluster, begin, said):
    right, wrong = cluster
    one, other = (begin(right.url, failure_threshold=2, recovery_timeout=60) for _ in range(2))
    eventually(lambda: one.reporter._belled and other.reporter._belled, timeout=3)
    one.fail(times=2)
    eventually(lambda: other.state() == "open", timeout=2)
    other.breakers["payments"].force_open("why")
    eventually(lambda: one.breakers["payments"].forced is not None, timeout=2)
    assert said() == []
    astray = begin(wrong.url, failure_threshold=2, recovery_timeout=60)
    eventually(said, timeout=3)
    astray.fail(times=2)
    assert (astray.state(), astray.reporter.up) == ("open", False)
    (line,) = said()
    assert "moved" in line.lower()  # an error of that name, or in the server's word
    assert f":{right.port}" in line, "the line names the node to use"


@pytest.fixture
def shop(valkey):
    """A user with the rights that the page asks for, and no others; the URL."""
    text = PAGE.read_text(encoding="utf-8")
    rights = re.search(r"Needed of an ACL: `([^`]+)`, on `([^`]+)` and `([^`]+)`", text)
    assert rights is not None
    commands, keys, channels = rights.groups()
    with redis.Redis(port=valkey.port) as control:
        control.execute_command(
            "ACL", "SETUSER", "shop", "reset", "on", ">hunter2secret", keys, channels, *commands.split()
        )
        control.execute_command("ACL", "LOG", "RESET")
        yield f"redis://shop:hunter2secret@127.0.0.1:{valkey.port}/0", control
        control.execute_command("ACL", "DELUSER", "shop")


def test_the_documented_rights_are_enough_for_all_there_is(shop, begin, said):
    url, control = shop
    one, other = (begin(url, failure_threshold=2, recovery_timeout=0.1, success_threshold=1) for _ in "ab")
    eventually(lambda: one.reporter._belled and other.reporter._belled, timeout=3)
    one.fail(times=2)
    eventually(lambda: other.state() == "open", timeout=2)

    def closed():
        try:
            other.breakers["payments"].admit().settle(Outcome.SUCCESS)
        except Exception as refusal:
            raise AssertionError(str(refusal)) from refusal
        return other.state() == "closed"

    eventually(closed, timeout=3)
    eventually(lambda: one.state() == "closed", timeout=2)
    control.flushall()
    control.script_flush()
    one.breakers["payments"].force_open("why")
    eventually(lambda: other.breakers["payments"].forced is not None, timeout=2)
    store = open_store(url + PATIENT)
    assert store.act("journal", {"limit": 1})["entries"][0]["what"] == "forced open"
    store.close()
    assert said() == []
    denied = [entry for entry in control.acl_log() if entry["object"] not in ("hello", "client|setinfo")]
    assert denied == []


def test_a_right_that_is_missing_is_named(shop):
    url, control = shop
    control.execute_command("ACL", "SETUSER", "shop", "-lpush")
    store = open_store(url + PATIENT)
    with pytest.raises(StoreError, match=r"lpush|permission|can.t run this command") as caught:
        open_(store, recovery=1000)
    assert "hunter2secret" not in str(caught.value)
    store.close()


@pytest.mark.parametrize(
    ("url", "option"),
    [
        ("redis://:hunter2secret@cache/0?socket_timout=1", "socket_timout"),
        ("redis://:hunter2secret@cache/0?socket_timeout=soon", "socket_timeout"),
        ("redis://:hunter2secret@cache/0?ssl_ca_certs=ca.pem", "ssl_ca_certs"),
        ("rediss://:hunter2secret@cache/0?ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs"),
        ("redis+sentinel://:hunter2secret@cache/main/0?socket_timout=1", "socket_timout"),
        ("redis+sentinel://:hunter2secret@cache/main/0?ssl_ca_certs=ca.pem", "ssl_ca_certs"),
        ("redis://:pa?hunter=secret@cache/0", None),  # a password that was not quoted
    ],
)
def test_an_option_that_cannot_be_used_is_named_and_nothing_else_is(url, option):
    with pytest.raises(ConfigurationError, match="SVC_INFRA_STATE_URL") as caught:
        open_store(url)
    said = str(caught.value)
    assert (f"option '{option}'" in said) is (option is not None)
    assert "hunter" not in said
    assert "secret" not in said
