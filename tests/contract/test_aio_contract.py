"""flask_svc_infra.aio: the documented async code, unchanged but for its import path."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from contract._parts import HEALTHY, UNHEALTHY, Boom, answers, bare_app, faster_than

from flask_svc_infra import resilience
from flask_svc_infra.aio import (
    CircuitBreaker,
    CircuitBreakerError,
    CircuitState,
    HealthCheckResult,
    HealthRegistry,
    HealthStatus,
    RetryExhaustedError,
    add_health_routes,
    check_database,
    check_redis,
    check_tcp,
    check_url,
    retry_sync,
    with_retry,
)


async def healthy() -> HealthCheckResult:
    return HealthCheckResult(name="h", status=HealthStatus.HEALTHY, latency_ms=1)


async def unhealthy() -> HealthCheckResult:
    return HealthCheckResult(name="u", status=HealthStatus.UNHEALTHY, latency_ms=1)


def test_check_all_is_awaited():
    async def main():
        registry = HealthRegistry()
        registry.add("one", healthy)
        registry.add("cache", unhealthy, critical=False)
        return await registry.check_all()

    result = asyncio.run(main())
    assert result.status is HealthStatus.DEGRADED
    assert [c.name for c in result.checks] == ["one", "cache"]


def test_check_one_is_awaited_and_knows_its_errors():
    async def main():
        registry = HealthRegistry()
        registry.add("one", healthy)
        with pytest.raises(KeyError, match="not found"):
            await registry.check_one("two")
        return await registry.check_one("one")

    assert asyncio.run(main()).name == "one"


def test_documented_startup_wait_runs_unchanged():
    async def main():
        registry = HealthRegistry()
        registry.add("db", unhealthy)
        if not await registry.wait_until_healthy(timeout=0.1, interval=0.02):
            result = await registry.check_all()
            failed = [c.name for c in result.checks if c.status != HealthStatus.HEALTHY]
            raise RuntimeError(f"Dependencies not ready: {failed}")

    with faster_than(3), pytest.raises(RuntimeError, match=r"\['db'\]"):
        asyncio.run(main())


def test_wait_succeeds_when_the_check_becomes_healthy():
    calls = []

    async def becomes_healthy():
        calls.append(1)
        return len(calls) >= 3

    async def main():
        registry = HealthRegistry()
        registry.add("db", becomes_healthy)
        return await registry.wait_until_healthy(timeout=5, interval=0.02)

    assert asyncio.run(main()) is True
    assert len(calls) == 3


def test_wait_refuses_no_names_and_unknown_names():
    async def main():
        registry = HealthRegistry()
        registry.add("db", healthy)
        with pytest.raises(ValueError, match="check_names"):
            await registry.wait_until_healthy(check_names=[])
        with pytest.raises(KeyError):
            await registry.wait_until_healthy(check_names=["x"])

    asyncio.run(main())


def test_sync_checks_may_be_registered_too():
    async def main():
        registry = HealthRegistry()
        registry.add("sync", answers(HEALTHY))
        return await registry.check_all()

    assert asyncio.run(main()).status is HEALTHY


def test_blocking_check_does_not_block_the_event_loop():
    ticks = []

    async def ticker():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.005)

    async def main():
        registry = HealthRegistry()
        registry.add("slow", lambda: time.sleep(0.1) or True)
        task = asyncio.create_task(ticker())
        result = await registry.check_all()
        task.cancel()
        return result

    assert asyncio.run(main()).status is HEALTHY
    assert len(ticks) >= 5


def test_checks_run_at_the_same_time():
    async def slow():
        await asyncio.sleep(0.3)
        return True

    async def main():
        registry = HealthRegistry()
        for n in range(10):
            registry.add(f"c{n}", slow)
        return await registry.check_all()

    with faster_than(2.0):
        assert asyncio.run(main()).status is HEALTHY


def test_timeout_of_an_async_check_is_kept():
    async def hangs():
        await asyncio.sleep(10)
        return True

    async def main():
        registry = HealthRegistry()
        registry.add("slow", hangs, timeout=0.1)
        return await registry.check_one("slow")

    with faster_than(3):
        result = asyncio.run(main())
    assert result.status is UNHEALTHY
    assert "timed out" in result.message


def test_cancelling_the_caller_is_prompt():
    release = threading.Event()

    async def main():
        registry = HealthRegistry()
        registry.add("hung", lambda: release.wait(5), timeout=5)
        task = asyncio.create_task(registry.check_all())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with faster_than(3):
        asyncio.run(main())
    release.set()


def test_add_health_routes_takes_the_async_registry():
    registry = HealthRegistry()
    registry.add("db", unhealthy)
    registry.add("ok", healthy)
    app = bare_app()
    add_health_routes(app, registry)
    response = app.test_client().get("/_health/ready")
    assert response.status_code == 503
    assert [c["name"] for c in response.json["checks"]] == ["db", "ok"]


def test_documented_factories_work_when_awaited_or_registered(web):
    async def main():
        registry = HealthRegistry()
        registry.add("api", check_url(web.url))
        registry.add("port", check_tcp("127.0.0.1", web.port))
        return await registry.check_all()

    assert asyncio.run(main()).status is HEALTHY


def test_factory_functions_are_awaitable():
    async def main():
        results = [await check_database(None)(), await check_redis("")(), await check_tcp("127.0.0.1", 1)()]
        assert [r.status for r in results] == [UNHEALTHY] * 3
        assert [r.name for r in results] == ["database", "redis", "127.0.0.1:1"]
        assert "not configured" in results[0].message

    asyncio.run(main())


# --- resilience ---------------------------------------------------------------------------------------------


def test_documented_breaker_code_runs_unchanged():
    breaker = CircuitBreaker(name="payment-api", failure_threshold=2, recovery_timeout=30.0)
    queued = []

    async def process_payment(amount):
        try:
            async with breaker:
                raise Boom
        except CircuitBreakerError as e:
            queued.append(str(e))
            return "queued"

    async def main():
        for _ in range(2):
            with pytest.raises(Boom):
                await process_payment(1)
        return await process_payment(1)

    assert asyncio.run(main()) == "queued"
    assert breaker.state == CircuitState.OPEN
    assert queued


def test_protect_guards_an_async_function():
    breaker = CircuitBreaker("external-api", failure_threshold=1)

    @breaker.protect
    async def call_external(fails):
        if fails:
            raise Boom
        return "data"

    assert asyncio.run(call_external(False)) == "data"
    with pytest.raises(Boom):
        asyncio.run(call_external(True))
    with pytest.raises(CircuitBreakerError):
        asyncio.run(call_external(False))


def test_combined_retry_and_breaker_as_documented():
    api_breaker = CircuitBreaker("external-api", failure_threshold=2)
    calls = []

    @with_retry(max_attempts=3, base_delay=0.001, retry_on=(TimeoutError, ConnectionError))
    async def fetch_with_retry():
        async with api_breaker:
            calls.append(1)
            raise ConnectionError

    async def fetch_data():
        try:
            return await fetch_with_retry()
        except CircuitBreakerError:
            return "cached"

    assert asyncio.run(fetch_data()) == "cached"
    assert len(calls) == 2


def test_documented_exhaustion_code_runs_unchanged():
    @with_retry(max_attempts=3, base_delay=0.001)
    async def never_works():
        raise ValueError("no use")

    async def main():
        try:
            await never_works()
        except RetryExhaustedError as e:
            return e.attempts, str(e.last_exception)

    assert asyncio.run(main()) == (3, "no use")


def test_retry_sync_is_there_for_sync_functions():
    calls = []

    @retry_sync(max_attempts=3, base_delay=0.001)
    def fetch_config():
        calls.append(1)
        if len(calls) < 2:
            raise ConnectionError
        return "config"

    assert fetch_config() == "config"


def test_errors_are_the_same_classes_in_both_worlds():
    assert CircuitBreakerError is resilience.CircuitBreakerError
    assert RetryExhaustedError is resilience.RetryExhaustedError


def test_registry_may_be_used_from_several_event_loops_in_turn():
    registry = HealthRegistry()
    registry.add("one", healthy)
    for _ in range(3):
        assert asyncio.run(registry.check_all()).status is HEALTHY
