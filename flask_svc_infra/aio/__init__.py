"""The async facade: the names of ``health`` and ``resilience``, awaitable where those block.

The documented async code runs unchanged but for its import path. Nothing awaited here blocks the event
loop: sync checks run in the threads of the health runner, async checks on the caller's own loop, so that
they may use what is bound to it (connection pools, clients). There is no rule of its own in here; it only
says who waits where.

The breaker and the retry decorators need no twin: they serve sync and async code alike.
"""

from __future__ import annotations

from ..health import (
    AggregatedHealthResult,
    CheckSnapshot,
    HealthCheck,
    HealthCheckFn,
    HealthCheckResult,
    HealthStatus,
    openapi_paths,
)
from ..resilience import (
    BreakerOptions,
    Breakers,
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerStats,
    CircuitState,
    Forced,
    Outcome,
    Permit,
    Place,
    RetryConfig,
    RetryExhaustedError,
    Transition,
    TripRule,
    consecutive,
    exponential_recovery,
    failure_rate,
    live_breakers,
    live_bulkheads,
    retry_sync,
    slow_rate,
    with_retry,
)
from .checks import (
    check_breaker,
    check_broker,
    check_database,
    check_disk,
    check_dns,
    check_memcached,
    check_redis,
    check_sqlalchemy,
    check_tcp,
    check_url,
)
from .registry import HealthRegistry
from .routes import add_dependency_health, add_health_routes, add_startup_probe

__all__ = [
    "AggregatedHealthResult",
    "BreakerOptions",
    "Breakers",
    "Bulkhead",
    "BulkheadFullError",
    "CheckSnapshot",
    "CircuitBreaker",
    "CircuitBreakerError",
    "CircuitBreakerStats",
    "CircuitState",
    "Forced",
    "HealthCheck",
    "HealthCheckFn",
    "HealthCheckResult",
    "HealthRegistry",
    "HealthStatus",
    "Outcome",
    "Permit",
    "Place",
    "RetryConfig",
    "RetryExhaustedError",
    "Transition",
    "TripRule",
    "add_dependency_health",
    "add_health_routes",
    "add_startup_probe",
    "check_breaker",
    "check_broker",
    "check_database",
    "check_disk",
    "check_dns",
    "check_memcached",
    "check_redis",
    "check_sqlalchemy",
    "check_tcp",
    "check_url",
    "consecutive",
    "exponential_recovery",
    "failure_rate",
    "live_breakers",
    "live_bulkheads",
    "openapi_paths",
    "retry_sync",
    "slow_rate",
    "with_retry",
]
