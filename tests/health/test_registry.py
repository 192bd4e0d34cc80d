"""What the registry says: names, verdicts, the whole, and waiting for it."""

import itertools
import logging
import time

import pytest

from flask_svc_infra import ConfigurationError, events
from flask_svc_infra.health import HealthCheckResult, HealthRegistry, HealthStatus
from flask_svc_infra.health.aggregation import worst_of

HEALTHY, DEGRADED, UNHEALTHY, UNKNOWN = (
    HealthStatus.HEALTHY,
    HealthStatus.DEGRADED,
    HealthStatus.UNHEALTHY,
    HealthStatus.UNKNOWN,
)


def saying(status):
    return lambda: status


@pytest.fixture
def registry():
    return HealthRegistry()


def test_new_registry_is_empty(registry):
    assert registry.checks == []


def test_repr_tells_the_checks_and_what_they_count_as(registry):
    assert repr(registry) == "<HealthRegistry without checks>"
    registry.add("db", saying(True))
    registry.add("cache", lambda: pytest.fail("repr ran it"))
    registry.check_one("db")
    assert repr(registry) == "<HealthRegistry 'db' healthy, 'cache' unknown>"


def test_added_check_keeps_its_options(registry):
    registry.add("cache", saying(True), critical=False, timeout=10.0)
    assert [(c.name, c.critical, c.timeout) for c in registry.checks] == [("cache", False, 10.0)]


def test_taken_name_is_refused_and_the_first_stays(registry):
    first = saying(True)
    registry.add("db", first)
    with pytest.raises(ValueError, match="already registered"):
        registry.add("db", saying(False))
    assert registry.checks[0].check_fn is first


def test_remove_tells_whether_there_was_one(registry):
    registry.add("db", saying(True))
    assert registry.remove("db") is True
    assert registry.remove("db") is False
    assert registry.checks == []


def test_clear_removes_all(registry):
    registry.add("one", saying(True))
    registry.add("two", saying(True))
    registry.clear()
    assert registry.checks == []


def test_unknown_name_is_a_key_error_that_lists_the_known_ones(registry):
    asks = (lambda: registry.check_one("nope"), lambda: registry.wait_until_healthy(check_names=["nope"]))
    for ask in asks:
        with pytest.raises(KeyError, match="health check 'nope' not found; none is registered"):
            ask()
    registry.add("db", saying(True))
    registry.add("cache", saying(True))
    for ask in asks:
        with pytest.raises(KeyError, match="health check 'nope' not found; name one of 'db', 'cache'"):
            ask()


def test_registered_name_wins_over_the_results_own(registry):
    registry.add("cache", lambda: HealthCheckResult("redis", HEALTHY, 1.0))
    assert registry.check_one("cache").name == "cache"


def test_latency_is_what_was_measured(registry):
    registry.add("slow", lambda: time.sleep(0.03) or HealthCheckResult("slow", HEALTHY, 0))
    assert 30 <= registry.check_one("slow").latency_ms < 1000


def test_result_object_of_the_check_is_left_alone(registry):
    shared = HealthCheckResult("own", DEGRADED, 1.0, "half", {"n": [1]})
    registry.add("a", lambda: shared)
    result = registry.check_one("a")
    assert (result.status, result.message, result.details) == (DEGRADED, "half", {"n": [1]})
    assert shared == HealthCheckResult("own", DEGRADED, 1.0, "half", {"n": [1]})


@pytest.mark.parametrize(
    ("returned", "status"),
    [(True, HEALTHY), (False, UNHEALTHY), *((each, each) for each in HealthStatus)],
)
def test_bool_and_status_are_results(registry, returned, status):
    registry.add("x", saying(returned))
    assert registry.check_one("x").status is status


@pytest.mark.parametrize(
    "returned", [None, (True, "fine"), "healthy", 1, {"status": "healthy"}, (n for n in ())]
)
def test_anything_else_is_unknown_and_says_what_to_return(registry, returned):
    registry.add("x", saying(returned))
    result = registry.check_one("x")
    assert result.status is UNKNOWN
    assert "return a HealthCheckResult, a HealthStatus or a bool" in result.message


def test_status_spelled_as_a_word_counts_and_another_word_is_unknown(registry):
    registry.add("good", lambda: HealthCheckResult("x", "degraded", 0))
    registry.add("bad", lambda: HealthCheckResult("x", "fine", 0))
    assert registry.check_one("good").status is DEGRADED
    assert registry.check_one("bad").status is UNKNOWN


def test_raising_means_unhealthy_with_what_was_said(registry):
    def failing():
        raise RuntimeError("Connection failed")

    registry.add("fail", failing)
    result = registry.check_one("fail")
    assert result.status is UNHEALTHY
    assert "Connection failed" in result.message


def test_no_checks_are_healthy_and_say_so(registry):
    whole = registry.check_all()
    assert (whole.status, whole.checks, whole.message) == (HEALTHY, [], "No health checks registered")


def test_results_come_in_the_order_of_registration(registry):
    for name in "cab":
        registry.add(name, saying(True))
    assert [each.name for each in registry.check_all().checks] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("critical", "status", "whole"),
    [
        (True, HEALTHY, HEALTHY),
        (True, DEGRADED, DEGRADED),
        (True, UNHEALTHY, UNHEALTHY),
        (True, UNKNOWN, UNHEALTHY),
        (False, HEALTHY, HEALTHY),
        (False, DEGRADED, DEGRADED),
        (False, UNHEALTHY, DEGRADED),
        (False, UNKNOWN, DEGRADED),
    ],
)
def test_one_check_makes_the_whole_no_better_than_the_table_says(registry, critical, status, whole):
    registry.add("good", saying(True))
    registry.add("x", saying(status), critical=critical)
    assert registry.check_all().status is whole


def test_whole_is_the_worst_of_any_two():
    order = [HEALTHY, DEGRADED, UNHEALTHY]
    verdicts = list(itertools.product([True, False], HealthStatus))
    for one, other in itertools.product(verdicts, verdicts):
        worst = max(worst_of([one]), worst_of([other]), key=order.index)
        assert worst_of([one, other]) is worst


def test_wait_returns_at_once_when_healthy(registry):
    registry.add("test", saying(True))
    assert registry.wait_until_healthy(timeout=5) is True


def test_wait_without_checks_is_over_at_once(registry):
    assert registry.wait_until_healthy(timeout=1) is True


def test_wait_gives_up_at_its_deadline(registry):
    registry.add("test", saying(False))
    began = time.monotonic()
    assert registry.wait_until_healthy(timeout=0.3, interval=0.1) is False
    assert 0.3 <= time.monotonic() - began < 0.45


def test_wait_keeps_its_deadline_with_a_check_that_hangs(registry, hanging):
    registry.add("hung", hanging)
    began = time.monotonic()
    assert registry.wait_until_healthy(timeout=0.2) is False
    assert time.monotonic() - began < 0.35
    assert hanging.started == 1


def test_wait_keeps_its_deadline_with_an_interval_beyond_it(registry):
    registry.add("test", saying(False))
    began = time.monotonic()
    assert registry.wait_until_healthy(timeout=0.1, interval=60) is False
    assert time.monotonic() - began < 0.3


def test_wait_is_over_when_the_check_comes_round(registry):
    runs = itertools.count(1)
    registry.add("test", lambda: next(runs) >= 3)
    assert registry.wait_until_healthy(timeout=5, interval=0.01) is True
    assert next(runs) == 4


def test_wait_passes_over_what_is_not_critical(registry):
    registry.add("db", saying(True))
    registry.add("cache", saying(False), critical=False)
    assert registry.wait_until_healthy(timeout=1) is True


def test_wait_lets_a_critical_degraded_check_pass_but_no_unknown_one(registry):
    registry.add("db", saying(DEGRADED))
    assert registry.wait_until_healthy(timeout=1) is True
    registry.add("new", saying(UNKNOWN))
    assert registry.wait_until_healthy(timeout=0.05, interval=0.01) is False


def test_wait_for_named_checks_asks_no_other(registry):
    registry.add("healthy", saying(True))
    registry.add("unhealthy", saying(False))
    registry.add("optional", saying(False), critical=False)
    assert registry.wait_until_healthy(timeout=1, check_names=["healthy"]) is True
    assert registry.wait_until_healthy(timeout=0.05, interval=0.01, check_names=["optional"]) is False


def test_wait_for_nothing_or_for_an_unknown_name_is_refused_at_once(registry):
    registry.add("db", saying(False))
    began = time.monotonic()
    with pytest.raises(ValueError, match="check_names is empty"):
        registry.wait_until_healthy(check_names=[])
    with pytest.raises(KeyError, match="not found"):
        registry.wait_until_healthy(check_names=["db", "nope"])
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("seconds", [{"timeout": -1}, {"interval": -0.1}, {"timeout": float("nan")}])
def test_wait_refuses_seconds_that_are_none(registry, seconds):
    with pytest.raises(ConfigurationError):
        registry.wait_until_healthy(**seconds)


def test_wait_logs_one_line_an_attempt_that_names_what_misses(registry, caplog):
    runs = itertools.count(1)
    registry.add("cache", lambda: next(runs) >= 3)
    registry.add("db", saying(True))
    caplog.set_level(logging.INFO, "flask_svc_infra.health")
    assert registry.wait_until_healthy(timeout=5, interval=0.001)
    lines = [record.getMessage() for record in caplog.records if "waiting for" in record.getMessage()]
    assert len(lines) == 2
    assert all("cache (unhealthy)" in line and "db" not in line for line in lines)


def test_each_run_is_one_event_and_each_change_one_event_and_one_line(registry, caplog):
    caplog.set_level(logging.INFO, "flask_svc_infra.health")
    seen = []

    def listener(sender, event):
        seen.append(event)

    events.check_finished.connect(listener, sender=registry)
    events.health_changed.connect(listener, sender=registry)
    said = iter([True, True, False, True])
    registry.add("db", lambda: next(said), critical=False)
    for _ in range(4):
        registry.check_one("db")
    finished = [event for event in seen if isinstance(event, events.CheckFinished)]
    changed = [event for event in seen if isinstance(event, events.HealthChanged)]
    assert [event.status for event in finished] == [HEALTHY, HEALTHY, UNHEALTHY, HEALTHY]
    assert all(event.name == "db" and not event.critical and not event.timed_out for event in finished)
    assert [(event.old, event.new) for event in changed] == [
        (UNKNOWN, HEALTHY),
        (HEALTHY, UNHEALTHY),
        (UNHEALTHY, HEALTHY),
    ]
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "WARNING"]


def test_on_change_that_raises_changes_no_verdict(caplog):
    def listener(event):
        raise LookupError("listener")

    registry = HealthRegistry(on_change=listener)
    registry.add("db", saying(True))
    assert registry.check_one("db").status is HEALTHY
    assert "on_change raised" in caplog.text


def test_snapshot_tells_what_is_known_without_running_anything(registry):
    registry.add("db", lambda: pytest.fail("it ran"))
    (known,) = registry.snapshot()
    assert (known.name, known.status, known.duration, known.age, known.stuck_for) == (
        "db",
        UNKNOWN,
        None,
        None,
        None,
    )
    registry.add("cache", saying(False), critical=False)
    registry.check_one("cache")
    known = registry.snapshot()[1]
    assert known.status is UNHEALTHY
    assert known.critical is False
    assert 0 <= known.duration < 1
    assert 0 <= known.age < 1


def test_async_check_is_run_to_its_end(registry):
    import asyncio

    async def check():
        await asyncio.sleep(0.01)
        return HealthCheckResult("own", DEGRADED, 0, "half")

    registry.add("async", check)
    result = registry.check_one("async")
    assert (result.name, result.status, result.message) == ("async", DEGRADED, "half")
    assert result.latency_ms >= 10
