"""Maintenance is one switch for all workers."""

from __future__ import annotations

import time

import pytest
from state.conftest import put
from support.processes import eventually

from flask_svc_infra.ops import Maintenance
from flask_svc_infra.ops.shared import SharedMaintenance
from flask_svc_infra.state.reporter import Reporter

pytestmark = pytest.mark.usefixtures("quick_polls")


@pytest.fixture
def switches(make_store):
    """Two processes' switches and their reporters."""
    made = []
    for _ in range(2):
        maintenance, reporter = Maintenance(), Reporter(make_store())
        SharedMaintenance(maintenance, reporter)
        reporter.start()
        made.append((maintenance, reporter))
    eventually(lambda: all(reporter.up for _, reporter in made))
    yield [maintenance for maintenance, _ in made]
    for _, reporter in made:
        reporter.stop()


def test_switched_on_anywhere_is_on_everywhere(switches):
    here, there = switches
    here.enable(mode="full", reason="we move the database", retry_after=7, actor="ann")
    eventually(lambda: there.status().mode == "full", timeout=1.5)
    window = there.current()
    assert (window.reason, window.actor, window.wait(60)) == ("we move the database", "ann", 7)
    there.disable(reason="done", actor="bob")
    eventually(lambda: here.status().mode == "off", timeout=1.5)
    assert here.lifted == ("bob", "done")


def test_a_duration_ends_everywhere(switches):
    here, there = switches
    here.enable(duration=0.9)
    eventually(lambda: there.status().mode == "read-only", timeout=1.5)
    assert there.status().remaining <= 0.9
    eventually(lambda: there.status().mode == "off", timeout=2)
    assert here.status().mode == "off"


def test_the_last_order_holds(switches):
    here, there = switches
    here.enable(mode="full")
    eventually(lambda: there.status().mode == "full", timeout=1.5)
    there.enable(mode="read-only")
    eventually(lambda: here.status().mode == "read-only", timeout=1.5)


@pytest.mark.parametrize(
    "body", ["x", "[]", "{}", '{"mode":"nuclear"}', '{"mode":5}', '{"mode":"full","retry_after":"x"}']
)
def test_a_hostile_order_is_ignored(switches, make_store, body):
    put(make_store(), body=body)
    time.sleep(0.4)
    assert [switch.status().mode for switch in switches] == ["off", "off"]


def test_an_order_given_while_the_store_is_down_is_put_there_later(valkey):
    from flask_svc_infra.state.urls import open_store

    made = []
    for _ in range(2):
        maintenance, reporter = Maintenance(), Reporter(open_store(valkey.url))
        SharedMaintenance(maintenance, reporter)
        reporter.start()
        made.append((maintenance, reporter))
    (here, ours), (there, theirs) = made
    eventually(lambda: ours.up and theirs.up)
    valkey.kill()
    eventually(lambda: not ours.up, timeout=3)
    here.enable(mode="full", reason="fire")
    assert here.status().mode == "full"
    valkey.start()
    eventually(lambda: there.status().mode == "full", timeout=5)
    valkey.restart()  # empty: what was ordered is put back
    time.sleep(0.8)
    late, reporter = Maintenance(), Reporter(open_store(valkey.url))
    SharedMaintenance(late, reporter)
    reporter.start()
    eventually(lambda: late.status().mode == "full", timeout=3)
    for each in (ours, theirs, reporter):
        each.stop()


def test_a_mode_that_is_not_known_is_ignored_with_a_line(switches, make_store, caplog):
    here, there = switches
    here.enable(mode="full")
    eventually(lambda: there.status().mode == "full", timeout=1.5)
    put(make_store(), body='{"mode":"siesta","reason":null,"retry_after":"soon"}')
    eventually(lambda: caplog.text.count("maintenance is ordered in a way") == 2, timeout=1.5)
    assert [switch.status().mode for switch in switches] == ["full", "full"]
