"""One circuit in many processes: opened anywhere, open everywhere; counted everywhere; tried by a few."""

from __future__ import annotations

import contextlib
import time

import pytest
from support.fleet import Worker
from support.processes import eventually

from flask_svc_infra.resilience import CircuitBreakerError, Outcome, consecutive, failure_rate, slow_rate
from flask_svc_infra.state.store import StoreError

pytestmark = pytest.mark.usefixtures("quick_polls")
QUICK = {"failure_threshold": 3, "recovery_timeout": 0.3}


@pytest.fixture
def fleet(make_store):
    made = []

    def make(count, *, name="payments", hosts=None, **options):
        workers = [Worker(make_store(), hosts[n] if hosts else "a") for n in range(count)]
        made.extend(workers)
        for worker in workers:
            worker.breaker(name, **(options or QUICK))
        eventually(lambda: all(worker.reporter.up for worker in workers))
        time.sleep(0.05)
        return workers

    yield make
    for worker in made:
        worker.reporter.stop()


def all_are(workers, state, timeout=1.5):
    eventually(
        lambda: all(worker.state() == state for worker in workers),
        timeout=timeout,
        interval=0.002,
        message=f"{[worker.state() for worker in workers]} are not all {state}",
    )


def trial(worker):
    try:
        return worker.breakers["payments"].admit()
    except CircuitBreakerError:
        return None


@pytest.mark.parametrize("at_once", [True, False])
def test_a_breaker_made_late_trips_for_all(fleet, make_store, at_once):
    """Made in a view, say: it has not heard yet how often the others have opened and closed."""
    workers = fleet(2, failure_threshold=2, recovery_timeout=0.05, success_threshold=1)
    workers[0].fail(times=2)
    all_are(workers, "open")
    time.sleep(0.06)
    eventually(lambda: (permit := trial(workers[1])) and permit.settle(Outcome.SUCCESS) is None)
    all_are(workers, "closed")
    late = Worker(make_store())
    try:
        eventually(lambda: late.reporter.up)
        late.breaker(failure_threshold=2, recovery_timeout=30)
        if not at_once:
            time.sleep(0.1)
        late.fail(times=2)
        all_are([*workers, late], "open")
    finally:
        late.reporter.stop()


def test_opened_anywhere_is_open_everywhere(fleet):
    workers = fleet(3)
    workers[0].fail(times=3)
    assert workers[0].state() == "open"
    all_are(workers, "open")
    assert workers[2].breakers["payments"].remaining_timeout <= 0.3


def test_failures_in_a_row_add_up_over_the_fleet(fleet):
    workers = fleet(3, failure_threshold=3, recovery_timeout=60)
    for worker in workers:
        worker.fail()
    all_are(workers, "open")


def test_a_success_anywhere_begins_the_run_again(fleet):
    workers = fleet(2, failure_threshold=3, recovery_timeout=60)
    workers[0].fail(times=2)
    time.sleep(0.1)
    workers[1].succeed()
    time.sleep(0.5)
    workers[1].fail()
    time.sleep(0.2)
    assert [worker.state() for worker in workers] == ["closed", "closed"]


@pytest.mark.parametrize(
    "rule",
    [
        failure_rate(0.5, last=20, minimum_calls=8),
        failure_rate(0.5, seconds=60, minimum_calls=8),
        consecutive(100) | failure_rate(0.5, seconds=60, minimum_calls=8),
        consecutive(4) & failure_rate(0.5, last=20, minimum_calls=8),
    ],
    ids=repr,
)
def test_windows_are_the_fleets(fleet, rule):
    workers = fleet(2, trip=rule, recovery_timeout=60)
    for worker in workers:
        worker.succeed(times=2)
    time.sleep(0.5)
    workers[0].fail(times=2)
    time.sleep(0.2)
    assert workers[0].state() == "closed"
    workers[1].fail(times=2)
    all_are(workers, "open")


def test_slow_calls_are_counted_over_the_fleet(fleet):
    rule = slow_rate(0.5, slower_than=0.01, last=10, minimum_calls=4)
    workers = fleet(2, trip=rule, recovery_timeout=60)
    for worker in workers:
        for _ in range(2):
            with worker.breakers["payments"]:
                time.sleep(0.02)
    all_are(workers, "open")


def test_many_healthy_processes_outvote_a_few_failures(fleet):
    workers = fleet(2, trip=failure_rate(0.5, last=100, minimum_calls=20), recovery_timeout=60)
    workers[0].succeed(times=90)
    time.sleep(0.5)
    workers[1].fail(times=19)
    time.sleep(0.2)
    assert workers[0].state() == "closed"


def test_trials_in_the_whole_fleet_are_bounded(fleet):
    workers = fleet(4, failure_threshold=1, recovery_timeout=0.1, half_open_max_calls=3, success_threshold=3)
    workers[0].fail()
    all_are(workers, "open")
    time.sleep(0.2)
    permits = [permit for _ in range(20) for worker in workers if (permit := trial(worker)) is not None]
    assert len(permits) == 3
    for permit in permits:
        permit.settle(Outcome.SUCCESS)
    all_are(workers, "closed")


def test_successes_of_different_processes_close(fleet):
    workers = fleet(2, failure_threshold=1, recovery_timeout=0.1, half_open_max_calls=2, success_threshold=2)
    workers[0].fail()
    all_are(workers, "open")
    time.sleep(0.2)
    permits = [eventually(lambda w=worker: trial(w), timeout=3) for worker in workers]
    for permit in permits:
        permit.settle(Outcome.SUCCESS)
    all_are(workers, "closed")


def test_a_failed_trial_opens_everywhere(fleet):
    workers = fleet(3, failure_threshold=1, recovery_timeout=0.2)
    workers[0].fail()
    all_are(workers, "open")
    time.sleep(0.3)
    permit = eventually(lambda: trial(workers[1]))
    all_are(workers, "half_open")
    permit.settle(Outcome.FAILURE)
    all_are(workers, "open")
    assert workers[2].breakers["payments"]._machine.opens == 2


def test_ignored_trials_wedge_nothing(fleet):
    workers = fleet(2, failure_threshold=1, recovery_timeout=0.1, half_open_max_calls=1, success_threshold=1)
    workers[0].fail()
    all_are(workers, "open")
    time.sleep(0.2)
    for _ in range(5):
        eventually(lambda: trial(workers[0]), timeout=3).settle(Outcome.IGNORED)
    eventually(lambda: trial(workers[0]), timeout=3).settle(Outcome.SUCCESS)
    all_are(workers, "closed")


def test_quorum_keeps_one_bad_host_to_itself(fleet):
    workers = fleet(
        3,
        hosts=["bad", "bad", "good"],
        failure_threshold=2,
        recovery_timeout=0.2,
        quorum=2,
        success_threshold=1,
    )
    workers[0].fail(times=2)
    workers[1].fail(times=2)
    time.sleep(0.15)
    asked = []
    act = workers[0].reporter.store.act
    workers[0].reporter.store.act = lambda *args: asked.append(args[0]) or act(*args)
    time.sleep(0.1)
    assert asked.count("open") <= 3, "a vote that did not suffice is not repeated at once"
    assert workers[2].state() == "closed"
    assert workers[0].state() == "open"
    time.sleep(0.2)
    trial(workers[0]).settle(Outcome.SUCCESS)  # it tries and recovers by itself
    assert workers[0].state() == "closed"
    workers[0].fail(times=2)
    with contextlib.suppress(CircuitBreakerError):  # the bad host's failures are known by now: one may do
        workers[2].fail(times=2)
    all_are(workers, "open")


def test_forced_states_reach_all_and_are_lifted(fleet):
    workers = fleet(3)
    workers[0].breakers["payments"].force_open("the provider asked us to")
    all_are(workers, "open")
    assert workers[2].breakers["payments"].forced.reason == "the provider asked us to"
    workers[1].breakers["payments"].disable("trust me")
    all_are(workers, "closed")
    assert {worker.breakers["payments"].forced.kind for worker in workers} == {"disabled"}
    workers[2].breakers["payments"].reset()
    eventually(lambda: all(worker.breakers["payments"].forced is None for worker in workers), timeout=1.5)


def test_reset_closes_everywhere(fleet):
    workers = fleet(2, failure_threshold=1, recovery_timeout=60)
    workers[0].fail()
    all_are(workers, "open")
    workers[1].breakers["payments"].reset("repaired")
    all_are(workers, "closed")
    time.sleep(0.5)
    assert [worker.state() for worker in workers] == ["closed", "closed"]


def test_a_reset_while_the_store_is_down_holds_here_and_afterwards_everywhere(fleet, monkeypatch):
    workers = fleet(2, failure_threshold=3, recovery_timeout=60)
    workers[0].fail(times=3)
    all_are(workers, "open")
    reporter = workers[0].reporter
    with monkeypatch.context() as trouble:

        def lost(operation, args):
            raise StoreError(f"{operation} of {len(args)} is lost")

        trouble.setattr(reporter.store, "act", lost)
        workers[0].breakers["payments"].reset()
        eventually(lambda: not reporter.up)
        assert [worker.state() for worker in workers] == ["closed", "open"]
    all_are(workers, "closed")
    time.sleep(0.5)
    assert [worker.state() for worker in workers] == ["closed", "closed"]


def test_a_newcomer_learns_what_is_so(fleet):
    workers = fleet(1, failure_threshold=1, recovery_timeout=60)
    workers[0].fail()
    time.sleep(0.2)
    all_are(fleet(1, failure_threshold=1, recovery_timeout=60), "open")


def test_a_breaker_made_later_learns_what_is_so(fleet):
    workers = fleet(2, failure_threshold=1, recovery_timeout=60)
    workers[0].breaker("late", failure_threshold=1, recovery_timeout=60)
    workers[0].fail("late")
    time.sleep(0.2)
    workers[1].breaker("late", failure_threshold=1, recovery_timeout=60)
    eventually(lambda: workers[1].state("late") == "open", timeout=1.5)


def test_the_journal_says_who_and_why(fleet, make_store):
    workers = fleet(2, failure_threshold=2, recovery_timeout=60)
    workers[0].fail(times=2)
    all_are(workers, "open")
    entry = make_store().act("journal", {"limit": 1})["entries"][0]
    assert entry["reason"] == "2 failures in a row"
    assert entry["actor"].startswith("a:")
