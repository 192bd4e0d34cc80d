"""Small pieces the acceptance tests share: fixed answers, failing calls, a scrape that is parsed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from flask_svc_infra.health import HealthCheckResult, HealthRegistry, HealthStatus, add_health_routes
from flask_svc_infra.resilience import CircuitBreaker, CircuitState

if TYPE_CHECKING:
    from flask.testing import FlaskClient


HEALTHY, DEGRADED, UNHEALTHY, UNKNOWN = (
    HealthStatus.HEALTHY,
    HealthStatus.DEGRADED,
    HealthStatus.UNHEALTHY,
    HealthStatus.UNKNOWN,
)


class Boom(Exception):
    """A failure of the dependency."""


def answers(status: HealthStatus, name: str = "own-name", **more) -> Callable[[], HealthCheckResult]:
    """Return a check that always gives *status*."""

    def check() -> HealthCheckResult:
        return HealthCheckResult(name=name, status=status, latency_ms=1.0, **more)

    return check


def registry_of(**statuses) -> HealthRegistry:
    """``registry_of(db=HEALTHY, cache=(UNHEALTHY, False))``: a pair's second part is *critical*."""
    registry = HealthRegistry()
    for name, given in statuses.items():
        status, critical = given if isinstance(given, tuple) else (given, True)
        registry.add(name, answers(status), critical=critical)
    return registry


def bare_app(**config) -> Flask:
    """A Flask app whose probes run their checks at every request, so that a test sees each answer fresh."""
    app = Flask("contract_app")
    app.config["SVC_INFRA_HEALTH_CACHE_TTL"] = 0
    app.config.update(config)
    return app


def served(registry: HealthRegistry, **options) -> FlaskClient:
    app = bare_app()
    add_health_routes(app, registry, **options)
    return app.test_client()


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    """Let *times* calls fail under *breaker*."""
    for _ in range(times):
        with pytest.raises(Boom), breaker:
            raise Boom("dependency down")


def succeed(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with breaker:
            pass


def eventually(condition: Callable[[], object], within: float = 10.0) -> bool:
    """Ask *condition* until it holds; False when it does not within *within* seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return bool(condition())


@contextmanager
def faster_than(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"took {took:.2f}s, allowed {seconds}s"


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(client: FlaskClient, path: str = "/metrics") -> Samples:
    """Scrape and parse strictly; a series that appears twice fails."""
    response = client.get(path)
    assert response.status_code == 200, response.get_data(as_text=True)[:300]
    samples: Samples = {}
    for family in text_string_to_metric_families(response.get_data(as_text=True)):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, f"{key} appears twice"
            samples[key] = sample.value
    return samples


def value(samples: Samples, metric: str, /, **labels: str) -> float | None:
    return samples.get((metric, frozenset(labels.items())))


def series(samples: Samples, name: str) -> list[dict[str, str]]:
    return [dict(labels) for (sample, labels) in samples if sample == name]


def run_python(code: str, *, timeout: float = 20.0, env: dict[str, str] | None = None) -> str:
    """Run *code* in a fresh interpreter, return its stdout, fail with its stderr when it exits non-zero."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=env,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


SOON = 0.02
"""Seconds after which a tripped breaker lets trials through."""


def wait_for_recovery():
    time.sleep(SOON * 1.5)


def tripped(**options) -> CircuitBreaker:
    """A breaker opened by one failure, that lets trials through after a moment."""
    breaker = CircuitBreaker("dep", **{"failure_threshold": 1, "recovery_timeout": SOON, **options})
    fail(breaker, breaker.failure_threshold if hasattr(breaker, "failure_threshold") else 1)
    assert breaker.state is CircuitState.OPEN
    return breaker


def half_open(**options) -> CircuitBreaker:
    """A breaker whose recovery timeout has passed: the next call is a trial."""
    breaker = tripped(**options)
    wait_for_recovery()
    return breaker
