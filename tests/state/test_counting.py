"""Failures count across the fleet: eight processes, and the store's own sums."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress

import pytest
from state.conftest import sync
from state.worker import Process
from support.fleet import Worker
from support.processes import eventually

from flask_svc_infra.resilience import CircuitBreakerError, Outcome, fleet_rules, rules
from flask_svc_infra.state.urls import open_store

BOUND = 1.1 + 0.4
"""Seconds until a success has been told, and some for a busy machine."""


@pytest.fixture
def fleet(valkey):
    """Eight processes, told all at once; and the store's sums for their rule."""
    made = []

    def make(trip):
        url = f"{valkey.url}?socket_timeout=10&socket_connect_timeout=10"
        made.extend(Process(url, trip=trip, recovery_timeout=60) for _ in range(8))
        store = open_store(url)
        rule = eval(trip, vars(rules))
        nothing = {"name": "payments", "epoch": 0} | fleet_rules.count(fleet_rules.windows(rule), [], 0, 0)

        def tally():
            [found] = sync(store, nothing)["tallies"]
            return found["run"], found["windows"]

        return made, tally

    yield make
    for process in made:
        process.kill()


def everywhere(processes, *command):
    for process in processes:
        process.send(*command)
    return [process.read() for process in processes]


def states(processes):
    return set(everywhere(processes, "state"))


def test_a_row_of_failures_is_the_fleets(fleet):
    processes, tally = fleet("consecutive(16)")
    everywhere(processes, "fail", 1)
    eventually(lambda: tally()[0] == 8)
    everywhere(processes[:7], "fail", 1)
    eventually(lambda: tally()[0] == 15)
    assert states(processes) == {"closed"}
    processes[3].ask("succeed", 1)
    eventually(lambda: tally()[0] == 0, timeout=BOUND)
    processes[3].ask("fail", 2)
    eventually(lambda: tally()[0] == 2)
    everywhere(processes[4:], "fail", 3)
    eventually(lambda: tally()[0] == 14)
    assert states(processes) == {"closed"}
    began = time.monotonic()
    everywhere(processes[:2], "fail", 1)
    eventually(lambda: states(processes) == {"open"}, timeout=3)
    assert time.monotonic() - began < BOUND


def test_each_call_is_counted_once_and_enough_of_them_trip(fleet):
    processes, tally = fleet(
        "failure_rate(0.5, last=6000, minimum_calls=800) & failure_rate(0.5, seconds=60, minimum_calls=800) "
        "& consecutive(2) | slow_rate(0.9, slower_than=9, last=100)"
    )

    def counted(hits, calls):
        _, [last, lately, slow] = tally()
        return last == lately == [hits, calls] and slow[0] == 0

    for process in processes:
        process.send("mixed", 50, 40)
    assert [process.read() for process in processes] == [True] * 8
    eventually(lambda: counted(320, 720), timeout=BOUND, message=f"{tally()} are not 320 of 720")
    everywhere(processes[:1], "fail", 79)
    eventually(lambda: counted(399, 799))
    assert states(processes) == {"closed"}
    processes[7].ask("fail", 1)  # 400 of 800: minimum_calls, and the half of them
    eventually(lambda: states(processes) == {"open"}, timeout=BOUND)


def test_calls_after_a_close_count_from_its_first_moment(valkey):
    rule = rules.failure_rate(0.5, last=100, minimum_calls=50)
    fleet = one, other = [Worker(open_store(valkey.url)) for _ in range(2)]
    for worker in fleet:
        worker.breaker(trip=rule, recovery_timeout=60)
    eventually(lambda: all(worker.reporter.up and worker.reporter._belled for worker in fleet))
    one.fail(times=50)
    eventually(lambda: other.state() == "open")
    one.breakers["payments"].reset()
    eventually(lambda: other.state() == "closed", interval=0.001)
    other.succeed(times=30)
    other.fail()
    store = open_store(valkey.url)
    nothing = {"name": "payments", "epoch": 2} | fleet_rules.count((rule,), [], 0, 0)
    eventually(lambda: sync(store, nothing)["tallies"][0]["windows"] == [[1, 31]], timeout=BOUND)
    for worker in fleet:
        worker.reporter.stop()
    store.close()


def test_sixteen_threads_and_four_people_at_every_switch(valkey, monkeypatch):
    """Trials are bounded, no call is lost from the statistics, and in the end all agree."""
    url = f"{valkey.url}?socket_timeout=10&socket_connect_timeout=10"
    fleet = [Worker(open_store(url)) for _ in range(2)]
    for worker in fleet:
        worker.breaker(failure_threshold=3, recovery_timeout=0.02, half_open_max_calls=2, success_threshold=2)
    eventually(lambda: all(worker.reporter.up for worker in fleet))
    lock, over = threading.Lock(), threading.Event()
    in_flight: dict[object, int] = {}
    most, tried = [0], [0]
    made = {id(worker): 0 for worker in fleet}

    def call(worker, number):
        breaker, attempts = worker.breakers["payments"], 0
        while not over.is_set():
            attempts += 1
            with suppress(CircuitBreakerError):
                permit = breaker.admit()
                epoch = getattr(getattr(permit._pass, "grant", None), "epoch", None)
                if epoch is not None:
                    with lock:
                        in_flight[epoch] = in_flight.get(epoch, 0) + 1
                        most[0] = max(most[0], in_flight[epoch])
                        tried[0] += 1
                    time.sleep(0.0005)
                    with lock:
                        in_flight[epoch] -= 1
                permit.settle(Outcome.FAILURE if (attempts + number) % 5 < 2 else Outcome.SUCCESS)
            time.sleep(0.0002)
        with lock:
            made[id(worker)] += attempts

    def order(number):
        breaker = fleet[number % 2].breakers["payments"]
        while not over.is_set():
            breaker.force_open("why not")
            breaker.reset("enough")
            if number == 3:
                breaker.disable("trust me")
                breaker.reset("do not")
            over.wait(0.15)

    threads = [threading.Thread(target=call, args=(fleet[n % 2], n)) for n in range(16)]
    threads += [threading.Thread(target=order, args=(n,)) for n in range(4)]
    was = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        time.sleep(1.5)
        over.set()
        for thread in threads:
            thread.join(20)
    finally:
        sys.setswitchinterval(was)
    assert not any(thread.is_alive() for thread in threads), "a deadlock"
    assert tried[0] > 0
    assert most[0] <= 2
    for worker in fleet:
        assert worker.breakers["payments"].stats.total_calls == made[id(worker)]

    def agreed():
        seen = {(w.state(), w.epoch(), w.breakers["payments"].forced) for w in fleet}
        return len(seen) == 1

    eventually(agreed, timeout=4)
    for worker in fleet:
        worker.reporter.stop()
