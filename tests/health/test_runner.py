"""What a hung, hostile or popular check may do to those who ask: nothing."""

import asyncio
import contextlib
import contextvars
import itertools
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.forks import in_child
from support.processes import eventually

from flask_svc_infra import events
from flask_svc_infra.health import HealthCheckResult, HealthRegistry, HealthStatus
from flask_svc_infra.health.deadline import driver_timeout

HEALTHY, UNHEALTHY, UNKNOWN = HealthStatus.HEALTHY, HealthStatus.UNHEALTHY, HealthStatus.UNKNOWN


def own_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("svc-infra")]


@pytest.fixture
def registry():
    return HealthRegistry()


def test_no_thread_runs_before_the_first_ask_nor_after_the_last_answer(registry):
    registry.add("db", lambda: True)
    assert own_threads() == []
    registry.check_all()
    for thread in own_threads():
        thread.join(1)
    assert own_threads() == []


def test_checks_run_at_the_same_time(registry):
    barrier = threading.Barrier(5, timeout=2)
    for n in range(5):
        registry.add(str(n), lambda: barrier.wait() >= 0)
    assert registry.check_all().status is HEALTHY


def test_five_checks_take_as_long_as_one(registry):
    for n in range(5):
        registry.add(str(n), lambda: time.sleep(0.1) is None)
    began = time.monotonic()
    registry.check_all()
    assert time.monotonic() - began < 0.2


def test_hung_check_is_unhealthy_at_its_timeout(registry, hanging):
    registry.add("hung", hanging, timeout=0.1)
    registry.add("fine", lambda: True)
    began = time.monotonic()
    whole = registry.check_all()
    assert 0.1 <= time.monotonic() - began < 0.25
    assert whole.status is UNHEALTHY
    hung, fine = whole.checks
    assert fine.status is HEALTHY
    assert "timed out after 0.1s" in hung.message
    assert hung.latency_ms == pytest.approx(100)


def test_hung_check_is_answered_at_once_and_never_started_twice(registry, hanging):
    registry.add("hung", hanging, timeout=0.05)
    registry.check_one("hung")
    before = len(own_threads())
    began = time.monotonic()
    for _ in range(50):
        assert registry.check_one("hung").status is UNHEALTHY
    assert time.monotonic() - began < 0.5
    assert hanging.started == 1
    assert len(own_threads()) == before == 1


def test_hung_check_tells_for_how_long(registry, hanging):
    registry.add("hung", hanging, timeout=0.01)
    registry.check_one("hung")
    assert "has been running for 0s" in registry.check_one("hung").message
    assert registry.snapshot()[0].stuck_for >= 0.01


def test_hung_check_starves_no_other(registry, hanging):
    for n in range(20):
        registry.add(f"hung {n}", hanging, timeout=0.05)
    registry.add("fine", lambda: True, timeout=0.05)
    assert registry.check_all().checks[-1].status is HEALTHY
    assert registry.check_one("fine").status is HEALTHY


def test_hung_check_recovers_when_it_ends(registry, hanging):
    registry.add("hung", hanging, timeout=0.05)
    assert registry.check_one("hung").status is UNHEALTHY
    hanging.release.set()
    for thread in own_threads():
        thread.join(1)
    assert registry.check_one("hung").status is HEALTHY
    assert hanging.started == 2
    assert registry.snapshot()[0].stuck_for is None


def test_late_result_changes_nothing(registry, hanging):
    seen = []
    listener = lambda sender, event: seen.append((event.status, event.timed_out))
    events.check_finished.connect(listener, sender=registry)
    registry.add("hung", hanging, timeout=0.05)
    registry.check_one("hung")
    hanging.release.set()
    for thread in own_threads():
        thread.join(1)
    assert registry.snapshot()[0].status is UNHEALTHY
    assert seen == [(UNHEALTHY, True)]


def test_deadline_counts_from_the_start_of_the_run_not_from_the_ask(registry, hanging):
    registry.add("hung", hanging, timeout=0.3)
    first = threading.Thread(target=registry.check_one, args=["hung"])
    first.start()
    hanging.entered.wait(1)
    time.sleep(0.2)
    began = time.monotonic()
    registry.check_one("hung")
    assert time.monotonic() - began < 0.2
    first.join()


def test_result_that_comes_past_the_deadline_is_a_timeout_whoever_waited(registry):
    registry.add("slow", lambda: time.sleep(0.06) is None, timeout=0.05)
    assert "timed out" in registry.check_one("slow").message


def test_hundred_who_ask_at_once_share_one_run(registry):
    runs, entered, release = [], threading.Event(), threading.Event()

    def check():
        runs.append(1)
        entered.set()
        return release.wait(5)

    registry.add("db", check)
    barrier = threading.Barrier(101)

    def ask():
        barrier.wait()
        return registry.check_one("db").status

    with ThreadPoolExecutor(100) as pool:
        asked = [pool.submit(ask) for _ in range(100)]
        barrier.wait()
        entered.wait(5)
        time.sleep(0.1)
        release.set()
        assert {each.result() for each in asked} == {HEALTHY}
    assert len(runs) == 1


def test_two_calls_one_after_the_other_are_two_runs(registry):
    runs = []
    registry.add("db", lambda: runs.append(1) or True)
    for _ in range(200):
        registry.check_one("db")
    assert len(runs) == 200


@pytest.mark.parametrize(
    "raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError(), asyncio.CancelledError()]
)
def test_whatever_a_check_raises_is_an_answer(registry, raised):
    def check():
        raise raised

    registry.add("x", check)
    result = registry.check_one("x")
    assert result.status is UNHEALTHY
    assert type(raised).__name__ in result.message
    assert registry.check_one("x").status is UNHEALTHY


def test_endless_recursion_is_an_answer(registry):
    def check():
        return check()

    registry.add("x", check)
    assert "recursion" in registry.check_one("x").message


def test_exception_that_cannot_be_printed_is_an_answer(registry):
    class Mute(Exception):
        def __str__(self):
            raise ValueError("no words")

    def check():
        raise Mute

    registry.add("x", check)
    assert registry.check_one("x").message == "Mute"


def test_huge_message_is_cut(registry):
    registry.add("x", lambda: HealthCheckResult("x", HEALTHY, 0, "word " * 200_000, {"log": "x" * 10**6}))
    result = registry.check_one("x")
    assert len(result.message) <= 500
    assert len(result.details["log"]) <= 500


def test_check_that_asks_for_itself_gets_an_answer_at_once(registry):
    inner = []

    def check():
        inner.append(registry.check_one("me"))
        return True

    registry.add("me", check, timeout=2)
    began = time.monotonic()
    assert registry.check_one("me").status is HEALTHY
    assert time.monotonic() - began < 1
    assert inner[0].status is UNKNOWN
    assert "asked for its own result" in inner[0].message


def test_check_that_asks_for_all_gets_the_others(registry):
    inner = []
    registry.add("other", lambda: True)
    registry.add("me", lambda: inner.append(registry.check_all()) or True, timeout=2)
    assert registry.check_all().status is HEALTHY
    assert [each.status for each in inner[0].checks] == [HEALTHY, UNKNOWN]


def test_checks_that_ask_for_each_other_get_an_answer_at_once(registry):
    registry.add("a", lambda: registry.check_one("b").status, timeout=2)
    registry.add("b", lambda: registry.check_one("a").status, timeout=2)
    began = time.monotonic()
    assert registry.check_one("a").status is UNKNOWN
    assert time.monotonic() - began < 1


def test_check_removed_while_it_runs_is_answered_but_not_announced(registry, hanging):
    seen = []
    listener = lambda sender, event: seen.append(event)
    events.check_finished.connect(listener, sender=registry)
    registry.add("gone", hanging)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(registry.check_all)
        hanging.entered.wait(1)
        assert registry.remove("gone")
        hanging.release.set()
        assert asked.result().checks[0].status is HEALTHY
    assert seen == []
    with pytest.raises(KeyError):
        registry.check_one("gone")


def test_name_may_be_taken_again_while_the_old_check_hangs(registry, hanging):
    registry.add("db", hanging, timeout=0.02)
    registry.check_one("db")
    registry.remove("db")
    registry.add("db", lambda: True)
    assert registry.check_one("db").status is HEALTHY


def test_request_context_does_not_leak_into_a_run(registry):
    mine = contextvars.ContextVar("mine", default="clean")
    mine.set("leaked")
    seen = []
    registry.add("x", lambda: seen.append(mine.get()) or True)
    registry.check_one("x")
    assert seen == ["clean"]


def test_registered_timeout_reaches_code_inside_threads_and_tasks(registry):
    seen = []

    async def check():
        async def task():
            return driver_timeout(None)

        seen.extend([await asyncio.to_thread(driver_timeout, None), await asyncio.create_task(task())])
        return True

    registry.add("x", check, timeout=1.5)
    assert registry.check_one("x").status is HEALTHY
    assert seen == [1.5, 1.5]
    assert driver_timeout(None) == 5.0
    assert driver_timeout(0.2) == 0.2


def test_async_check_is_cancelled_at_its_deadline(registry):
    cancelled = threading.Event()

    async def slow():
        try:
            await asyncio.sleep(10)
        finally:
            cancelled.set()

    registry.add("slow", slow, timeout=0.1)
    result = registry.check_one("slow")
    assert result.status is UNHEALTHY
    assert "timed out after 0.1s" in result.message
    assert cancelled.wait(1)


def test_run_cancelled_at_its_deadline_leaves_its_lane_free(registry):
    naps = itertools.chain([10], itertools.repeat(0))

    async def check():
        await asyncio.sleep(next(naps))
        return True

    registry.add("x", check, timeout=0.05)
    assert registry.check_one("x").status is UNHEALTHY
    assert eventually(lambda: registry.check_one("x").status is HEALTHY, timeout=1)


def test_async_check_that_ignores_its_cancellation_does_not_hold_up_the_answer(registry):
    release, runs = threading.Event(), []

    async def deaf():
        runs.append(1)
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.02)
        return True

    registry.add("deaf", deaf, timeout=0.1)
    began = time.monotonic()
    assert registry.check_one("deaf").status is UNHEALTHY
    assert registry.check_one("deaf").status is UNHEALTHY
    assert time.monotonic() - began < 0.3
    assert len(runs) == 1
    release.set()
    for thread in own_threads():
        thread.join(1)
    assert registry.check_one("deaf").status is HEALTHY


def test_thread_an_async_check_left_hanging_is_not_started_again(registry, hanging):
    async def check():
        return await asyncio.to_thread(hanging)

    registry.add("x", check, timeout=0.1)
    for _ in range(3):
        assert registry.check_one("x").status is UNHEALTHY
    assert hanging.started == 1
    hanging.release.set()
    for thread in own_threads():
        thread.join(1)
    assert registry.check_one("x").status is HEALTHY


def test_drive_of_the_caller_is_given_the_awaitable_and_the_time_left(registry):
    given = []

    async def check():
        return True

    def drive(awaitable, seconds):
        given.append(seconds)
        return asyncio.run(awaitable)

    registry.add("x", check, timeout=2)
    (report,) = registry._check(["x"], drive=drive)
    assert report.result.status is HEALTHY
    assert 1.5 < given[0] <= 2


def test_out_of_threads_is_an_answer(registry, monkeypatch):
    def no_more(self):
        raise RuntimeError("can't start new thread")

    registry.add("x", lambda: True)
    monkeypatch.setattr(threading.Thread, "start", no_more)
    result = registry.check_one("x")
    assert result.status is UNHEALTHY
    assert "can't start new thread" in result.message
    monkeypatch.undo()
    assert registry.check_one("x").status is HEALTHY


def test_hysteresis_counts_runs_in_a_row():
    said = iter([True, False, False, True, False, False, False, True, True])
    registry = HealthRegistry()
    registry.add("x", lambda: next(said), failures_before_unhealthy=3, successes_before_healthy=2)
    results = [registry.check_one("x") for _ in range(9)]
    assert [each.status is HEALTHY for each in results] == [1, 1, 1, 1, 1, 1, 0, 0, 1]
    assert results[1].message == "failed 1 of 3 times before it counts"
    assert results[7].message == "passed 1 of 2 times before it counts"


def test_first_run_decides_whatever_the_thresholds():
    registry = HealthRegistry()
    registry.add("x", lambda: False, failures_before_unhealthy=5)
    assert registry.check_one("x").status is UNHEALTHY


def test_forked_child_works_while_the_parents_run_hangs(registry, hanging):
    registry.add("hung", hanging, timeout=5)
    registry.add("fine", lambda: True)
    asking = threading.Thread(target=registry.check_one, args=["hung"], daemon=True)
    asking.start()
    hanging.entered.wait(1)
    hanging.release.set()  # in the child, a new run is to end at once
    registry._lock.acquire()  # and whoever held it here does not exist there
    try:
        assert in_child(lambda: registry.check_all().status is HEALTHY and registry.add("new", int) is None)
    finally:
        registry._lock.release()
    asking.join()


@pytest.mark.parametrize("kind", ["sync", "async", "thread"])
def test_hung_check_does_not_hold_up_the_exit(kind):
    program = f"""
        import asyncio, time
        from flask_svc_infra.health import HealthRegistry
        def sync(): time.sleep(60)
        async def deaf():
            while True:
                try: await asyncio.sleep(60)
                except asyncio.CancelledError: pass
        async def thread(): await asyncio.to_thread(time.sleep, 60)
        registry = HealthRegistry()
        checks = {{"sync": sync, "async": deaf, "thread": thread}}
        registry.add("x", checks["{kind}"], timeout=0.1)
        print(registry.check_one("x").status)
    """
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("unhealthy\n", 0), done.stderr
    assert time.monotonic() - began < 10


GEVENT = """
    from gevent import monkey; monkey.patch_all()
    import asyncio, time, threading
    from flask_svc_infra.health import HealthRegistry
    registry = HealthRegistry()
    async def calm():
        await asyncio.sleep(0.2)
        return True
    registry.add("a", calm, timeout=2)
    registry.add("b", calm, timeout=2)
    registry.add("sync", lambda: time.sleep(0.2) is None)
    registry.add("hung", lambda: time.sleep(60), timeout=0.3)
    began = time.monotonic()
    whole = registry.check_all()
    print([str(each.status) for each in whole.checks], time.monotonic() - began < 1.5)
    began = time.monotonic()
    print(registry.check_one("hung").status, time.monotonic() - began < 0.1)
"""


@pytest.mark.needs("gevent")
def test_checks_sync_and_async_run_under_gevent():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(GEVENT)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout == "['healthy', 'healthy', 'healthy', 'unhealthy'] True\nunhealthy True\n"


def test_check_with_a_threshold_that_hangs_fails_when_as_many_timeouts_have_passed(clock, hanging):
    seen = []
    registry = HealthRegistry(on_change=lambda event: seen.append(event.new), clock=clock)
    said = iter([True])
    registry.add("x", lambda: next(said, None) or hanging(), timeout=0.0625, failures_before_unhealthy=3)
    assert registry.check_one("x").status is HEALTHY
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(registry.check_one, "x")
        hanging.entered.wait(1)
        clock.advance(0.0625)
        assert first.result().status is HEALTHY
    clock.advance(0.0625)
    second = registry.check_one("x")
    assert second.status is HEALTHY
    assert second.message.startswith("failed 2 of 3 times before it counts: Check timed out")
    clock.advance(0.0625)
    assert registry.check_one("x").status is UNHEALTHY
    assert registry.snapshot()[0].status is UNHEALTHY
    assert seen == [HEALTHY, UNHEALTHY]
    assert hanging.started == 1


def test_check_with_an_interval_is_not_run_by_probes_even_without_a_ttl(registry):
    runs = []
    registry.add("x", lambda: runs.append(1) or True, interval=60)
    registry.check_one("x")
    time.sleep(0.05)
    before = len(runs)
    assert registry._check(["x"], max_age=0.0)[0].reused
    assert len(runs) == before


GEVENT_DATABASE = """
    from gevent import monkey; monkey.patch_all()
    import gevent, sys, time
    from flask_svc_infra.health import HealthRegistry, check_database
    ticks = []
    def tick():
        while True:
            ticks.append(time.monotonic())
            gevent.sleep(0.02)
    gevent.spawn(tick)
    registry = HealthRegistry()
    registry.add("db", check_database(sys.argv[1]), timeout=0.5)
    print(registry.check_one("db").status)
    registry.remove("db")
    registry.add("db", check_database(sys.argv[2]), timeout=0.5)
    began = time.monotonic()
    print(registry.check_one("db").status, time.monotonic() - began < 0.8)
    print(max(b - a for a, b in zip(ticks, ticks[1:])) < 0.3)
"""


def test_database_that_hangs_does_not_stop_the_other_greenlets(postgres):
    proxy = postgres.proxy()
    proxy.hang()
    argv = [sys.executable, "-c", textwrap.dedent(GEVENT_DATABASE), postgres.url, proxy.url]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "healthy\nunhealthy True\nTrue\n", done.stderr
