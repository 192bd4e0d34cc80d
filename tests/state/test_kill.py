"""kill -9 at every moment: what is left behind is whole, and recovers by itself."""

from __future__ import annotations

import random
import sqlite3

import pytest
from state.conftest import acquire, open_, put, settle, sync
from state.victim import Victims
from support.processes import eventually

from flask_svc_infra.state.store import StoreError
from flask_svc_infra.state.urls import open_store

OPERATIONS = ["sync", "acquire", "settle", "open", "restore", "put", "journal"]
CHANGES = {
    "acquire": "open -> half_open",
    "settle": "half_open -> open",
    "open": "closed -> open",
    "restore": "unknown -> open",
    "put": "0" * 500,
}
"""What writes more than one row, and what the journal says of it."""
KILLS = 20


@pytest.fixture(params=["sqlite", "valkey"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    return request.getfixturevalue("valkey").url


@pytest.fixture(scope="module")
def graveyard():
    made = Victims()
    yield made
    made.close()


@pytest.fixture
def victims(graveyard, url):
    graveyard.url = url
    return graveyard


@pytest.fixture
def store(url):
    made = open_store(url)
    yield made
    made.close()


def assert_whole(store, before):
    """Everything can be read, nothing has gone back, and no change is there without its journal's entry."""
    now = sync(store, seen=-1)
    assert not now["ignored"]
    assert now["revision"] >= before.get("revision", 0)
    for name, record in now["records"].items():
        assert record["epoch"] >= before.get("records", {}).get(name, {"epoch": 0})["epoch"]
    for key, document in now["documents"].items():
        assert document["version"] >= before.get("documents", {}).get(key, {"version": 1})["version"]
    entries = store.act("journal", {"limit": 5000})["entries"] or []
    assert len(entries) <= 1000
    for entry in entries[:1]:
        if entry["kind"] == "document":
            assert entry["what"] == now["documents"]["maintenance"]["body"]
        else:
            assert entry["what"].endswith(f" -> {now['records']['payments']['state']}")
    return now


def recover(store):
    """Have the circuit closed by trials, as the survivors do, whatever state it was left in."""
    known = sync(store, seen=-1)["records"].get("payments", {"epoch": 0, "state": "closed"})
    if known["state"] == "closed":
        assert open_(store, epoch=known["epoch"])["state"] == "open"
    epoch = 0

    def granted():
        nonlocal epoch
        answer = acquire(store, "mine", limit=1, epoch=known["epoch"])
        epoch = answer["record"]["epoch"]
        return answer["granted"]

    eventually(granted, timeout=2, interval=0.01)
    closed = settle(store, "mine", "success", epoch=epoch, threshold=1)
    assert (closed["state"], closed["opens"]) == ("closed", 0)
    assert closed["epoch"] > known["epoch"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_during_an_operation(victims, store, operation):
    chance = random.Random(operation)
    seen, done = {}, 0
    for _ in range(KILLS):
        done += victims.kill(operation, chance.uniform(0, 0.012))
        seen = assert_whole(store, seen)
    assert done > 2 * KILLS, "the victims were killed before they had begun"
    recover(store)
    assert put(store)["version"] == seen["documents"].get("maintenance", {"version": 0})["version"] + 1


def journal(store):
    return [entry["what"] for entry in store.act("journal", {"limit": 10})["entries"] or []]


def rows(url):
    """Return all that a reader finds in the file; readers wait for nobody."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0)
    try:
        tables = ("svc_infra_state", "svc_infra_journal")
        return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]
    finally:
        connection.close()


@pytest.mark.parametrize("operation", CHANGES)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_killed_between_the_writes_and_the_commit(victims, store, url, operation):
    victims.begin(f"within {operation}")
    before = rows(url)
    with pytest.raises(StoreError, match="database is locked"):
        sync(store)
    victims.end()
    put(store, key="another")  # the lock has not outlived its holder
    states, entries = rows(url)
    assert [row for row in states if row[2] not in ("revision", "another")] == [
        row for row in before[0] if row[2] != "revision"
    ]
    assert len(entries) == len(before[1]) + 1
    assert CHANGES[operation] not in journal(store)
    recover(store)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_killed_when_nobody_else_had_the_file_open(victims, store, url):
    """Who comes next finds a WAL that nobody has taken into the file, with half a change at its end."""
    assert put(store, body="kept", what="kept")["version"] == 1
    victims.begin("within put")
    store.close()
    victims.end()
    late = open_store(url)
    assert sync(late, seen=-1)["documents"]["maintenance"]["body"] == "kept"
    assert put(late, body="next")["version"] == 2
    late.close()
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
@pytest.mark.parametrize("operation", CHANGES)
def test_killed_before_the_answer_was_read(victims, store, operation):
    """It was done, whole, though nobody knows."""
    victims.begin(f"unread {operation}")
    victims.end()
    assert journal(store)[0] == CHANGES[operation]
    assert_whole(store, {})
    recover(store)
