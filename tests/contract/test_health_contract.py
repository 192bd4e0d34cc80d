"""HealthStatus, results, the registry and its aggregate: what the documentation promises, made sync."""

from __future__ import annotations

import json
import threading
import time

import pytest
from contract._parts import (
    DEGRADED,
    HEALTHY,
    UNHEALTHY,
    UNKNOWN,
    answers,
    eventually,
    faster_than,
    registry_of,
    run_python,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_svc_infra.health import (
    AggregatedHealthResult,
    HealthCheck,
    HealthCheckResult,
    HealthRegistry,
    HealthStatus,
)

# --- results ------------------------------------------------------------------------------------------------


def test_result_without_message_and_details_has_none_of_them():
    result = HealthCheckResult(name="db", status=HEALTHY, latency_ms=5.5)
    assert (result.name, result.status, result.latency_ms) == ("db", HEALTHY, 5.5)
    assert result.message is None
    assert result.details is None


def test_result_to_dict_leaves_out_what_is_not_there():
    assert HealthCheckResult(name="db", status=HEALTHY, latency_ms=2.5).to_dict() == {
        "name": "db",
        "status": "healthy",
        "latency_ms": 2.5,
    }


def test_result_to_dict_carries_message_and_details():
    result = HealthCheckResult("db", UNHEALTHY, 100.0, message="Error", details={"code": 500})
    assert result.to_dict() == {
        "name": "db",
        "status": "unhealthy",
        "latency_ms": 100.0,
        "message": "Error",
        "details": {"code": 500},
    }


def test_result_to_dict_rounds_latency_to_hundredths():
    assert HealthCheckResult("db", HEALTHY, 5.5551).to_dict()["latency_ms"] == 5.56


def test_aggregate_to_dict_is_status_and_checks():
    assert AggregatedHealthResult(status=HEALTHY, checks=[]).to_dict() == {"status": "healthy", "checks": []}


def test_aggregate_to_dict_carries_checks_and_message():
    aggregate = AggregatedHealthResult(
        status=DEGRADED,
        checks=[HealthCheckResult("db", HEALTHY, 5.0), HealthCheckResult("cache", UNHEALTHY, 100.0)],
        message="cache is down",
    )
    body = aggregate.to_dict()
    assert body["status"] == "degraded"
    assert [check["name"] for check in body["checks"]] == ["db", "cache"]
    assert body["message"] == "cache is down"


def test_every_to_dict_is_plain_json():
    aggregate = AggregatedHealthResult(status=UNKNOWN, checks=[HealthCheckResult("db", DEGRADED, 1.0)])
    body = json.loads(json.dumps(aggregate.to_dict()))
    assert body["status"] == "unknown"
    assert body["checks"][0]["status"] == "degraded"


def test_status_prints_and_compares_as_its_text():
    assert f"{HEALTHY}" == "healthy"
    assert HealthStatus("degraded") is DEGRADED


def test_health_check_keeps_what_it_is_given():
    def fn():
        return True

    check = HealthCheck(name="cache", check_fn=fn, critical=False, timeout=10.0)
    assert (check.name, check.critical, check.timeout) == ("cache", False, 10.0)
    assert check.check_fn is fn


# --- the registry -------------------------------------------------------------------------------------------


def test_registry_starts_empty():
    assert list(HealthRegistry().checks) == []


def test_added_check_is_listed_with_its_options():
    registry = HealthRegistry()
    registry.add("db", answers(HEALTHY))
    registry.add("cache", answers(HEALTHY), critical=False, timeout=10.0)
    assert [(c.name, c.critical, c.timeout) for c in registry.checks] == [
        ("db", True, 5.0),
        ("cache", False, 10.0),
    ]


def test_changing_the_listed_checks_does_not_change_the_registry():
    registry = registry_of(db=HEALTHY)
    listed = registry.checks
    if isinstance(listed, list):
        listed.clear()
    assert len(registry.checks) == 1


def test_second_check_of_one_name_is_refused_and_the_first_stays():
    registry = HealthRegistry()
    registry.add("db", answers(HEALTHY))
    with pytest.raises(ValueError, match="already registered"):
        registry.add("db", answers(UNHEALTHY))
    assert registry.check_one("db").status is HEALTHY


def test_remove_tells_whether_there_was_anything_to_remove():
    registry = registry_of(db=HEALTHY)
    assert registry.remove("db") is True
    assert registry.remove("db") is False
    assert list(registry.checks) == []


def test_removed_name_may_be_taken_again():
    registry = registry_of(db=HEALTHY)
    registry.remove("db")
    registry.add("db", answers(UNHEALTHY))
    assert registry.check_one("db").status is UNHEALTHY


def test_clear_removes_all():
    registry = registry_of(db=HEALTHY, cache=HEALTHY)
    registry.clear()
    assert list(registry.checks) == []
    assert registry.check_all().status is HEALTHY


def test_unknown_name_is_a_key_error_that_says_so():
    with pytest.raises(KeyError, match="not found"):
        HealthRegistry().check_one("nonexistent")


def test_empty_registry_is_healthy():
    result = HealthRegistry().check_all()
    assert result.status is HEALTHY
    assert list(result.checks) == []


def test_registered_name_wins_in_every_result():
    registry = HealthRegistry()
    registry.add("orders-db", answers(HEALTHY, name="database"))
    assert registry.check_one("orders-db").name == "orders-db"
    assert [c.name for c in registry.check_all().checks] == ["orders-db"]


def test_registered_name_wins_when_the_check_raises_or_times_out():
    def raises():
        raise RuntimeError("down")

    release = threading.Event()
    registry = HealthRegistry()
    registry.add("a", raises)
    registry.add("b", lambda: release.wait(3), timeout=0.05)
    names = [c.name for c in registry.check_all().checks]
    release.set()
    assert names == ["a", "b"]


def test_results_keep_the_order_of_registration():
    registry = HealthRegistry()
    for name, pause in [("slow", 0.05), ("fast", 0.0), ("middling", 0.02)]:
        registry.add(name, lambda pause=pause: time.sleep(pause) or True)
    assert [c.name for c in registry.check_all().checks] == ["slow", "fast", "middling"]


def test_result_the_check_returned_is_left_as_it_was():
    shared = HealthCheckResult("its-own", HEALTHY, 0.0)
    registry = HealthRegistry()
    registry.add("registered", lambda: shared)
    registry.check_one("registered")
    assert shared == HealthCheckResult("its-own", HEALTHY, 0.0)


def test_latency_is_measured_whatever_the_check_claims():
    registry = HealthRegistry()

    def slow():
        time.sleep(0.05)
        return HealthCheckResult("slow", HEALTHY, 0)

    registry.add("slow", slow)
    assert 50 <= registry.check_one("slow").latency_ms < 1000


def test_message_and_details_of_the_check_are_kept():
    registry = HealthRegistry()
    registry.add("es", answers(DEGRADED, message="Cluster is yellow", details={"cluster_status": "yellow"}))
    result = registry.check_one("es")
    assert result.message == "Cluster is yellow"
    assert result.details == {"cluster_status": "yellow"}


# --- what a check may be and return -------------------------------------------------------------------------


@pytest.mark.parametrize("status", list(HealthStatus))
def test_check_may_return_a_status(status):
    registry = HealthRegistry()
    registry.add("c", lambda: status)
    assert registry.check_one("c").status is status


@pytest.mark.parametrize(("returned", "status"), [(True, HEALTHY), (False, UNHEALTHY)])
def test_check_may_return_a_bool(returned, status):
    registry = HealthRegistry()
    registry.add("c", lambda: returned)
    assert registry.check_one("c").status is status


@pytest.mark.parametrize("returned", [None, 1, 0, "ok", (), ("healthy",), {"status": "healthy"}, object()])
def test_any_other_return_is_unknown_with_a_message_that_says_what_to_return(returned):
    registry = HealthRegistry()
    registry.add("c", lambda: returned)
    result = registry.check_one("c")
    assert result.status is UNKNOWN
    assert "HealthCheckResult" in result.message
    assert "bool" in result.message


def test_raising_means_unhealthy_with_the_reason():
    def raises():
        raise RuntimeError("Connection failed")

    registry = HealthRegistry()
    registry.add("c", raises)
    result = registry.check_one("c")
    assert result.status is UNHEALTHY
    assert "Connection failed" in result.message


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError()])
def test_even_a_check_that_raises_what_ends_programs_has_a_defined_answer(error):
    def raises():
        raise error

    registry = HealthRegistry()
    registry.add("c", raises)
    registry.add("other", answers(HEALTHY))
    assert registry.check_one("c").status is UNHEALTHY
    assert registry.check_one("other").status is HEALTHY


def test_exception_without_a_message_still_says_something():
    def raises():
        raise ConnectionResetError

    registry = HealthRegistry()
    registry.add("c", raises)
    assert "ConnectionResetError" in registry.check_one("c").message


def test_async_check_is_run_by_the_sync_registry():
    async def check():
        return HealthCheckResult("es", DEGRADED, 0.0, message="yellow")

    registry = HealthRegistry()
    registry.add("elasticsearch", check)
    result = registry.check_one("elasticsearch")
    assert (result.name, result.status, result.message) == ("elasticsearch", DEGRADED, "yellow")


def test_async_check_that_raises_is_unhealthy():
    async def check():
        raise RuntimeError("no cluster")

    registry = HealthRegistry()
    registry.add("es", check)
    assert "no cluster" in registry.check_one("es").message


def test_check_may_call_back_into_the_registry():
    registry = HealthRegistry()
    registry.add("inner", answers(HEALTHY))
    registry.add("outer", lambda: registry.check_one("inner").status)
    with faster_than(3):
        assert registry.check_one("outer").status is HEALTHY


def test_check_may_be_registered_while_checks_run():
    registry = HealthRegistry()

    def adds():
        registry.add(f"late-{len(registry.checks)}", answers(HEALTHY))
        return True

    registry.add("adds", adds)
    assert registry.check_all().status is HEALTHY
    assert registry.check_all().status is HEALTHY


# --- the worst of ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([(HEALTHY, True), (HEALTHY, True)], HEALTHY),
        ([(HEALTHY, True), (UNHEALTHY, True)], UNHEALTHY),
        ([(HEALTHY, True), (UNHEALTHY, False)], DEGRADED),
        ([(HEALTHY, True), (UNKNOWN, True)], UNHEALTHY),
        ([(HEALTHY, True), (DEGRADED, True)], DEGRADED),
        ([(HEALTHY, True), (DEGRADED, False)], DEGRADED),
        ([(HEALTHY, True), (UNKNOWN, False)], DEGRADED),
        ([(UNHEALTHY, False), (DEGRADED, True)], DEGRADED),
        ([(UNHEALTHY, False), (UNHEALTHY, True)], UNHEALTHY),
        ([(UNHEALTHY, False)], DEGRADED),
    ],
)
def test_aggregate_is_the_worst_of(statuses, expected):
    registry = HealthRegistry()
    for index, (status, critical) in enumerate(statuses):
        registry.add(f"c{index}", answers(status), critical=critical)
    assert registry.check_all().status is expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(HealthStatus)), st.booleans()), min_size=1, max_size=5))
def test_aggregate_is_healthy_only_when_every_check_is(statuses):
    registry = HealthRegistry()
    for index, (status, critical) in enumerate(statuses):
        registry.add(f"c{index}", answers(status), critical=critical)
    overall = registry.check_all().status
    assert (overall is HEALTHY) == all(status is HEALTHY for status, _ in statuses)
    assert (overall is UNHEALTHY) == any(
        critical and status in (UNHEALTHY, UNKNOWN) for status, critical in statuses
    )
    assert overall is not UNKNOWN


# --- deadlines, concurrency, hung checks --------------------------------------------------------------------


def test_checks_run_at_the_same_time():
    together = threading.Barrier(3, timeout=3)
    registry = HealthRegistry()
    for name in ("one", "two", "three"):
        registry.add(name, lambda: together.wait() is not None)
    assert registry.check_all().status is HEALTHY


def test_check_past_its_timeout_is_unhealthy_and_says_so():
    release = threading.Event()
    registry = HealthRegistry()
    registry.add("slow", lambda: release.wait(5), timeout=0.1)
    with faster_than(3):
        result = registry.check_one("slow")
    release.set()
    assert result.status is UNHEALTHY
    assert "timed out" in result.message
    assert result.latency_ms >= 99


def test_async_check_past_its_timeout_is_unhealthy():
    async def hangs():
        import asyncio

        await asyncio.sleep(8)
        return True

    registry = HealthRegistry()
    registry.add("slow", hangs, timeout=0.1)
    with faster_than(3):
        assert "timed out" in registry.check_one("slow").message


def test_hung_check_delays_the_others_no_longer_than_its_own_timeout():
    release = threading.Event()
    registry = HealthRegistry()
    registry.add("hung", lambda: release.wait(5), timeout=0.1)
    registry.add("fine", answers(HEALTHY))
    with faster_than(3):
        result = registry.check_all()
    release.set()
    assert {c.name: c.status for c in result.checks} == {"hung": UNHEALTHY, "fine": HEALTHY}


def test_hung_check_is_never_started_twice_and_recovers():
    release, started = threading.Event(), []
    registry = HealthRegistry()

    def hangs():
        started.append(1)
        release.wait(5)
        return True

    registry.add("hung", hangs, timeout=0.05)
    for _ in range(5):
        assert registry.check_one("hung").status is UNHEALTHY
    assert len(started) == 1
    release.set()
    assert eventually(lambda: registry.check_one("hung").status is HEALTHY)


def test_hung_checks_starve_no_other_check():
    release = threading.Event()
    registry = HealthRegistry()
    for index in range(8):
        registry.add(f"hung-{index}", lambda: release.wait(5), timeout=0.05, critical=False)
    registry.add("fine", answers(HEALTHY))
    registry.check_all()
    with faster_than(3):
        fine = registry.check_one("fine")
    release.set()
    assert fine.status is HEALTHY


def test_callers_that_arrive_during_a_run_share_it():
    registry, started, release = HealthRegistry(), [], threading.Event()

    def check():
        started.append(1)
        release.wait(3)
        return True

    registry.add("c", check, timeout=3)
    results = []
    threads = [threading.Thread(target=lambda: results.append(registry.check_one("c"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: started)
    time.sleep(0.05)
    release.set()
    for thread in threads:
        thread.join(3)
    assert len(started) == 1
    assert [r.status for r in results] == [HEALTHY] * 8


def test_python_calls_run_the_check_afresh():
    registry, runs = HealthRegistry(), []
    registry.add("c", lambda: runs.append(1) or True)
    registry.check_all()
    registry.check_all()
    registry.check_one("c")
    assert len(runs) == 3


def test_hung_check_does_not_hold_up_the_exit_of_the_process():
    with faster_than(8):
        run_python("""
            import time
            from flask_svc_infra.health import HealthRegistry
            registry = HealthRegistry()
            registry.add("hung", lambda: time.sleep(30) or True, timeout=0.05)
            assert registry.check_one("hung").status == "unhealthy"
        """)


def test_nothing_runs_before_first_use():
    before = threading.active_count()
    registry = HealthRegistry()
    registry.add("c", answers(HEALTHY))
    assert threading.active_count() == before


def test_registry_used_before_a_fork_works_in_the_child():
    run_python("""
        import os, time
        from flask_svc_infra.health import HealthRegistry
        registry = HealthRegistry()
        registry.add("slow", lambda: time.sleep(30) or True, timeout=0.05)
        registry.add("fine", lambda: True)
        registry.check_all()
        child = os.fork()
        if child == 0:
            ok = registry.check_one("fine").status == "healthy"
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
    """)


# --- waiting ------------------------------------------------------------------------------------------------


def test_wait_returns_at_once_when_healthy():
    with faster_than(3):
        assert registry_of(db=HEALTHY).wait_until_healthy(timeout=5) is True


def test_wait_on_an_empty_registry_is_true():
    assert HealthRegistry().wait_until_healthy(timeout=1) is True


def test_wait_gives_up_at_its_deadline():
    registry = registry_of(db=UNHEALTHY)
    began = time.monotonic()
    assert registry.wait_until_healthy(timeout=0.3, interval=0.1) is False
    assert 0.28 <= time.monotonic() - began < 1.8


def test_wait_keeps_its_deadline_when_the_interval_is_longer():
    with faster_than(1.8):
        assert registry_of(db=UNHEALTHY).wait_until_healthy(timeout=0.2, interval=2.0) is False


def test_wait_keeps_its_deadline_when_a_check_hangs_longer():
    release = threading.Event()
    registry = HealthRegistry()
    registry.add("hung", lambda: release.wait(5), timeout=5.0)
    with faster_than(3):
        assert registry.wait_until_healthy(timeout=0.2, interval=0.1) is False
    release.set()


def test_wait_succeeds_once_the_check_becomes_healthy():
    registry, calls = HealthRegistry(), []

    def becomes_healthy():
        calls.append(1)
        return len(calls) >= 3

    registry.add("db", becomes_healthy)
    assert registry.wait_until_healthy(timeout=5, interval=0.02) is True
    assert len(calls) == 3


def test_wait_runs_critical_checks_only():
    ran = []
    registry = HealthRegistry()
    registry.add("db", lambda: ran.append("db") or True)
    registry.add("cache", lambda: ran.append("cache") or False, critical=False)
    assert registry.wait_until_healthy(timeout=1) is True
    assert ran == ["db"]


@pytest.mark.parametrize(("status", "passes"), [(DEGRADED, True), (UNKNOWN, False), (UNHEALTHY, False)])
def test_wait_lets_a_critical_degraded_pass_and_nothing_worse(status, passes):
    assert registry_of(db=status).wait_until_healthy(timeout=0.05, interval=0.02) is passes


def test_wait_for_named_checks_looks_at_those_alone():
    registry = registry_of(good=HEALTHY, bad=UNHEALTHY, cache=(UNHEALTHY, False))
    assert registry.wait_until_healthy(timeout=1, check_names=["good"]) is True
    assert registry.wait_until_healthy(timeout=0.05, interval=0.02, check_names=["good", "bad"]) is False
    assert registry.wait_until_healthy(timeout=0.05, interval=0.02, check_names=["cache"]) is False


def test_wait_for_no_names_is_a_value_error_at_once():
    with faster_than(3), pytest.raises(ValueError, match="check_names"):
        registry_of(db=UNHEALTHY).wait_until_healthy(timeout=5, check_names=[])


def test_wait_for_an_unknown_name_is_a_key_error_at_once():
    with faster_than(3), pytest.raises(KeyError, match="datbase"):
        registry_of(database=UNHEALTHY).wait_until_healthy(timeout=5, check_names=["database", "datbase"])


# --- secrets ------------------------------------------------------------------------------------------------

secrets = st.text(
    alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=8, max_size=24
).map(lambda text: "s3" + text)


@settings(max_examples=60, deadline=None)
@given(
    secrets,
    st.sampled_from(
        [
            'connection to "postgresql://shop:{}@db:5432/shop" failed',
            "could not connect: host=db user=shop password={} dbname=shop",
            "redis://:{}@cache:6379/0 refused",
            "GET https://svc:{}@api.internal/health -> 500",
            "Authorization: Bearer {}",
            "GET http://api/health?token={} -> 403",
            "{{'password': '{}', 'host': 'db'}}",
        ],
    ),
)
def test_secret_in_an_exception_reaches_no_message(secret, template):
    def raises():
        raise ConnectionError(template.format(secret)) from ValueError(template.format(secret))

    registry = HealthRegistry()
    registry.add("db", raises)
    result = registry.check_one("db")
    assert result.status is UNHEALTHY
    assert secret not in json.dumps(result.to_dict())
    assert secret not in repr(result)


def test_secret_in_a_message_or_detail_the_check_wrote_is_redacted_too():
    registry = HealthRegistry()
    dsn = "postgresql://shop:hunter2secret@db/shop"
    registry.add(
        "db", answers(UNHEALTHY, message=f"cannot reach {dsn}", details={"dsn": dsn, "tried": [dsn]})
    )
    assert "hunter2secret" not in json.dumps(registry.check_all().to_dict())


def test_message_of_a_million_characters_is_cut():
    registry = HealthRegistry()
    registry.add("c", answers(UNHEALTHY, message="x" * 1_000_000))
    assert len(registry.check_one("c").message) < 10_000
