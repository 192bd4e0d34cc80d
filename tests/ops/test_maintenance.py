"""Maintenance as such: orders, windows, what holds of them, and who is told."""

from __future__ import annotations

import gc
import os
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clock import FakeClock

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.events import maintenance_changed
from flask_svc_infra.ops.maintenance import Maintenance
from flask_svc_infra.ops.watch import Watch

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Service:
    """A maintenance, its clocks, an environment's flag, and one app's watch."""

    def __init__(self):
        self.clock = FakeClock()
        self.wall = FakeClock(NOON.timestamp())
        self.maintenance = Maintenance(clock=self.clock, wall_clock=self.wall)
        self.flag = False
        self.watch = Watch(self.maintenance, flag=lambda: self.flag, variable="MAINTENANCE_MODE")

    def mode(self):
        return str(self.watch.mode)


@pytest.fixture
def service():
    return Service()


def told(changes):
    return [(change.mode, change.actor, change.reason) for change in changes]


def test_it_is_off_until_somebody_says_otherwise(service, changes):
    assert service.mode() == "off"
    assert service.maintenance.status().to_dict() == {
        "mode": "off",
        "reason": None,
        "actor": None,
        "remaining": None,
        "scheduled": [],
    }
    assert changes == []


def test_its_repr_tells_what_is_ordered_and_not_why(service, changes):
    assert repr(service.maintenance) == "<Maintenance not ordered>"
    service.maintenance.schedule(NOON + timedelta(hours=1), ends=NOON + timedelta(hours=2))
    assert repr(service.maintenance) == "<Maintenance not ordered, windows to come: 1>"
    service.maintenance.enable(reason="the password was hunter2", duration=60, actor="ann")
    assert repr(service.maintenance) == "<Maintenance read-only by 'ann', windows to come: 1>"
    service.clock.advance(60)
    service.wall.advance(3600)
    assert repr(service.maintenance) == "<Maintenance read-only by 'schedule'>"
    assert [change.actor for change in changes] == ["ann"]  # to look tells nobody


def test_who_and_why_are_told_at_once(service, changes):
    service.maintenance.enable(mode="full", reason="new disks", actor="ann")
    assert told(changes) == [("full", "ann", "new disks")]
    service.maintenance.disable(reason="done", actor="bob")
    assert told(changes)[1:] == [("off", "bob", "done")]


def test_a_later_order_replaces_the_former(service, changes):
    service.maintenance.enable(mode="full", duration=10)
    service.maintenance.enable(mode="read-only")
    service.clock.advance(1000)
    assert service.mode() == "read-only"
    assert [change.mode for change in changes] == ["full", "read-only"]


def test_an_order_with_a_duration_ends_by_itself_and_whoever_looks_next_tells(service, changes):
    service.maintenance.enable(duration=60, reason="migration")
    service.clock.advance(59.999)
    assert service.mode() == "read-only"
    service.clock.advance(0.001)
    assert len(changes) == 1
    assert service.mode() == "off"
    assert told(changes)[1:] == [("off", "api", "the window ended")]
    assert service.mode() == "off"
    assert len(changes) == 2


def test_a_duration_is_not_moved_by_the_wall_clock(service):
    service.maintenance.enable(duration=60)
    service.wall.advance(86_400)
    assert service.mode() == "read-only"


def test_status_says_how_long_it_lasts(service):
    service.maintenance.enable(mode="full", duration=60, reason="x")
    service.clock.advance(20)
    status = service.maintenance.status()
    assert (status.mode, status.reason, status.actor, status.remaining) == ("full", "x", "api", 40.0)


def test_a_scheduled_window_holds_from_its_start_to_its_end(service, changes):
    window = service.maintenance.schedule(
        NOON + timedelta(hours=1), ends=NOON + timedelta(hours=2), mode="full", reason="disks"
    )
    assert service.mode() == "off"
    assert service.maintenance.status().scheduled == (window,)
    service.wall.advance(3599.9)
    assert service.mode() == "off"
    service.wall.advance(0.1)
    assert service.mode() == "full"
    assert service.maintenance.status().scheduled == ()
    service.wall.advance(3599.9)
    assert service.mode() == "full"
    service.wall.advance(0.1)
    assert service.mode() == "off"
    assert told(changes) == [("full", "schedule", "disks"), ("off", "schedule", "the window ended")]


def test_a_window_nobody_looked_at_while_it_held_is_never_told_of(service, changes):
    service.maintenance.schedule(NOON + timedelta(hours=1), ends=NOON + timedelta(hours=2))
    service.wall.advance(3 * 3600)
    assert service.mode() == "off"
    assert changes == []


def test_a_window_that_was_seen_to_end_does_not_come_back_when_the_wall_clock_is_set_back():
    now = [NOON.timestamp()]
    maintenance = Maintenance(wall_clock=lambda: now[0])
    maintenance.schedule(NOON + timedelta(hours=1), ends=NOON + timedelta(hours=2))
    for hours, mode in ((1.5, "read-only"), (2.5, "off"), (1.5, "off")):
        now[0] = NOON.timestamp() + hours * 3600
        assert maintenance.status().mode == mode


def test_windows_may_touch(service, changes):
    for hour, mode in enumerate(["read-only", "full"], start=1):
        service.maintenance.schedule(
            NOON + timedelta(hours=hour), ends=NOON + timedelta(hours=hour + 1), mode=mode
        )
    seen = []
    for _ in range(4):
        seen.append(service.mode())
        service.wall.advance(3600)
    assert seen == ["off", "read-only", "full", "off"]
    assert [change.mode for change in changes] == ["read-only", "full", "off"]


def test_a_time_zone_is_heeded(service):
    tokyo = datetime.fromisoformat("2026-11-22T22:00:00+09:00")
    service.maintenance.schedule(tokyo, ends=tokyo + timedelta(minutes=1))
    service.wall.advance(3600)
    assert service.mode() == "read-only"


def test_a_cancelled_window_never_begins_and_one_in_force_ends(service, changes):
    coming = service.maintenance.schedule(NOON + timedelta(hours=1), ends=NOON + timedelta(hours=2))
    begun = service.maintenance.schedule(NOON - timedelta(hours=1), ends=NOON + timedelta(hours=1))
    assert service.mode() == "read-only"
    service.maintenance.cancel(begun, reason="early", actor="ann")
    service.maintenance.cancel(coming)
    service.maintenance.cancel(coming)
    assert service.mode() == "off"
    service.wall.advance(3600)
    assert service.mode() == "off"
    assert told(changes) == [("read-only", "schedule", None), ("off", "ann", "early")]


def test_disable_lifts_what_holds_and_leaves_what_is_to_come(service):
    service.maintenance.schedule(NOON - timedelta(hours=1), ends=NOON + timedelta(hours=1))
    service.maintenance.schedule(NOON + timedelta(hours=2), ends=NOON + timedelta(hours=3), mode="full")
    service.maintenance.enable()
    service.maintenance.disable()
    assert service.mode() == "off"
    service.wall.advance(2 * 3600)
    assert service.mode() == "full"


def test_the_strictest_of_what_holds_counts(service):
    service.flag = True
    assert service.mode() == "read-only"
    service.maintenance.schedule(NOON, ends=NOON + timedelta(hours=1), mode="full")
    assert service.mode() == "full"
    service.maintenance.enable(mode="read-only")
    assert service.mode() == "full"


def test_the_flag_is_noticed_at_the_next_look_and_disable_does_not_lift_it(service, changes):
    service.flag = True
    assert changes == []
    assert service.mode() == "read-only"
    service.maintenance.disable()
    assert service.maintenance.status().mode == "read-only"
    assert service.maintenance.status().actor == "env"
    service.flag = False
    assert service.mode() == "off"
    assert told(changes) == [
        ("read-only", "env", "MAINTENANCE_MODE is on"),
        ("off", "env", "MAINTENANCE_MODE is off"),
    ]


def test_an_order_beside_the_flag_is_the_one_told_of(service, changes):
    service.flag = True
    service.maintenance.enable(reason="migration")
    assert told(changes) == [("read-only", "api", "migration")]


def test_every_change_is_one_line_in_the_log(service, caplog):
    service.maintenance.enable(mode="full", reason="disks", actor="ann")
    service.maintenance.disable()
    assert [record.getMessage() for record in caplog.records] == [
        "maintenance is now 'full' (by ann: disks)",
        "maintenance is now 'off' (by api: no reason given)",
    ]


def test_the_sender_is_the_watch_of_the_app(service):
    heard = []

    def listen(sender, event):
        heard.append(event.mode)

    other = Service()
    maintenance_changed.connect(listen, sender=service.watch)
    other.maintenance.enable()
    service.maintenance.enable()
    assert heard == ["read-only"]


def test_a_listener_that_raises_harms_nobody(service, changes):
    def bad(sender, event):
        raise ValueError("mine")

    maintenance_changed.connect(bad)
    try:
        service.maintenance.enable()
    finally:
        maintenance_changed.disconnect(bad)
    assert service.mode() == "read-only"
    assert len(changes) == 1


def test_a_listener_may_use_maintenance_itself(service, changes):
    def again(sender, event):
        if event.mode == "read-only":
            service.maintenance.enable(mode="full")

    maintenance_changed.connect(again)
    service.maintenance.enable()
    maintenance_changed.disconnect(again)
    assert service.mode() == "full"


def test_a_change_that_many_threads_notice_is_told_once(service, changes):
    barrier = Barrier(8)
    service.maintenance.enable(duration=60)
    service.clock.advance(60)

    def look():
        barrier.wait()
        service.mode()

    threads = [Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [change.mode for change in changes] == ["read-only", "off"]


def test_an_app_that_is_gone_is_not_kept(service):
    other = Watch(service.maintenance, flag=lambda: True, variable="OTHER")
    assert service.maintenance.status().mode == "read-only"
    del other
    gc.collect()
    assert service.maintenance.status().mode == "off"


def test_a_child_forked_while_another_thread_holds_the_lock_goes_on(service):
    from flask_svc_infra.ops import maintenance as module

    with module._lock:
        pid = os.fork()
        if pid == 0:
            service.maintenance.enable()
            os._exit(0 if service.mode() == "read-only" else 1)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.enable(mode="off"), "'off' does not exist.*disable"),
        (lambda m: m.enable(mode="ful"), "'ful' does not exist.*'read-only' or 'full'"),
        (lambda m: m.enable(duration=0), "0 seconds cannot be"),
        (lambda m: m.enable(duration=-1), "-1 seconds cannot be"),
        (lambda m: m.enable(duration=float("nan")), "nan seconds cannot be"),
        (lambda m: m.enable(duration=True), "True seconds cannot be"),
        (lambda m: m.enable(duration="60"), "'60' seconds cannot be"),
        (lambda m: m.enable(retry_after=0), "Retry-After cannot be 0"),
        (lambda m: m.enable(retry_after="soon"), "Retry-After cannot be 'soon'"),
        (lambda m: m.schedule(datetime(2026, 1, 1), ends=NOON), "has no time zone"),
        (lambda m: m.schedule(NOON, ends=NOON), "would never hold"),
        (lambda m: m.schedule(NOON - timedelta(2), ends=NOON - timedelta(1)), "would never hold"),
        (lambda m: m.schedule(NOON, ends=NOON + timedelta(1), mode="no"), "'no' does not exist"),
    ],
)
def test_bad_input_is_refused_with_the_cure_and_changes_nothing(service, changes, call, says):
    service.maintenance.enable(mode="full")
    with pytest.raises(ConfigurationError, match=says):
        call(service.maintenance)
    assert service.mode() == "full"
    assert service.maintenance.status().scheduled == ()
    assert len(changes) == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enable"), st.sampled_from(["read-only", "full"]), st.none() | st.integers(1, 50)),
        st.tuples(st.just("disable")),
        st.tuples(
            st.just("schedule"),
            st.integers(-20, 50),
            st.integers(1, 50),
            st.sampled_from(["read-only", "full"]),
        ),
        st.tuples(st.just("flag"), st.booleans()),
        st.tuples(st.just("wait"), st.integers(1, 30)),
    ),
    max_size=20,
)
STRICTNESS = ["off", "read-only", "full"]


@given(STEPS)
def test_what_holds_is_the_strictest_of_what_was_ordered_and_is_not_over(steps):
    service = Service()
    order, scheduled, now = None, [], 0
    for kind, *arguments in steps:
        match kind:
            case "enable":
                mode, duration = arguments
                service.maintenance.enable(mode=mode, duration=duration)
                order = (mode, now + duration if duration else float("inf"))
            case "disable":
                service.maintenance.disable()
                order, scheduled = None, [w for w in scheduled if w[0] > now]
            case "schedule":
                start, length, mode = now + arguments[0], arguments[1], arguments[2]
                if start + length > now:
                    service.maintenance.schedule(
                        NOON + timedelta(seconds=start),
                        ends=NOON + timedelta(seconds=start + length),
                        mode=mode,
                    )
                    scheduled.append((start, start + length, mode))
            case "flag":
                service.flag = arguments[0]
            case "wait":
                now += arguments[0]
                service.clock.advance(arguments[0])
                service.wall.advance(arguments[0])
        holding = [mode for start, end, mode in scheduled if start <= now < end]
        holding += [order[0]] if order and now < order[1] else []
        holding += ["read-only"] if service.flag else []
        assert service.mode() == max(holding, key=STRICTNESS.index, default="off")
