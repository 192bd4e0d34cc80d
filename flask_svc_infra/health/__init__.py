"""Health checks: a registry of them, the built-in ones, and the probes that ask them.

The names are resolved at first use: importing the package imports neither Flask nor a driver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checks.breaker import check_breaker
    from .checks.broker import check_broker
    from .checks.database import check_database
    from .checks.disk import check_disk
    from .checks.dns import check_dns
    from .checks.memcached import check_memcached
    from .checks.redis import check_redis
    from .checks.sqlalchemy import check_sqlalchemy
    from .checks.tcp import check_tcp
    from .checks.url import check_url
    from .model import (
        AggregatedHealthResult,
        CheckSnapshot,
        HealthCheck,
        HealthCheckFn,
        HealthCheckResult,
        HealthStatus,
    )
    from .openapi import openapi_paths
    from .registry import HealthRegistry
    from .routes import add_dependency_health, add_health_routes
    from .startup import add_startup_probe

_HOMES = {
    "AggregatedHealthResult": "model",
    "CheckSnapshot": "model",
    "HealthCheck": "model",
    "HealthCheckFn": "model",
    "HealthCheckResult": "model",
    "HealthRegistry": "registry",
    "HealthStatus": "model",
    "add_dependency_health": "routes",
    "add_health_routes": "routes",
    "add_startup_probe": "startup",
    "check_breaker": "checks.breaker",
    "check_broker": "checks.broker",
    "check_database": "checks.database",
    "check_disk": "checks.disk",
    "check_dns": "checks.dns",
    "check_memcached": "checks.memcached",
    "check_redis": "checks.redis",
    "check_sqlalchemy": "checks.sqlalchemy",
    "check_tcp": "checks.tcp",
    "check_url": "checks.url",
    "openapi_paths": "openapi",
}

__all__ = [
    "AggregatedHealthResult",
    "CheckSnapshot",
    "HealthCheck",
    "HealthCheckFn",
    "HealthCheckResult",
    "HealthRegistry",
    "HealthStatus",
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
    "openapi_paths",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
