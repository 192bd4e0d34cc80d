"""Processes of a fleet and what befalls them: kill -9, a store that hangs, dies, comes back empty."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest
from state.worker import Process
from support.fleet import Worker
from support.processes import eventually

from flask_svc_infra.resilience import CircuitBreaker, Outcome, failure_rate
from flask_svc_infra.state.reporter import POLL
from flask_svc_infra.state.urls import open_store

QUICK = (0.2, 0.22)
"""Seconds between two polls where it is not their pace that is looked at."""
OPTIONS = {"failure_threshold": 2, "recovery_timeout": 0.3, "half_open_max_calls": 3, "success_threshold": 3}


@pytest.fixture(params=["sqlite", "valkey"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    return request.getfixturevalue("valkey").url


@pytest.fixture
def processes():
    made = []

    def make(count, url, **options):
        new = [Process(url, **{**OPTIONS, "poll": QUICK, **options}) for _ in range(count)]
        made.extend(new)
        return new

    yield make
    for process in made:
        process.kill()


def everywhere(processes, state, timeout=3):
    eventually(lambda: all(process.ask("state") == state for process in processes), timeout=timeout)


def all_at_once(processes, *command):
    for process in processes:
        process.send(*command)
    return [process.read() for process in processes]


def test_opened_in_one_process_is_open_in_all(processes, url):
    fleet = processes(3, url, poll=POLL)
    since = fleet[0].ask("fail", 2)
    assert None not in all_at_once(fleet, "when", "open", since, 1.3)


def patient(url):
    """A store that a busy machine does not make look down: whoever takes it for that makes trials alone."""
    return f"{url}?socket_timeout=10&socket_connect_timeout=10" if url.startswith("redis") else url


def trials(fleet, pause):
    """All trials of a fleet. Who got no answer within its patience was refused, and may ask again."""
    made, until = 0, time.monotonic() + 5
    while made < 3 and time.monotonic() < until:
        made += sum(all_at_once(fleet, "attempts", 300, pause))
    return made


def test_eight_processes_make_just_as_many_trials_as_allowed(processes, url):
    fleet = processes(8, patient(url))
    for turn in range(3):
        fleet[turn].ask("fail", 2)
        everywhere(fleet, "open")
        time.sleep(0.4)
        assert trials(fleet, 0.001) == 3
        all_at_once(fleet, "settle", "SUCCESS")
        everywhere(fleet, "closed")


@pytest.mark.slow
def test_trials_are_exactly_bounded_fifty_times(processes, valkey):
    fleet = processes(8, patient(valkey.url), recovery_timeout=0.15)
    for turn in range(50):
        fleet[turn % 8].ask("fail", 2)
        everywhere(fleet, "open")
        time.sleep(0.2)
        assert trials(fleet, 0.0) == 3
        all_at_once(fleet, "settle", "SUCCESS")
        everywhere(fleet, "closed")


def test_a_killed_holder_of_all_trials_wedges_nothing(processes, url):
    holder, other = processes(2, url, success_threshold=1, lease=1.0)
    holder.ask("fail", 2)
    everywhere([holder, other], "open")
    time.sleep(0.4)
    assert holder.ask("attempts", 30, 0.001) == 3
    holder.kill()
    assert other.ask("attempts", 30, 0.001) == 0
    eventually(lambda: other.ask("attempts", 1, 0), timeout=4)
    other.ask("settle", "SUCCESS")
    everywhere([other], "closed")


def test_kill_at_any_moment_leaves_a_state_that_recovers(processes, url):
    survivor = processes(1, url, success_threshold=1, half_open_max_calls=100)[0]
    for turn in range(6):
        victim = processes(1, url, success_threshold=1, half_open_max_calls=100)[0]
        victim.send("fail", 2)
        time.sleep(0.002 * turn)
        victim.kill()
    time.sleep(0.5)

    def closed():
        survivor.ask("attempts", 1, 0)
        survivor.ask("settle", "SUCCESS")
        return survivor.ask("state") == "closed"

    eventually(closed, timeout=5)
    survivor.ask("fail", 2)
    assert survivor.ask("state") == "open"


def test_without_the_store_each_decides_for_itself_and_they_agree_afterwards(processes, valkey):
    one, other = processes(2, valkey.url, success_threshold=1)
    valkey.kill()
    eventually(lambda: not one.ask("up") and not other.ask("up"), timeout=3)
    one.ask("fail", 2)
    time.sleep(0.1)
    assert (one.ask("state"), other.ask("state")) == ("open", "closed")
    time.sleep(0.3)
    assert one.ask("attempts", 1, 0) == 1  # a trial of its own
    one.ask("settle", "FAILURE")
    valkey.start()
    everywhere([one, other], "open", timeout=4)


def test_a_store_that_comes_back_empty_neither_resurrects_nor_forgets(processes, valkey):
    one, other, third = processes(3, valkey.url, recovery_timeout=60)
    one.ask("fail", 2)
    everywhere([one, other, third], "open")
    valkey.restart()
    time.sleep(0.7)
    everywhere([one, other, third], "open")
    late = processes(1, valkey.url, recovery_timeout=60)[0]
    everywhere([late], "open", timeout=3)
    one.ask("reset")
    everywhere([one, other, third, late], "closed")
    valkey.restart()
    time.sleep(0.7)
    everywhere([one, other, third, late], "closed")


def test_a_network_cut_in_halves_heals(processes, valkey):
    proxy = valkey.proxy()
    here = processes(1, valkey.url, recovery_timeout=60)[0]
    there = processes(1, proxy.url, recovery_timeout=60)[0]
    proxy.hang()
    eventually(lambda: not there.ask("up"), timeout=3)
    here.ask("fail", 2)
    time.sleep(0.2)
    assert there.ask("state") == "closed"
    proxy.heal()
    proxy.cut()
    everywhere([here, there], "open", timeout=4)


def p99_of_calls(breaker):
    """2,000 calls, every fourth fails."""
    took = []
    for number in range(2000):
        began = time.perf_counter()
        permit = breaker.admit()
        permit.settle(Outcome.SUCCESS if number % 4 else Outcome.FAILURE)
        took.append(time.perf_counter() - began)
        time.sleep(0.0003)
    return sorted(took)[int(len(took) * 0.99)]


def test_a_stopped_store_adds_no_millisecond_to_a_protected_call(valkey):
    worker = Worker(open_store(valkey.url))
    rule = failure_rate(0.9, last=100)
    breaker = worker.breaker(trip=rule)
    eventually(lambda: worker.reporter.up)
    valkey.stop()
    # In turns and the best of three: what a busy machine takes, it takes from both.
    added = [p99_of_calls(breaker) - p99_of_calls(CircuitBreaker("alone", trip=rule)) for _ in range(3)]
    assert not worker.reporter.up
    valkey.cont()
    worker.reporter.stop()
    assert min(added) < 0.001


GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    import sys, time, gevent
    sys.path.insert(0, {tests!r})
    from support.fleet import Worker
    from support.processes import eventually
    from flask_svc_infra.state.urls import open_store
    from flask_svc_infra.resilience import Outcome

    one, other = Worker(open_store({url!r})), Worker(open_store({url!r}))
    for worker in (one, other):
        worker.breaker(failure_threshold=2, recovery_timeout=0.2, success_threshold=1)
    eventually(lambda: one.reporter.up and other.reporter.up)
    one.fail(times=2)
    eventually(lambda: other.state() == "open")
    time.sleep(0.3)

    def closed():
        try:
            other.breakers["payments"].admit().settle(Outcome.SUCCESS)
        except Exception:
            pass
        return other.state() == "closed"

    eventually(closed)
    eventually(lambda: one.state() == "closed")
    print("agreed")
"""


@pytest.mark.needs("gevent")
def test_greenlets(url):
    from support.gunicorn_runner import TESTS

    source = textwrap.dedent(GEVENT).format(tests=str(TESTS), url=url)
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "agreed\n", done.stderr
