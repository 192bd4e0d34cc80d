"""The built-in checks, awaited, against real servers."""

from __future__ import annotations

import asyncio
import threading
import time
from socket import create_server

import pytest
from flask import Flask

from flask_svc_infra.aio import (
    CircuitBreaker,
    HealthRegistry,
    HealthStatus,
    add_dependency_health,
    add_startup_probe,
    check_breaker,
    check_database,
    check_redis,
    check_tcp,
    check_url,
)
from flask_svc_infra.aio.call import Call
from flask_svc_infra.errors import ConfigurationError

from .test_registry import ticking

HEALTHY, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.UNHEALTHY


def run(check):
    return asyncio.run(check())


def test_database(postgres):
    check = check_database(postgres.url)
    assert check.name == "database"
    result = run(check)
    assert (result.name, result.status) == ("database", HEALTHY)
    assert result.latency_ms > 0


@pytest.mark.parametrize("url", [None, ""])
def test_nothing_configured_is_unhealthy(url):
    for factory in (check_database, check_redis, check_url):
        result = run(factory(url))
        assert result.status is UNHEALTHY
        assert "not configured" in result.message


def test_malformed_url_is_refused_when_the_check_is_made():
    with pytest.raises(ConfigurationError):
        check_database("mysql://me:s3cret@host/db")


def test_redis(valkey):
    result = run(check_redis(valkey.url))
    assert (result.name, result.status) == ("redis", HEALTHY)


def test_url(web):
    assert run(check_url(web.url)).status is HEALTHY
    web.status = 503
    result = run(check_url(web.url))
    assert result.status is UNHEALTHY
    assert "Expected status 200" in result.message
    web.status = 204
    assert run(check_url(web.url, expected_status=204)).status is HEALTHY


def test_tcp():
    with create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check = check_tcp("127.0.0.1", port)
        assert run(check).status is HEALTHY
    result = run(check)
    assert (result.name, result.status) == (f"127.0.0.1:{port}", UNHEALTHY)


def test_breaker():
    breaker = CircuitBreaker("payments")
    assert run(check_breaker(breaker)).status is HEALTHY


def test_hung_database_does_not_block_the_loop(postgres):
    async def main() -> None:
        registry = HealthRegistry()
        registry.add("database", check_database(postgres.url), timeout=0.5)
        assert (await registry.check_all()).status is HEALTHY
        postgres.stop()
        async with ticking():
            result = await registry.check_one("database")
        assert result.status is UNHEALTHY
        assert result.latency_ms < 1500

    asyncio.run(main())


def test_awaited_checks_run_beside_each_other(web):
    web.delay = 0.6

    async def main() -> None:
        check = check_url(web.url)
        began = time.monotonic()
        async with ticking():
            results = await asyncio.gather(*(check() for _ in range(8)))
        assert {result.status for result in results} == {HEALTHY}
        assert time.monotonic() - began < 3

    asyncio.run(main())


def test_registered_check_runs_in_the_runners_thread(web):
    """Not on the loop and from there in another thread: one thread a run, and none for the waiting."""
    before = set(threading.enumerate())
    web.delay = 0.3

    async def main() -> None:
        registry = HealthRegistry()
        registry.add("api", check_url(web.url))
        task = asyncio.create_task(registry.check_all())
        await asyncio.sleep(0.15)
        ours = {t.name for t in set(threading.enumerate()) - before if t.name.startswith("svc-infra")}
        assert ours == {"svc-infra-check-api"}
        await task

    asyncio.run(main())


def test_registered_timeout_reaches_the_driver(web):
    web.delay = 5

    async def main() -> None:
        registry = HealthRegistry()
        registry.add("api", check_url(web.url), timeout=0.3)
        began = time.monotonic()
        assert (await registry.check_one("api")).status is UNHEALTHY
        assert time.monotonic() - began < 1.5

    asyncio.run(main())


def test_custom_async_check_may_await_a_built_in_one(web):
    check = check_url(web.url)

    async def shop():
        return (await check()).status

    async def main() -> None:
        registry = HealthRegistry()
        registry.add("shop", shop)
        assert (await registry.check_one("shop")).status is HEALTHY

    asyncio.run(main())


def test_hung_driver_inside_an_async_check_is_not_started_beside_itself():
    release = threading.Event()
    started = []

    def stubborn():
        started.append(1)
        release.wait(20)
        return True

    async def custom():
        return await Call().result_of(stubborn)  # as the built-in checks do when they are awaited

    async def main() -> None:
        registry = HealthRegistry()
        registry.add("custom", custom, timeout=0.2)
        for _ in range(3):
            assert (await registry.check_one("custom")).status is UNHEALTHY
        assert len(started) == 1
        release.set()

    asyncio.run(main())


def test_startup_probe_waits_for_awaited_checks(web):
    app = Flask("shop")
    add_startup_probe(app, [check_url(web.url)], timeout=5)
    web.status = 503
    with pytest.raises(RuntimeError, match=r"127\.0\.0\.1"):
        add_startup_probe(Flask("late"), [check_url(web.url)], timeout=0.3, interval=0.1)


def test_dependency_health_takes_awaited_checks(web):
    app = Flask("shop")
    app.config["SVC_INFRA_HEALTH_CACHE_TTL"] = 0
    add_dependency_health(app, "api", check_url(web.url))
    add_dependency_health(app, "cache", check_tcp("127.0.0.1", 1), critical=False)
    body = app.test_client().get("/_health/ready").json
    assert body["status"] == "degraded"
    assert [check["name"] for check in body["checks"]] == ["api", "cache"]
