"""What every store does: the same operations, the same answers."""

from __future__ import annotations

import threading
import time

import pytest
from state.conftest import acquire, open_, put, report, restore, settle, sync, window

from flask_svc_infra.state.store import StoreError

HOUR = 3_600_000


def test_an_untouched_store_knows_nothing(store):
    assert sync(store)["revision"] == 0
    assert acquire(store, epoch=0)["record"]["state"] == "half_open"  # the caller knew of an open circuit


def test_open_is_seen_by_every_other(make_store):
    one, other = make_store(), make_store()
    assert open_(one, recovery=HOUR)["state"] == "open"
    seen = sync(other)["records"]["payments"]
    assert (seen["state"], seen["epoch"], seen["opens"]) == ("open", 1, 1)
    assert HOUR - 60_000 < seen["remaining"] <= HOUR


def test_nothing_new_is_told_in_two_words(store):
    revision = (open_(store), sync(store)["revision"])[1]
    assert "records" not in sync(store, seen=revision)
    restore(store, epoch=9)
    assert "records" in sync(store, seen=revision)


def test_opening_with_an_old_epoch_changes_nothing(store):
    restore(store, epoch=7, state="closed")
    assert open_(store, epoch=6)["state"] == "closed"


def test_opening_twice_counts_once(store):
    open_(store, recovery=HOUR)
    again = open_(store, recovery=HOUR)
    assert (again["epoch"], again["opens"]) == (1, 1)


def test_quorum_needs_that_many_hosts_not_votes(store):
    assert open_(store, quorum=2)["state"] == "closed"
    assert open_(store, quorum=2)["state"] == "closed"
    assert open_(store, quorum=2, host="b")["state"] == "open"


def test_votes_run_out(store):
    open_(store, quorum=2, vote=1)
    time.sleep(0.01)
    assert open_(store, quorum=2, host="b")["state"] == "closed"


def test_no_trial_before_the_recovery_timeout(store):
    open_(store, recovery=HOUR)
    answer = acquire(store)
    assert not answer["granted"]
    assert answer["record"]["state"] == "open"


def test_trials_in_flight_are_bounded(store):
    open_(store)
    assert [acquire(store, f"p{n}")["granted"] for n in range(5)] == [True, True, True, False, False]
    settle(store, "p1", "ignored")
    assert acquire(store, "p9")["granted"]


def test_bound_holds_for_many_threads(make_store):
    open_(make_store())
    stores = [make_store() for _ in range(8)]
    granted: list[bool] = []
    refusals: list[str] = []
    start = threading.Barrier(8, timeout=10)

    def ask(number):
        start.wait()
        for turn in range(20):
            try:
                granted.append(acquire(stores[number], f"{number}-{turn}")["granted"])
            except StoreError as error:
                refusals.append(str(error))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(granted) == 3
    assert all("locked" in text for text in refusals)  # the file was held for longer than a caller waits


def test_the_lease_of_a_dead_holder_runs_out(store):
    open_(store)
    assert acquire(store, "dead", limit=1, lease=1)["granted"]
    time.sleep(0.01)
    assert acquire(store, "next", limit=1)["granted"]


def test_enough_successes_close(store):
    open_(store)
    acquire(store, "p1")
    acquire(store, "p2")
    assert settle(store, "p1", "success")["state"] == "half_open"
    closed = settle(store, "p2", "success")
    assert (closed["state"], closed["epoch"], closed["opens"]) == ("closed", 3, 0)


def test_a_failed_trial_opens_again(store):
    open_(store)
    acquire(store)
    opened = settle(store, "p1", "failure")
    assert (opened["state"], opened["epoch"], opened["opens"]) == ("open", 3, 2)
    assert opened["remaining"] > HOUR - 60_000


def test_a_late_trial_decides_nothing(store):
    open_(store)
    acquire(store, "late")
    acquire(store, "other")
    settle(store, "other", "failure", recovery=0)
    acquire(store, "new")
    assert settle(store, "late", "failure")["state"] == "half_open"


def test_who_knows_more_than_an_emptied_store_tells_it(store):
    assert restore(store, epoch=7)["epoch"] == 7
    assert restore(store, epoch=5, state="closed")["state"] == "open"  # an older knowledge loses
    assert restore(store, epoch=8, state="closed")["state"] == "closed"
    assert open_(store, epoch=8)["epoch"] == 9


def test_epochs_go_on_after_the_data_are_lost(store):
    assert acquire(store, epoch=41)["record"]["epoch"] == 42
    assert open_(store, "other", epoch=41)["epoch"] == 42


def test_failures_of_all_add_up(make_store):
    one, other = make_store(), make_store()
    assert sync(one, report(run=2))["tallies"][0]["run"] == 2
    assert sync(other, report(run=3))["tallies"][0]["run"] == 5


def test_a_success_anywhere_begins_the_run_again(make_store):
    one, other = make_store(), make_store()
    sync(one, report(run=4))
    assert sync(other, report(run=1, succeeded=True))["tallies"][0]["run"] == 1
    assert sync(one, report(run=1))["tallies"][0]["run"] == 2


def test_what_was_counted_in_another_epoch_is_forgotten(store):
    sync(store, report(run=4, epoch=0))
    assert sync(store, report(run=1, epoch=2))["tallies"][0]["run"] == 1


def test_an_open_circuit_counts_nothing(store):
    open_(store, recovery=HOUR)
    assert sync(store, report(run=4, epoch=1, windows=(window(4, last=10),), calls=4))["tallies"] == [
        {"run": 0, "windows": [[0, 0]]}
    ]


def test_window_of_calls_forgets_the_oldest(store):
    def add(hits, calls):
        return sync(store, report(calls=calls, windows=(window(hits, last=100),)))["tallies"][0]["windows"][0]

    assert add(10, 10) == [10, 10]
    assert add(0, 80) == [10, 90]
    assert add(0, 20) == [0, 100]
    assert add(0, 500)[0] == 0


def test_window_of_time_forgets(store):
    def add(hits, calls, span):
        return sync(store, report(calls=calls, windows=(window(hits, span=span),)))["tallies"][0]["windows"][
            0
        ]

    assert add(3, 4, HOUR) == [3, 4]
    assert add(1, 1, HOUR) == [4, 5]
    assert add(3, 4, 1000) == [3, 4]
    time.sleep(1.1)
    assert add(0, 1, 1000) == [0, 1]


def test_one_report_may_carry_many_circuits(store):
    tallies = sync(store, *(report(f"c{n}", run=n) for n in range(5)))["tallies"]
    assert [tally["run"] for tally in tallies] == [0, 1, 2, 3, 4]


def test_documents_the_newest_wins(make_store):
    one, other = make_store(), make_store()
    assert put(one, body='{"mode":"full"}')["version"] == 1
    assert put(other, body='{"mode":"off"}')["version"] == 2
    assert sync(one)["documents"]["maintenance"]["body"] == '{"mode":"off"}'


def test_a_document_is_restored_unless_a_later_order_is_there(store):
    put(store, body="new", age=5_000)
    assert put(store, body="old", version=6, restore=True, age=9_000)["body"] == "new"
    assert put(store, body="newest", version=7, restore=True, age=1_000) | {"age": 0} == {
        "version": 7,
        "body": "newest",
        "actor": "cli",
        "remaining": None,
        "age": 0,
    }


def test_an_order_that_was_long_on_its_way_does_not_undo_a_later_one(make_store):
    put(make_store(), body="given since")
    late = put(make_store(), body="given before", age=60_000)
    assert (late["body"], late["version"]) == ("given since", 1)
    assert put(make_store(), body="given now", age=0)["body"] == "given now"


def test_versions_never_outgrow_what_can_be_kept(store):
    largest = 10**14 - 1
    assert put(store, version=largest)["version"] == largest
    assert put(store, body="next", version=largest)["body"] == "next"


def test_documents_may_end(store):
    assert 0 < put(store, duration=HOUR)["remaining"] <= HOUR
    put(store, duration=1)
    time.sleep(0.01)
    assert sync(store)["documents"]["maintenance"]["remaining"] == 0


def test_journal_says_who_and_why_newest_first(store):
    open_(store, recovery=HOUR)
    put(store, what="full", reason="we move the database", actor="cli:ann")
    entries = store.act("journal", {"limit": 10})["entries"]
    assert [(e["name"], e["what"], e["reason"], e["actor"]) for e in entries] == [
        ("maintenance", "full", "we move the database", "cli:ann"),
        ("payments", "closed -> open", "5 failures in a row", "a:1"),
    ]
    assert all(abs(entry["at"] / 1000 - time.time()) < 60 for entry in entries)


def test_journal_is_bounded(store):
    for number in range(1010):
        put(store, what=str(number))
    entries = store.act("journal", {"limit": 5000})["entries"]
    assert len(entries) == 1000
    assert entries[0]["what"] == "1009"


def test_namespaces_do_not_meet(make_store):
    open_(make_store("one"), recovery=HOUR)
    assert sync(make_store("two"))["revision"] == 0


@pytest.mark.parametrize("name", ["ü", "a b", "x" * 300, '"}{', "{}", "a:b", "'; DROP TABLE x", "\\", "\n"])
def test_names_of_any_kind(store, name):
    assert open_(store, name, recovery=HOUR)["state"] == "open"
    assert list(sync(store)["records"]) == [name]


def test_a_probe_writes(store):
    assert sync(store, probe=True)["revision"] == 0
    assert sync(store, report(run=1))["tallies"][0]["run"] == 1
