"""``redis.lua`` and ``ledger.py`` are the same rules: any history gives the same answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.valkey import ValkeyServer

from flask_svc_infra.state.store import MemoryStore
from flask_svc_infra.state.urls import open_store

HOUR = 3_600_000
APART = 10_000
names = st.sampled_from(["a", "b"])
epochs = st.integers(0, 6)
# Durations of none or an hour: what is over and what is not does not depend on when it is asked.
durations = st.sampled_from([0, HOUR])
common = {"opens": st.integers(0, 3), "reason": st.sampled_from(["why", ""]), "actor": st.just("me")}
windows = st.lists(
    st.sampled_from([(0, 10 * HOUR), (10, 0), (100, 0)]).flatmap(
        lambda size: st.fixed_dictionaries(
            {
                "id": st.just(f"{size}"),
                "last": st.just(size[0]),
                "span": st.just(size[1]),
                "hits": st.integers(0, 3),
            }
        )
    ),
    max_size=2,
    unique_by=lambda w: w["id"],
)
reports = st.fixed_dictionaries(
    {
        "name": names,
        "epoch": epochs,
        "run": st.integers(0, 3),
        "succeeded": st.booleans(),
        "calls": st.integers(0, 40),
        "windows": windows,
    }
)
steps = st.one_of(
    st.tuples(
        st.just("sync"),
        st.fixed_dictionaries(
            {"seen": st.just(-1), "reports": st.lists(reports, max_size=3), "probe": st.booleans()}
        ),
    ),
    st.tuples(
        st.just("open"),
        st.fixed_dictionaries(
            {
                "name": names,
                "epoch": epochs,
                "recovery": durations,
                "host": st.sampled_from("xyz"),
                "quorum": st.integers(1, 2),
                "vote": st.just(HOUR),
                **common,
            }
        ),
    ),
    st.tuples(
        st.just("acquire"),
        st.fixed_dictionaries(
            {
                "name": names,
                "epoch": epochs,
                "permit": st.sampled_from("pqrs"),
                "limit": st.integers(1, 3),
                "lease": st.just(HOUR),
                **common,
            }
        ),
    ),
    st.tuples(
        st.just("settle"),
        st.fixed_dictionaries(
            {
                "name": names,
                "epoch": epochs,
                "permit": st.sampled_from("pqrs"),
                "recovery": durations,
                "outcome": st.sampled_from(["success", "failure", "ignored"]),
                "threshold": st.integers(1, 3),
                **common,
            }
        ),
    ),
    st.tuples(
        st.just("restore"),
        st.fixed_dictionaries(
            {
                "name": names,
                "epoch": epochs,
                "state": st.sampled_from(["closed", "open", "half_open"]),
                "recovery": durations,
                **common,
            }
        ),
    ),
    *(
        st.tuples(
            st.just("put"),
            st.fixed_dictionaries(
                {
                    "key": names,
                    "version": epochs,
                    "body": st.text(max_size=5),
                    "restore": st.just(restore),
                    # Hours apart, and moved apart by each step's place in the history: who was first does
                    # not depend on how long a step takes.
                    "age": st.sampled_from(ages),
                    "duration": st.sampled_from([None, 10 * HOUR]),
                    "what": st.just("x"),
                    "reason": st.sampled_from([None, "r"]),
                    "actor": st.just("me"),
                }
            ),
        )
        for restore, ages in [(False, [0, 2 * HOUR]), (True, [HOUR, 3 * HOUR])]
    ),
    st.tuples(st.just("journal"), st.just({"limit": 20})),
)


EVERYTHING = ("sync", {"seen": -1, "reports": [], "probe": False})


@pytest.fixture(scope="module")
def server():
    with_server = ValkeyServer()
    yield with_server
    with_server.close()


def comparable(value):
    """Leave out what depends on when it was asked, on how Lua writes an empty list, and a set's order."""
    if isinstance(value, dict):
        kept = {k: comparable(v) for k, v in value.items() if k not in {"at", "revision"}}
        if "remaining" in kept:
            kept["remaining"] = kept["remaining"] and kept["remaining"] > HOUR // 2
        if "age" in kept:
            kept["age"] //= APART
        if "ignored" in kept:
            kept["ignored"] = sorted(kept["ignored"])
        return kept or []
    return [comparable(each) for each in value] if isinstance(value, list) else value


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(steps, max_size=40))
def test_any_history_gives_the_same_answers(server, history):
    server.command("FLUSHALL")
    lua, python = open_store(server.url), MemoryStore()
    try:
        for place, (operation, drawn) in enumerate([*history, EVERYTHING]):
            args = drawn | {"age": drawn["age"] + place * APART} if "age" in drawn else drawn
            expected = comparable(python.act(operation, args))
            assert comparable(lua.act(operation, args)) == expected, json.dumps([operation, args])
    finally:
        lua.close()
