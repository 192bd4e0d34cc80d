"""A forked child has what its parent knew, and a conversation with the store of its own."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import pytest
from state.conftest import put, sync
from support.fleet import Worker
from support.forks import in_child
from support.processes import eventually

from flask_svc_infra.resilience import (
    CircuitBreakerError,
    Outcome,
    consecutive,
    failure_rate,
    fleet_rules,
    shared,
)
from flask_svc_infra.state import orders
from flask_svc_infra.state.asking import ask
from flask_svc_infra.state.urls import open_store

pytestmark = [
    pytest.mark.usefixtures("quick_polls"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
ONE_TRIAL = {
    "failure_threshold": 1, "recovery_timeout": 0.2, "half_open_max_calls": 1, "success_threshold": 1
}  # fmt: skip


@pytest.fixture(params=["sqlite", "valkey"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    return request.getfixturevalue("valkey").url + "?socket_timeout=10&socket_connect_timeout=10"


@pytest.fixture
def begin(url, monkeypatch):
    monkeypatch.setattr(shared, "PATIENCE", 10.0)  # a busy machine is no finding
    made = []

    def make(**options):
        made.append(Worker(open_store(url)))
        made[-1].breaker(**options)
        eventually(lambda: made[-1].reporter.up)
        return made[-1], made[-1].breakers["payments"]

    yield make
    for worker in made:
        worker.reporter.stop()


def trial(breaker):
    try:
        return breaker.admit()
    except CircuitBreakerError:
        return None


def tripped(worker):
    worker.fail()
    eventually(lambda: worker.epoch() == 1)
    time.sleep(0.25)


def held_up(worker):
    """Keep the worker's reporter from its work; returns what lets it go on."""
    held, release = threading.Event(), threading.Event()
    worker.reporter.submit(lambda _store: held.set() or release.wait(30))
    assert held.wait(10)
    return release


def test_a_child_makes_no_trial_that_the_store_has_not_permitted(begin):
    worker, breaker = begin(**ONE_TRIAL)
    tripped(worker)
    permit = breaker.admit()
    assert permit.trial
    assert in_child(lambda: trial(breaker) is None and breaker.state == "half_open")
    permit.settle(Outcome.SUCCESS)
    assert breaker.state == "closed"


def test_a_child_does_not_settle_its_parents_trial(begin):
    worker, breaker = begin(**ONE_TRIAL)
    tripped(worker)
    permit = breaker.admit()

    def settle():
        permit.settle(Outcome.SUCCESS)
        ask(worker.reporter, lambda _store: None, patience=10)  # what it has said before is said by then
        return breaker.stats.stale_calls == 1

    assert in_child(settle)
    _, other = begin(**ONE_TRIAL)
    eventually(lambda: other.state == "half_open")
    assert trial(other) is None, "its place was given away"
    permit.settle(Outcome.SUCCESS)
    eventually(lambda: other.state == "closed")


def test_a_fork_while_a_caller_waits_for_a_permit(begin):
    worker, breaker = begin(**ONE_TRIAL)
    tripped(worker)
    release = held_up(worker)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(trial(breaker)))
    caller.start()
    eventually(lambda: any(isinstance(job, shared._Ask) for job in worker.reporter._jobs))

    def recover():
        permit = trial(breaker)
        of_its_own = permit.trial
        permit.settle(Outcome.SUCCESS)
        eventually(lambda: worker.epoch() == 3, timeout=5)
        return of_its_own and breaker.state == "closed"

    assert in_child(recover)
    release.set()
    caller.join(10)
    assert answers, "the caller waits still"
    assert answers[0] is None or not answers[0].trial
    eventually(lambda: breaker.state == "closed")


def test_what_was_counted_before_a_fork_is_told_by_the_parent_alone(begin, url):
    rule = consecutive(90) | failure_rate(1, last=90, minimum_calls=90)
    worker, breaker = begin(trip=rule)
    worker.succeed(times=5)
    release = held_up(worker)
    worker.fail(times=3)

    def fail():
        worker.fail(times=2)
        ask(worker.reporter, lambda _store: None, patience=10)
        eventually(lambda: not breaker._engine.shared._calls, timeout=5)
        ask(worker.reporter, lambda _store: None, patience=10)  # the report before it has been answered
        return True

    assert in_child(fail)
    release.set()
    nothing = {"name": "payments", "epoch": 0} | fleet_rules.count(fleet_rules.windows(rule), [], 0, 0)
    store = open_store(url)

    def counted():
        [tally] = sync(store, nothing)["tallies"]
        return tally["windows"][0]

    eventually(lambda: counted() == [5, 10], message=f"{counted()} are not 5 failures of 10 calls")
    time.sleep(0.5)
    assert counted() == [5, 10], "something was told again"
    store.close()


@pytest.mark.parametrize("kind", ["open", "forced open", "disabled"])
def test_a_child_begins_to_poll_when_it_first_needs_to_know(begin, kind):
    worker, breaker = begin(failure_threshold=1, recovery_timeout=60)
    if kind == "open":
        tripped(worker)
    elif kind == "forced open":
        breaker.force_open("the provider asked us to")
    else:
        breaker.disable("trust me")
    eventually(lambda: breaker._engine.shared._overruled._unsent is None)
    threads = threading.active_count()
    state = breaker.state

    def learn():
        began = threading.active_count() < threads and worker.reporter._thread is None
        permit = trial(breaker)
        if permit is not None:
            permit.settle(Outcome.FAILURE)
        kept = breaker.state == state
        eventually(lambda: breaker.state == "closed" and breaker.forced is None, timeout=5)
        return began and kept

    reset = threading.Timer(0.3, breaker.reset)
    reset.start()
    assert in_child(learn)
    reset.join()


def of_ours(store, numbers):
    """Tell whether each answer is to what was asked."""
    said = [f'{{"n": "{os.getpid()} {number}"}}' for number in numbers]
    return [put(store, "k", body)["body"] for body in said] == said


def test_answers_never_cross(begin):
    worker, _ = begin()
    crossed, done = [], threading.Event()

    def hammer():
        while not done.is_set():
            if not ask(worker.reporter, lambda store: of_ours(store, range(20)), patience=30):
                crossed.append(1)

    def child():
        return ask(worker.reporter, lambda store: of_ours(store, range(3)), patience=30)

    parent = threading.Thread(target=hammer)
    parent.start()
    answers = [in_child(child) for _ in range(25)]
    done.set()
    parent.join(30)
    assert all(answers)
    assert not crossed
    assert worker.reporter.up


def fail_once(_number):
    worker = fail_once.worker
    worker.fail()
    return eventually(lambda: worker.state() == "open" and worker.state(), timeout=5)


def test_a_pool_of_processes_is_a_fleet(begin):
    worker, _ = begin(failure_threshold=4, recovery_timeout=60)
    worker.fail()
    fail_once.worker = worker
    with multiprocessing.get_context("fork").Pool(3) as pool:
        states = pool.map(fail_once, range(3), chunksize=1)
    assert states == ["open"] * 3
    eventually(lambda: worker.state() == "open")


PRELOADED = """
    import os
    from contextlib import suppress
    from flask import Flask
    from flask_svc_infra import SvcInfra
    from support.forks import in_child
    from support.processes import eventually

    app = Flask(__name__)
    app.config.from_prefixed_env()
    infra = SvcInfra(app)
    payments = infra.breaker("payments", failure_threshold=2, recovery_timeout=60)
    for _ in range(2):
        with suppress(OSError), payments:
            raise OSError

    @app.get("/state")
    def state():
        return {"pid": os.getpid(), "state": payments.state}

    @app.get("/forked")
    def forked():
        reporter = app.extensions["svc_infra"].parts["state.reporter"]

        def child():
            begins_anew = not reporter.up
            with suppress(Exception), payments:
                return False
            eventually(lambda: reporter.up, timeout=5)
            return begins_anew and payments.state == "open"

        return {"well": in_child(child)}
"""


@pytest.mark.parametrize("worker_class", ["sync", "gevent"])
def test_workers_know_what_the_master_has_seen(gunicorn, url, worker_class):
    server = gunicorn(
        source=PRELOADED,
        workers=2,
        worker_class=worker_class,
        preload=True,
        env={"FLASK_SVC_INFRA_STATE_URL": url, "FLASK_SVC_INFRA_NAMESPACE": "shop"},
    )
    server.wait_ready("/state")

    def states():
        replies = [server.get("/state") for _ in range(20)]
        return {reply.json()["pid"]: reply.json()["state"] for reply in replies if reply.status == 200}

    assert set(states().values()) == {"open"}
    if worker_class == "sync":
        assert server.get("/forked").json() == {"well": True}
    store = open_store(url, namespace="shop")
    trips = [entry for entry in store.act("journal", {"limit": 9})["entries"] if entry["kind"] == "circuit"]
    assert [(trip["what"], trip["actor"].rpartition(":")[2]) for trip in trips] == [
        ("closed -> open", str(server.master_pid))
    ]
    orders.switch(store, "full", reason=None, actor="cli")
    began = time.monotonic()
    eventually(lambda: not states(), timeout=5)
    assert time.monotonic() - began < 2.5
    store.close()


def test_an_order_on_its_way_is_not_told_by_each_child_that_knows_it(begin, url):
    worker, breaker = begin()
    release = held_up(worker)
    breaker.force_open("the provider asked us to")

    def learn():
        worker.reporter.start()
        eventually(lambda: worker.reporter.up, timeout=5)
        time.sleep(0.3)
        return breaker.forced is not None

    assert [in_child(learn) for _ in range(3)] == [True] * 3
    release.set()
    store = open_store(url)
    try:
        eventually(lambda: worker.breakers._shared._circuits["payments"]._overruled._unsent is None)
        told = [(entry.what, entry.reason) for entry in orders.journal(store, 20)]
    finally:
        store.close()
    # By a child, and again by the parent if its own is not a millisecond older.
    assert set(told) == {("forced open", "the provider asked us to")}
    assert len(told) <= 2
    assert breaker.forced is not None
