"""The test aids: each does what it says, and puts back what it found."""

from __future__ import annotations

import asyncio
import doctest
import time

import pytest
from flask import Flask

from flask_svc_infra import SvcInfra, aio, testing
from flask_svc_infra.errors import CircuitBreakerError, ConfigurationError, RetryExhaustedError
from flask_svc_infra.events import health_changed
from flask_svc_infra.health import HealthRegistry, HealthStatus
from flask_svc_infra.ops import Maintenance, add_maintenance_mode
from flask_svc_infra.resilience import CircuitBreaker, CircuitState, retry_sync, with_retry
from flask_svc_infra.testing import FakeClock, forced, in_maintenance, no_retry_delays, set_status


class Failure(Exception):
    """A test that fails inside the block."""


def test_examples_in_the_docstrings_hold():
    example = doctest.DocTestFinder().find(FakeClock, "FakeClock", globs={"FakeClock": FakeClock})
    outcome = [doctest.DocTestRunner().run(test) for test in example]
    assert sum(result.attempted for result in outcome) == 3
    assert sum(result.failed for result in outcome) == 0


def test_all_is_sorted_and_there():
    assert testing.__all__ == sorted(testing.__all__, key=lambda name: (not name[0].isupper(), name))
    assert all(hasattr(testing, name) for name in testing.__all__)


def test_fake_clock_moves_only_when_told_to():
    clock = FakeClock(start=5.0)
    assert clock() == clock() == 5.0
    clock.advance(2.0)
    assert clock() == 7.0
    with pytest.raises(ValueError, match="does not go back by 1s"):
        clock.advance(-1.0)
    assert clock() == 7.0
    asyncio.run(clock.async_sleep(3.0))
    assert (clock(), clock.sleeps) == (10.0, [3.0])


def test_fake_clock_drives_a_breaker():
    clock = FakeClock()
    breaker = CircuitBreaker("payments", failure_threshold=1, recovery_timeout=30.0, clock=clock)
    with pytest.raises(Failure), breaker:
        raise Failure
    clock.advance(29.0)
    assert breaker.remaining_timeout == pytest.approx(1.0)


def call(breaker):
    with breaker:
        return "called"


@pytest.mark.parametrize("state", [CircuitState.OPEN, "open"])
def test_forced_open_refuses_and_is_closed_afterwards(state):
    breaker = CircuitBreaker("payments")
    with forced(breaker, state) as same:
        assert same is breaker
        with pytest.raises(CircuitBreakerError):
            call(breaker)
    assert (breaker.state, breaker.forced) == (CircuitState.CLOSED, None)
    assert call(breaker) == "called"


def test_forced_closed_counts_no_failure():
    breaker = CircuitBreaker("payments", failure_threshold=1)
    with forced(breaker, "closed"):
        for _ in range(3):
            with pytest.raises(Failure), breaker:
                raise Failure
        assert breaker.state is CircuitState.CLOSED
    assert breaker.forced is None


def test_forced_puts_back_what_a_person_had_forced_also_when_the_test_fails():
    breaker = CircuitBreaker("payments")
    breaker.force_open(reason="provider is down")
    with pytest.raises(Failure), forced(breaker, "closed"):
        assert call(breaker) == "called"
        raise Failure
    assert (breaker.forced.kind, breaker.forced.reason) == ("open", "provider is down")


def test_forced_blocks_may_be_nested():
    breaker = CircuitBreaker("payments")
    with forced(breaker, "open"):
        with forced(breaker, "closed"):
            assert call(breaker) == "called"
        with pytest.raises(CircuitBreakerError):
            call(breaker)
    assert breaker.forced is None


def test_half_open_cannot_be_forced():
    breaker = CircuitBreaker("payments")
    with pytest.raises(ConfigurationError, match="'payments' cannot be forced half-open"):
        with forced(breaker, "half_open"):
            pytest.fail("the block ran")
    with pytest.raises(ValueError, match="ajar"):
        with forced(breaker, "ajar"):
            pytest.fail("the block ran")
    assert breaker.forced is None


def served(registry) -> Flask:
    app = Flask("shop")
    aio.add_health_routes(app, registry)
    return app


@pytest.mark.parametrize("kind", [HealthRegistry, aio.HealthRegistry])
@pytest.mark.parametrize(
    ("status", "code"), [("unhealthy", 503), ("degraded", 200), (HealthStatus.UNKNOWN, 503)]
)
def test_set_status_shows_in_the_probes_at_once(kind, status, code):
    registry = kind()
    registry.add("database", lambda: True)
    client = served(registry).test_client()
    assert client.get("/_health/ready").status_code == 200  # and cached
    with set_status(registry, "database", status, message="the test says so"):
        answer = client.get("/_health/ready")
        assert answer.status_code == code
        (check,) = answer.json["checks"]
        assert (check["status"], check["message"]) == (str(status), "the test says so")
    assert client.get("/_health/ready").status_code == 200


def test_set_status_does_not_run_the_check():
    def never():
        pytest.fail("the check ran")

    registry = HealthRegistry()
    registry.add("database", never)
    with set_status(registry, "database", "healthy"):
        assert registry.check_all().status is HealthStatus.HEALTHY


def test_set_status_shows_in_metrics_and_events_however_many_runs_it_usually_takes():
    registry = HealthRegistry()
    registry.add("database", lambda: True, critical=False, failures_before_unhealthy=3)
    registry.check_all()
    told = []

    def listen(_, event):
        told.append((event.old, event.new))

    health_changed.connect(listen, sender=registry)
    with set_status(registry, "database", "unhealthy"):
        (shown,) = registry.snapshot()
        assert (shown.status, shown.critical) == (HealthStatus.UNHEALTHY, False)
    assert told == [(HealthStatus.HEALTHY, HealthStatus.UNHEALTHY)]
    assert registry.snapshot()[0].status is HealthStatus.HEALTHY


def test_set_status_puts_the_check_back_when_the_test_fails():
    registry = HealthRegistry()
    registry.add("database", lambda: True, timeout=2.0)
    before = registry.checks
    with pytest.raises(Failure), set_status(registry, "database", "unhealthy"):
        raise Failure
    assert registry.checks == before
    assert registry.check_one("database").status is HealthStatus.HEALTHY


def test_set_status_leaves_a_check_removed_meanwhile_removed():
    registry = HealthRegistry()
    registry.add("database", lambda: True)
    with set_status(registry, "database", "unhealthy"):
        registry.remove("database")
    assert registry.checks == []


def test_set_status_refuses_an_unknown_check_and_an_unknown_status():
    registry = HealthRegistry()
    registry.add("database", lambda: True)
    with pytest.raises(KeyError, match="not found"), set_status(registry, "cache", "healthy"):
        pytest.fail("the block ran")
    with pytest.raises(ValueError, match="poorly"), set_status(registry, "database", "poorly"):
        pytest.fail("the block ran")


def test_no_retry_delays_keeps_the_attempts_and_drops_the_waits():
    attempts = []

    @retry_sync(max_attempts=4, base_delay=60.0)
    def fetch():
        attempts.append("sync")
        raise ConnectionError

    @with_retry(max_attempts=4, base_delay=60.0)
    async def fetch_async():
        attempts.append("async")
        raise ConnectionError

    began = time.monotonic()
    with no_retry_delays(), no_retry_delays():
        with pytest.raises(RetryExhaustedError):
            fetch()
        with pytest.raises(RetryExhaustedError):
            asyncio.run(fetch_async())
    assert time.monotonic() - began < 5
    assert attempts == ["sync"] * 4 + ["async"] * 4


def test_retries_wait_again_after_the_block():
    waited = []

    @retry_sync(max_attempts=2, base_delay=0.05, jitter=0)
    def fetch():
        waited.append(time.monotonic())
        raise ConnectionError

    with pytest.raises(Failure), no_retry_delays():
        raise Failure
    with pytest.raises(RetryExhaustedError):
        fetch()
    assert waited[1] - waited[0] >= 0.05


def shop_under(maintenance: Maintenance) -> Flask:
    app = Flask("shop")
    add_maintenance_mode(app, maintenance=maintenance)

    @app.route("/orders", methods=["GET", "POST"])
    def orders():
        return "ok"

    return app


def test_in_maintenance_refuses_and_lets_pass_afterwards():
    maintenance = Maintenance()
    client = shop_under(maintenance).test_client()
    with in_maintenance(maintenance):
        assert client.post("/orders").status_code == 503
        assert client.get("/orders").status_code == 200
        with in_maintenance(maintenance, "full"):
            assert client.get("/orders").status_code == 503
        assert client.get("/orders").status_code == 200
    assert client.post("/orders").status_code == 200


def test_in_maintenance_puts_an_order_back():
    maintenance = Maintenance()
    maintenance.enable(mode="full", reason="migration")
    with pytest.raises(Failure), in_maintenance(maintenance):
        raise Failure
    assert (maintenance.status().mode, maintenance.status().reason) == ("full", "migration")


def test_aids_work_on_an_app_that_wears_the_whole_extension():
    app = Flask("shop")
    infra = SvcInfra(app)
    infra.health.add("database", lambda: True)
    payments = infra.breaker("payments-under-test")

    @app.post("/orders")
    def order():
        with payments:
            return "paid"

    client = app.test_client()
    with set_status(infra.health, "database", "unhealthy"), forced(payments, "open"):
        assert client.get("/_health/ready").status_code == 503
        assert client.post("/orders").status_code == 503
        assert (
            'circuit_breaker_state{name="payments-under-test",state="open"} 1.0'
            in client.get("/metrics").text
        )
    assert client.post("/orders").data == b"paid"
    assert client.get("/_health/ready").status_code == 200
