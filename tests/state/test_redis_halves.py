"""Networks in halves, two primaries at once: all agree afterwards, and no state that was left is back."""

from __future__ import annotations

import time

import pytest
from state.conftest import sync
from support.fleet import Worker
from support.processes import eventually

from flask_svc_infra.resilience import Outcome
from flask_svc_infra.state.urls import open_store

pytestmark = pytest.mark.needs("redis")
WITHIN = 2.5
"""Seconds: a poll to find the store, one to hear what the others put there, and what a busy machine takes."""


@pytest.fixture
def halves(valkey):
    """Two workers here, two there, the proxy on the latter's way to the store, that on the former's."""
    near, far = valkey.proxy(), valkey.proxy()
    workers = [Worker(open_store(proxy.url)) for proxy in (near, near, far, far)]
    for worker in workers:
        worker.breaker("payments", failure_threshold=2, recovery_timeout=60, success_threshold=1)
        worker.breaker("quick", failure_threshold=2, recovery_timeout=0.1, success_threshold=1)
    eventually(lambda: all(worker.reporter.up for worker in workers), timeout=3)
    yield workers[:2], workers[2:], far, near
    for worker in workers:
        worker.reporter.stop()


def cut(proxy, there):
    proxy.hang()
    eventually(lambda: not any(worker.reporter.up for worker in there), timeout=3)


def heal(proxy):
    proxy.heal()
    proxy.cut()


def seen(worker, name):
    breaker = worker.breakers[name]
    forced = breaker.forced
    return (str(breaker.state), forced and (forced.kind, forced.reason), worker.epoch(name))


def agreed(workers, url, timeout=WITHIN):
    """Wait until all know the same of each circuit, the store included; return their states."""
    store = open_store(url + "?socket_timeout=5")

    def one():
        records = sync(store, seen=-1)["records"]
        for name in ("payments", "quick"):
            known = {seen(worker, name) for worker in workers}
            assert len(known) == 1, (name, known)
            ((_, _, epoch),) = known
            assert epoch == records.get(name, {"epoch": 0})["epoch"], (name, known, records.get(name))
        return {name: seen(workers[0], name)[:2] for name in ("payments", "quick")}

    try:
        return eventually(one, timeout=timeout)
    finally:
        store.close()


def recover(worker, name="quick"):
    def closed():
        try:
            worker.breakers[name].admit().settle(Outcome.SUCCESS)
        except Exception as refusal:
            raise AssertionError(str(refusal)) from refusal
        return worker.state(name) == "closed"

    eventually(closed, timeout=3)


def test_what_one_half_found_is_so_for_both(halves, valkey):
    here, there, proxy, _ = halves
    cut(proxy, there)
    here[0].fail(times=2)
    eventually(lambda: here[1].state() == "open", timeout=2)
    there[0].fail("quick", times=2)
    assert [worker.state() for worker in there] == ["closed", "closed"]
    assert there[1].state("quick") == "closed", "who is alone decides alone"
    heal(proxy)
    states = agreed(here + there, valkey.url)
    assert states["payments"] == ("open", None)


def test_a_circuit_that_both_halves_opened_and_closed_is_closed(halves, valkey):
    here, there, proxy, _ = halves
    here[0].fail("quick", times=2)
    eventually(lambda: {w.state("quick") for w in here + there} == {"open"}, timeout=3)
    cut(proxy, there)
    time.sleep(0.1)
    recover(here[0])
    for worker in there:
        recover(worker)
        worker.fail("quick", times=2)  # and once more each
        time.sleep(0.15)
        recover(worker)
    heal(proxy)
    states = agreed(here + there, valkey.url)
    assert states["quick"] == ("closed", None)


@pytest.mark.parametrize("last", ["here", "there"])
def test_the_last_order_holds_on_whichever_side_it_was_given(halves, valkey, last):
    here, there, proxy, _ = halves
    cut(proxy, there)
    orders = [
        lambda: here[0].breakers["payments"].disable("given here"),
        lambda: there[0].breakers["payments"].force_open("given there"),
    ]
    for order in orders if last == "there" else reversed(orders):
        order()
        time.sleep(0.1)
    heal(proxy)
    states = agreed(here + there, valkey.url)
    if last == "there":
        assert states["payments"] == ("open", ("open", "given there"))
    else:
        assert states["payments"] == ("closed", ("disabled", "given here"))


def test_a_reset_in_one_half_is_not_undone_by_the_other(halves, valkey):
    here, there, proxy, _ = halves
    here[0].fail(times=2)
    eventually(lambda: {w.state() for w in here + there} == {"open"}, timeout=3)
    cut(proxy, there)
    here[0].breakers["payments"].reset("repaired")
    eventually(lambda: here[1].state() == "closed", timeout=2)
    assert {w.state() for w in there} == {"open"}
    heal(proxy)
    assert agreed(here + there, valkey.url)["payments"] == ("closed", None)


def test_two_primaries_at_once_end_as_one(halves, valkey, private_valkey):
    """One half writes to the old primary while the other writes to the new; then all come to the new one."""
    here, there, proxy, near = halves
    here[0].fail(times=2)
    eventually(lambda: {w.state() for w in here + there} == {"open"}, timeout=3)
    new = (private_valkey.host, private_valkey.port)
    proxy.target = new  # this half has failed over, to a copy that is empty
    proxy.cut()
    time.sleep(0.3)
    eventually(lambda: all(worker.reporter.up for worker in there), timeout=3)
    here[0].breakers["quick"].force_open("by the old one")
    here[1].breakers["payments"].reset("by the old one")
    eventually(lambda: here[0].state() == "closed", timeout=3)
    assert {w.state() for w in there} == {"open"}
    there[0].breakers["quick"].disable("by the new one")
    eventually(lambda: there[1].breakers["quick"].forced is not None, timeout=3)
    near.target = new  # the old one has become its replica
    near.cut()
    states = agreed(here + there, private_valkey.url)
    assert states == {"payments": ("closed", None), "quick": ("closed", ("disabled", "by the new one"))}
