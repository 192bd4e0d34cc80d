"""Whatever a hostile hand or another version writes under our keys, every operation answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_svc_infra.state.document import order
from flask_svc_infra.state.store import MemoryStore
from flask_svc_infra.state.urls import open_store

KEYS = "svc_infra:1:{default}:"
LARGEST = 10**14 - 1
numbers = st.one_of(
    st.integers(-2, 5),
    st.sampled_from([0.5, -0.0, LARGEST, LARGEST + 1, 2**63, 1e300, float("inf"), float("nan")]),
)
leaves = st.one_of(st.none(), st.booleans(), numbers, st.sampled_from(["", "open", "\ud800", "\0", "1"]))
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["1", "epoch", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)


def almost(**fields):
    """What we write, but for some fields that are missing and some that are anything."""
    optional = {name: usual | values for name, usual in fields.items()}
    return st.fixed_dictionaries({}, optional=optional | {"unknown": values})


times = st.dictionaries(st.sampled_from(["p", "q", "h"]), numbers, max_size=2)
buckets = st.lists(st.lists(numbers, min_size=2, max_size=4) | values, max_size=3)
RECORDS = almost(
    epoch=numbers,
    state=st.sampled_from(["open", "closed", "half_open"]),
    until=st.integers(0, 10**13),
    opens=numbers,
    successes=numbers,
    reason=st.just("why"),
    leases=times,
    votes=times,
)
TALLIES = almost(
    epoch=st.integers(0, 1), run=numbers, windows=st.dictionaries(st.sampled_from("wv1"), buckets)
)
DOCUMENTS = almost(
    version=numbers, until=numbers, body=st.sampled_from(["{}", "[]", "x"]), actor=st.just("me"), at=numbers
)
ENTRIES = almost(at=numbers, name=st.just("payments"))
NAMES = st.sampled_from([b"payments", b"circuit:payments", b"\xff", b""])


def texts(usual):
    return st.one_of(
        usual.map(json.dumps).map(str.encode),
        usual.map(json.dumps).map(str.encode),
        values.map(json.dumps).map(str.encode),
        st.sampled_from([b"", b"\xff\xfe", b"[" * 2000, b"nan", b'{"epoch":0x10}', b'"\xff"']),
    )


def section(usual):
    return st.dictionaries(NAMES, texts(usual), max_size=3)


REVISIONS = st.sampled_from(
    [None, b"", b"x", b"0x10", b"1e3", b" 5", b"-1", b"9223372036854775807", b"\xff", b"7"]
)
ABOUT = {"name": "payments", "reason": "why \udcff", "actor": "me", "opens": 1, "recovery": 1000}
WINDOWS = [{"id": "w", "last": 10, "span": 0, "hits": 1}, {"id": "v", "last": 0, "span": 60_000, "hits": 1}]
REPORT = {"name": "payments", "epoch": 1, "run": 1, "succeeded": False, "calls": 2, "windows": WINDOWS}
ORDER = order("circuit:payments", {}, what="x", reason="why \udcff", actor="me")
OPERATIONS = [
    ("sync", {"seen": -1, "reports": [REPORT, {**REPORT, "epoch": 0}], "probe": True}),
    ("acquire", {**ABOUT, "epoch": 1, "permit": "p", "limit": 2, "lease": 1000}),
    ("settle", {**ABOUT, "epoch": 2, "permit": "p", "outcome": "success", "threshold": 2}),
    ("open", {**ABOUT, "epoch": 1, "host": "h", "quorum": 2, "vote": 1000}),
    ("restore", {**ABOUT, "epoch": 4, "state": "open"}),
    ("put", ORDER),
    ("put", {**ORDER, "version": 3, "restore": True, "age": 5, "duration": 5}),
    ("journal", {"limit": 100}),
]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kept=st.fixed_dictionaries(
        {"records": section(RECORDS), "tallies": section(TALLIES), "documents": section(DOCUMENTS)}
    ),
    revision=REVISIONS,
    entries=st.lists(texts(ENTRIES), max_size=3),
    operations=st.permutations(OPERATIONS),
)
@pytest.mark.needs("redis")
def test_every_operation_answers(valkey, kept, revision, entries, operations):
    import redis

    lua, python = open_store(valkey.url), MemoryStore()
    with redis.Redis(port=valkey.port) as client:
        client.flushall()
        for name, found in kept.items():
            for key, text in found.items():
                client.hset(KEYS + name, key, text)
                python._shelf._sections[name][key.decode("utf-8", "replace")] = text.decode(
                    "utf-8", "replace"
                )
        if revision is not None:
            client.set(KEYS + "revision", revision)
        for text in entries:
            client.lpush(KEYS + "journal", text)
            python._shelf._journal.appendleft(text.decode("utf-8", "replace"))
    for operation, args in operations:
        for store in (lua, python):
            assert isinstance(store.act(operation, args), dict)
    lua.close()
