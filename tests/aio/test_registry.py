"""The awaited registry: the documented behaviour, on the caller's loop, without ever blocking it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from unittest.mock import AsyncMock, MagicMock

import pytest
from flask import Flask

from flask_svc_infra import events, health
from flask_svc_infra.aio import HealthCheckResult, HealthRegistry, HealthStatus, add_health_routes

HEALTHY, DEGRADED, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY


def says(status: HealthStatus) -> Callable[[], Awaitable[HealthCheckResult]]:
    async def check() -> HealthCheckResult:
        return HealthCheckResult(name="own", status=status, latency_ms=0)

    return check


def registry_of(**checks) -> HealthRegistry:
    registry = HealthRegistry()
    for name, given in checks.items():
        check_fn, options = given if isinstance(given, tuple) else (given, {})
        registry.add(name, check_fn, **options)
    return registry


@asynccontextmanager
async def ticking(most: float = 0.4) -> AsyncIterator[None]:
    """Fail when the loop stands still for *most* seconds; a blocked one does for a whole check."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            longest, last = max(longest, now - last), now

    task = asyncio.create_task(tick())
    await asyncio.sleep(0)
    try:
        yield
        await asyncio.sleep(0.02)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert longest < most, f"the loop stood still for {longest:.2f}s"


def threads_named(prefix: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]


async def eventually(condition: Callable[[], object], within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.01)


def test_registering_is_as_in_the_sync_registry():
    registry = HealthRegistry()
    assert registry.checks == []
    registry.add("cache", says(HEALTHY), critical=False, timeout=10.0)
    assert [(c.name, c.critical, c.timeout) for c in registry.checks] == [("cache", False, 10.0)]
    with pytest.raises(ValueError, match="already registered"):
        registry.add("cache", says(HEALTHY))
    assert registry.remove("cache") is True
    assert registry.remove("cache") is False
    registry.add("one", says(HEALTHY))
    registry.clear()
    assert registry.checks == []


def test_method_signatures_and_docstrings_are_those_of_the_sync_registry():
    for name in ("add", "remove", "clear", "snapshot", "check_one", "check_all", "wait_until_healthy"):
        twin, origin = getattr(HealthRegistry, name), getattr(health.HealthRegistry, name)
        assert inspect.signature(twin).parameters == inspect.signature(origin).parameters, name
        assert inspect.getdoc(twin)


def test_the_function_that_was_given_is_the_one_that_is_registered():
    """Also when it answers to every name, as the mocks in a user's tests do."""
    for check_fn in (says(HEALTHY), AsyncMock(return_value=True), MagicMock(return_value=True), os.getpid):
        assert registry_of(given=check_fn).checks[0].check_fn is check_fn
    assert asyncio.run(registry_of(mock=AsyncMock(return_value=True)).check_one("mock")).status is HEALTHY


def test_check_one_bears_the_registered_name():
    result = asyncio.run(registry_of(database=says(HEALTHY)).check_one("database"))
    assert (result.name, result.status) == ("database", HEALTHY)


def test_check_one_of_an_unknown_name_is_a_key_error():
    with pytest.raises(KeyError, match="not found"):
        asyncio.run(HealthRegistry().check_one("nonexistent"))


def test_check_that_never_ends_is_cancelled_at_its_timeout():
    cancelled = []

    async def slow() -> bool:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return True

    async def main() -> HealthCheckResult:
        result = await registry_of(slow=(slow, {"timeout": 0.1})).check_one("slow")
        await eventually(lambda: len(asyncio.all_tasks()) == 1)
        return result

    began = time.monotonic()
    result = asyncio.run(main())
    assert time.monotonic() - began < 2
    assert result.status is UNHEALTHY
    assert "timed out" in result.message
    assert cancelled == [True]


def test_check_that_raises_is_unhealthy_and_says_why():
    async def failing() -> bool:
        raise RuntimeError("Connection failed")

    result = asyncio.run(registry_of(fail=failing).check_one("fail"))
    assert result.status is UNHEALTHY
    assert "Connection failed" in result.message


def test_timeout_error_of_a_check_itself_keeps_its_words():
    async def failing() -> bool:
        raise TimeoutError("pool exhausted")

    result = asyncio.run(registry_of(fail=failing).check_one("fail"))
    assert (result.status, result.message) == (UNHEALTHY, "pool exhausted")


@pytest.mark.parametrize(
    ("cache", "critical", "whole"),
    [
        (HEALTHY, True, HEALTHY),
        (DEGRADED, True, DEGRADED),
        (UNHEALTHY, True, UNHEALTHY),
        (HealthStatus.UNKNOWN, True, UNHEALTHY),
        (UNHEALTHY, False, DEGRADED),
        (HealthStatus.UNKNOWN, False, DEGRADED),
    ],
)
def test_check_all_is_the_worst_of(cache, critical, whole):
    registry = registry_of(database=says(HEALTHY), cache=(says(cache), {"critical": critical}))
    result = asyncio.run(registry.check_all())
    assert result.status is whole
    assert [check.name for check in result.checks] == ["database", "cache"]


def test_check_all_without_checks_is_healthy():
    result = asyncio.run(HealthRegistry().check_all())
    assert (result.status, result.checks) == (HEALTHY, [])


def test_sync_and_async_checks_mix():
    registry = registry_of(sync=lambda: True, coroutine=says(HEALTHY), status=lambda: DEGRADED)
    result = asyncio.run(registry.check_all())
    assert [check.status for check in result.checks] == [HEALTHY, HEALTHY, DEGRADED]


def test_checks_run_at_the_same_time():
    async def nap() -> bool:
        await asyncio.sleep(0.3)
        return True

    def doze() -> bool:
        time.sleep(0.3)
        return True

    began = time.monotonic()
    result = asyncio.run(registry_of(one=nap, two=nap, three=doze, four=doze).check_all())
    assert result.status is HEALTHY
    assert time.monotonic() - began < 1.1


def test_latency_is_measured():
    async def slow() -> HealthCheckResult:
        await asyncio.sleep(0.1)
        return HealthCheckResult(name="slow", status=HEALTHY, latency_ms=0)

    assert asyncio.run(registry_of(slow=slow).check_one("slow")).latency_ms >= 95


def test_async_check_runs_on_the_callers_loop():
    """So that it may use what is bound to it: a client, a pool, a lock."""
    seen = []

    async def check() -> bool:
        seen.append(asyncio.get_running_loop())
        return True

    async def main() -> None:
        await registry_of(pool=check).check_all()
        assert seen == [asyncio.get_running_loop()]

    asyncio.run(main())


def test_loop_goes_on_while_a_sync_check_hangs():
    release = threading.Event()

    def hangs() -> bool:
        release.wait(30)
        return True

    async def main() -> None:
        registry = registry_of(hung=(hangs, {"timeout": 0.6}), quick=says(HEALTHY))
        async with ticking():
            result = await registry.check_all()
        assert [check.status for check in result.checks] == [UNHEALTHY, HEALTHY]
        async with (
            ticking()
        ):  # the lane is still taken: the answer comes at once, and nothing is started again
            result = await registry.check_one("hung")
        assert "running for" in result.message
        release.set()

    asyncio.run(main())


def test_loop_goes_on_while_waiting_until_healthy():
    async def main() -> None:
        async with ticking():
            assert not await registry_of(down=lambda: False).wait_until_healthy(timeout=0.6, interval=0.1)

    asyncio.run(main())


def test_hung_sync_check_does_not_hold_up_the_end_of_the_loop():
    release = threading.Event()
    registry = registry_of(hung=(lambda: release.wait(30), {"timeout": 0.2}))
    began = time.monotonic()
    asyncio.run(registry.check_all())
    assert time.monotonic() - began < 2
    release.set()


def test_many_awaits_share_one_run_each():
    runs = []

    async def check() -> bool:
        runs.append(1)
        await asyncio.sleep(0.2)
        return True

    async def main() -> None:
        registry = registry_of(shared=check)
        results = await asyncio.gather(*(registry.check_all() for _ in range(20)))
        assert {result.status for result in results} == {HEALTHY}

    asyncio.run(main())
    assert len(runs) == 1


def test_many_who_wait_cost_no_thread_each():
    release = threading.Event()

    async def main() -> None:
        registry = registry_of(one=lambda: release.wait(10), two=says(HEALTHY))
        async with ticking(1.0):
            tasks = [asyncio.create_task(registry.check_all()) for _ in range(1000)]
            await eventually(lambda: threads_named("svc-infra-check-one"))
            await asyncio.sleep(0.1)
            assert len(threads_named("svc-infra")) <= 2
            release.set()
            results = await asyncio.gather(*tasks)
        assert {result.status for result in results} == {HEALTHY}

    asyncio.run(main())


def test_listener_of_an_overdue_check_does_not_block_the_loop():
    hung = threading.Event()

    def slow_listener(_: object) -> None:
        time.sleep(0.5)

    async def main() -> None:
        registry = HealthRegistry(on_change=slow_listener)
        registry.add("hung", lambda: hung.wait(10), timeout=0.1)
        async with ticking():
            assert (await registry.check_one("hung")).status is UNHEALTHY
        hung.set()

    asyncio.run(main())


def test_asking_a_hung_check_again_and_again_piles_nothing_up():
    hung = threading.Event()

    async def main() -> None:
        registry = registry_of(hung=(lambda: hung.wait(10), {"timeout": 0.1}))
        for _ in range(20):
            await registry.check_one("hung")
        (lane,) = registry.sync._lanes.values()
        assert len(lane.run.watchers) == 1
        hung.set()

    asyncio.run(main())


def test_wait_until_healthy_returns_at_once_when_healthy():
    assert asyncio.run(registry_of(test=says(HEALTHY)).wait_until_healthy(timeout=5)) is True
    assert asyncio.run(HealthRegistry().wait_until_healthy(timeout=1)) is True


def test_wait_until_healthy_keeps_its_deadline():
    began = time.monotonic()
    assert asyncio.run(registry_of(t=says(UNHEALTHY)).wait_until_healthy(timeout=0.3, interval=0.1)) is False
    assert 0.28 < time.monotonic() - began < 3.0


def test_wait_until_healthy_sees_it_come_up():
    asked = 0

    async def comes_up() -> bool:
        nonlocal asked
        asked += 1
        return asked >= 3

    assert asyncio.run(registry_of(test=comes_up).wait_until_healthy(timeout=5, interval=0.02)) is True
    assert asked == 3


def test_wait_until_healthy_for_some_checks_only():
    registry = registry_of(good=says(HEALTHY), bad=says(UNHEALTHY))
    assert asyncio.run(registry.wait_until_healthy(timeout=1, check_names=["good"])) is True
    with pytest.raises(KeyError):
        asyncio.run(registry.wait_until_healthy(check_names=["none"]))
    with pytest.raises(ValueError, match="empty"):
        asyncio.run(registry.wait_until_healthy(check_names=[]))
    with pytest.raises(ValueError, match="timeout"):
        asyncio.run(registry.wait_until_healthy(timeout=-1))


def test_cancelled_await_leaves_nothing_behind():
    """No task, no thread, no verdict, no event; and the next ask starts a run of its own."""
    told = []

    async def check() -> bool:
        await asyncio.sleep(30 if not told else 0)
        return True

    def listener(_, event) -> None:
        told.append(event)

    async def main() -> None:
        registry = registry_of(slow=(check, {"timeout": 20.0}))
        events.check_finished.connect(listener, sender=registry.sync)
        task = asyncio.create_task(registry.check_all())
        await eventually(lambda: len(asyncio.all_tasks()) == 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: len(asyncio.all_tasks()) == 1)
        await eventually(
            lambda: not threads_named("svc-infra-check-slow") and not threads_named("svc-infra-await")
        )
        assert told == []
        assert registry.snapshot()[0].status is HealthStatus.UNKNOWN
        told.append("from now on the check is quick")
        result = await asyncio.wait_for(registry.check_one("slow"), 5)
        assert result.status is HEALTHY

    asyncio.run(main())


def test_cancelled_wait_until_healthy_stops_asking():
    asked = []

    async def main() -> None:
        registry = registry_of(down=lambda: bool(asked.append(1)))
        task = asyncio.create_task(registry.wait_until_healthy(timeout=60, interval=0.05))
        await eventually(lambda: len(asked) >= 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: not threads_named("svc-infra-await"))
        seen = len(asked)
        await asyncio.sleep(0.2)
        assert len(asked) == seen

    asyncio.run(main())


def test_cancelling_one_who_waits_does_not_disturb_another():
    async def main() -> None:
        release = asyncio.Event()

        async def check() -> bool:
            await release.wait()
            return True

        registry = registry_of(shared=check)
        first = asyncio.create_task(registry.check_one("shared"))
        await eventually(lambda: threads_named("svc-infra-check-shared"))
        second = asyncio.create_task(registry.check_one("shared"))
        await asyncio.sleep(0.1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        release.set()
        assert (await asyncio.wait_for(second, 5)).status is HEALTHY

    asyncio.run(main())


def test_cancelling_does_not_disturb_a_probe_that_waits_in_a_thread():
    async def main() -> None:
        release = asyncio.Event()

        async def check() -> bool:
            await release.wait()
            return True

        registry = registry_of(shared=check)
        task = asyncio.create_task(registry.check_one("shared"))
        await eventually(lambda: threads_named("svc-infra-check-shared"))
        probe = asyncio.create_task(asyncio.to_thread(registry.sync.check_one, "shared"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        assert (await asyncio.wait_for(probe, 5)).status is HEALTHY

    asyncio.run(main())


def test_cancellations_in_any_order_disturb_nobody():
    """Whoever is not cancelled gets the checks' own verdict; afterwards nothing is left."""
    rnd = random.Random(7)
    verdicts = set()
    over = threading.Event()

    async def quick() -> bool:
        await asyncio.sleep(rnd.random() * 0.01)
        return True

    def doze() -> bool:
        time.sleep(rnd.random() * 0.005)
        return True

    registry = registry_of(one=quick, two=doze, three=quick)

    def probe() -> None:
        while not over.is_set():
            verdicts.update((check.status, check.message) for check in registry.sync.check_all().checks)

    async def ask() -> None:
        task = asyncio.create_task(registry.check_all())
        if rnd.random() < 0.5:
            await asyncio.sleep(rnd.random() * 0.01)
            task.cancel()
        with suppress(asyncio.CancelledError):
            verdicts.update((check.status, check.message) for check in (await task).checks)

    async def main() -> None:
        for _ in range(40):
            await asyncio.gather(*(ask() for _ in range(rnd.randrange(1, 8))))
        over.set()
        await eventually(lambda: not prober.is_alive())
        await eventually(lambda: len(asyncio.all_tasks()) == 1)
        await eventually(lambda: not threads_named("svc-infra"))

    prober = threading.Thread(target=probe)
    prober.start()
    try:
        asyncio.run(main())
    finally:
        over.set()
        prober.join()
    assert verdicts == {(HEALTHY, None)}


def test_awaits_on_several_loops_at_once():
    registry = registry_of(one=says(HEALTHY), two=lambda: True)
    found = []

    def work() -> None:
        found.extend(asyncio.run(registry.check_all()).status for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [HEALTHY] * 40


def test_loop_that_ends_under_a_check_frees_its_lane():
    """A lane that stayed taken would answer 'still running' for ever."""
    hang = True

    async def check() -> bool:
        await asyncio.sleep(30 if hang else 0)
        return True

    registry = registry_of(orphan=(check, {"timeout": 20.0}))

    async def leave() -> None:
        task = asyncio.create_task(registry.check_one("orphan"))
        await eventually(lambda: threads_named("svc-infra-check-orphan"))
        await asyncio.sleep(0.05)
        del task  # never awaited: asyncio.run cancels it

    asyncio.run(leave())
    hang = False
    assert asyncio.run(asyncio.wait_for(registry.check_one("orphan"), 5)).status is HEALTHY


def test_loop_closed_under_a_check_frees_its_lane():
    hang = True

    async def check() -> bool:
        await asyncio.sleep(30 if hang else 0)
        return True

    registry = registry_of(orphan=(check, {"timeout": 20.0}))
    loop = asyncio.new_event_loop()
    task = loop.create_task(registry.check_one("orphan"))
    task._log_destroy_pending = False  # what this test is about: a loop stopped the hard way
    loop.run_until_complete(asyncio.sleep(0.1))
    for left in asyncio.all_tasks(loop):
        left._log_destroy_pending = False
    loop.close()
    hang = False
    deadline = time.monotonic() + 5
    while threads_named("svc-infra-check-orphan"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert asyncio.run(registry.check_one("orphan")).status is HEALTHY
    del task, left
    gc.collect()


def test_check_that_asks_for_itself_is_told_so():
    registry = HealthRegistry()

    async def narcissus() -> HealthCheckResult:
        return await registry.check_one("narcissus")

    registry.add("narcissus", narcissus, timeout=5.0)
    result = asyncio.run(asyncio.wait_for(registry.check_one("narcissus"), 3))
    assert result.status is HealthStatus.UNKNOWN
    assert "asked for its own result" in result.message


def test_context_of_the_caller_does_not_reach_a_shared_run():
    user = contextvars.ContextVar("user", default="nobody")
    seen = []

    async def check() -> bool:
        seen.append(user.get())
        return True

    async def main() -> None:
        user.set("ann")
        await registry_of(test=check).check_all()

    asyncio.run(main())
    assert seen == ["nobody"]


def test_two_sides_of_one_registry():
    registry = health.HealthRegistry()
    registry.add("test", lambda: True)
    assert asyncio.run(HealthRegistry.of(registry).check_all()).status is HEALTHY
    twin = HealthRegistry()
    twin.add("test", says(HEALTHY))
    assert twin.sync.check_all().status is HEALTHY


def test_routes_take_the_registry():
    app = Flask("shop")
    app.config["SVC_INFRA_HEALTH_CACHE_TTL"] = 0
    registry = registry_of(db=says(HEALTHY), cache=(says(UNHEALTHY), {"critical": False}))
    add_health_routes(app, registry)
    client = app.test_client()
    assert client.get("/_health/ready").json["status"] == "degraded"
    assert client.get("/_health/checks/db").json["name"] == "db"
    assert client.get("/_health/checks/cache").status_code == 503
    assert client.get("/_health/checks/none").status_code == 404


@pytest.mark.needs("asgiref")
def test_async_view_awaits_the_registry():
    """Flask runs each async view on a loop of its own and ends it afterwards."""
    app = Flask("shop")
    registry = registry_of(db=says(HEALTHY))

    @app.get("/status")
    async def status():
        return (await registry.check_all()).to_dict()

    for _ in range(3):
        assert app.test_client().get("/status").json["status"] == "healthy"
