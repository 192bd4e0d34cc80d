"""The async facade: the names of ``health`` and ``resilience``, awaitable where those block.

The documented async code runs unchanged but for its import path. Nothing awaited here blocks the event loop: sync
checks run in the threads of the health runner, async checks on the caller's own loop, so that they may use what
is bound to it (connection pools, clients). There is no rule of its own in here; it only says who waits where.

The breaker and the retry decorators need no twin: they serve sync and async code alike.
"""

from __future__ import annotations

from ..health import AggregatedHealthResult, HealthCheck, HealthCheckFn, HealthCheckResult, HealthStatus
from ..resilience import (
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerStats,
    CircuitState,
    RetryConfig,
    RetryExhaustedError,
    retry_sync,
    with_retry,
)
from .checks import check_database, check_redis, check_tcp, check_url
from .registry import HealthRegistry
from .routes import add_dependency_health, add_health_routes, add_startup_probe

__all__ = [
    "AggregatedHealthResult",
    "CircuitBreaker",
    "CircuitBreakerError",
    "CircuitBreakerStats",
    "CircuitState",
    "HealthCheck",
    "HealthCheckFn",
    "HealthCheckResult",
    "HealthRegistry",
    "HealthStatus",
    "RetryConfig",
    "RetryExhaustedError",
    "add_dependency_health",
    "add_health_routes",
    "add_startup_probe",
    "check_database",
    "check_redis",
    "check_tcp",
    "check_url",
    "retry_sync",
    "with_retry",
]
