"""The words of health: a status, one check's result, the answer for all of them.

Nothing here runs anything. Everything is frozen, so a result may be shared between threads, probes and
caches.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..errors import ConfigurationError
from .functions import require_check

__all__ = [
    "DEFAULT_TIMEOUT",
    "AggregatedHealthResult",
    "CheckSnapshot",
    "HealthCheck",
    "HealthCheckFn",
    "HealthCheckResult",
    "HealthStatus",
    "Verdict",
    "require_seconds",
]

DEFAULT_TIMEOUT = 5.0
"""Seconds. The documented default; below the 10 s period of a usual liveness probe."""


class HealthStatus(StrEnum):
    """What a check says about its dependency."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class HealthCheckResult:
    """What one run of a check said.

    Attributes:
        name: the check's name; in a registry always the registered one.
        status: the verdict.
        latency_ms: how long the run took, in milliseconds; a registry puts what it measured here.
        message: why, in words, for whoever is on call.
        details: anything JSON can carry.
    """

    name: str
    status: HealthStatus
    latency_ms: float
    message: str | None = None
    details: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what the probes publish: message and details only where there are any."""
        body: dict[str, Any] = {
            "name": self.name,
            "status": str(self.status),
            "latency_ms": round(self.latency_ms, 2),
        }
        if self.message:
            body["message"] = self.message
        if self.details:
            body["details"] = self.details
        return body


Verdict = HealthCheckResult | HealthStatus | bool
"""What a check may return."""

HealthCheckFn = Callable[[], Verdict | Awaitable[Verdict]]
"""A check: takes nothing, returns a verdict or an awaitable of one, raises when unhealthy."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A check as it is registered.

    Attributes:
        name: unique in its registry, and the last segment of ``/_health/checks/<name>``.
        check_fn: the function that looks.
        critical: whether its failure makes the whole service unhealthy rather than degraded.
        timeout: seconds one run may take, counted from its start.
        groups: the groups it belongs to (``ready``, ``startup``, or any word of yours). None: ``ready``, and
            ``startup`` too when it is critical.
        interval: seconds between runs in the background; None: it runs when it is asked for.
        failures_before_unhealthy: how many runs in a row must fail before a passing check counts as failed.
        successes_before_healthy: how many runs in a row must pass before a failed check counts as passing.

    Raises:
        ConfigurationError: a value cannot work; the message names it.
    """

    name: str
    check_fn: HealthCheckFn
    critical: bool = True
    timeout: float = DEFAULT_TIMEOUT
    groups: tuple[str, ...] | None = None
    interval: float | None = None
    failures_before_unhealthy: int = 1
    successes_before_healthy: int = 1

    def __post_init__(self) -> None:
        _require_name(self.name, "a health check's name")
        subject = f"health check '{self.name}'"
        require_check(subject, self.check_fn)
        if not isinstance(self.critical, bool):
            raise ConfigurationError(
                f"{subject} has critical={self.critical!r}; nothing was registered. Pass True or False."
            )
        require_seconds(subject, "timeout", self.timeout)
        if self.interval is not None:
            require_seconds(subject, "interval", self.interval)
        for option in ("failures_before_unhealthy", "successes_before_healthy"):
            count = getattr(self, option)
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ConfigurationError(
                    f"{subject} has {option}={count!r}; nothing was registered. "
                    "Pass a whole number, at least 1."
                )
        if self.groups is not None:
            if isinstance(self.groups, str):
                raise ConfigurationError(
                    f"{subject} has groups={self.groups!r}, one string; nothing was registered. "
                    f"Pass a tuple: groups=({self.groups!r},)."
                )
            for group in self.groups:
                _require_name(group, f"a group of {subject}")

    def belongs_to(self, group: str) -> bool:
        """Tell whether the check is in *group*."""
        if self.groups is not None:
            return group in self.groups
        return group == "ready" or (group == "startup" and self.critical)


@dataclass(frozen=True, slots=True)
class AggregatedHealthResult:
    """What all checks together say.

    Attributes:
        status: the worst of them, as :func:`~flask_svc_infra.health.aggregation.worst_of` reckons it.
        checks: one result a check, in the order of registration.
        message: a word on the whole, when there is one.
    """

    status: HealthStatus
    checks: list[HealthCheckResult] = field(default_factory=list)
    message: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what the probes publish."""
        body: dict[str, Any] = {
            "status": str(self.status),
            "checks": [each.to_dict() for each in self.checks],
        }
        if self.message:
            body["message"] = self.message
        return body


@dataclass(frozen=True, slots=True)
class CheckSnapshot:
    """What is known about a check without running it: what the metrics show at a scrape.

    Attributes:
        name: its registered name.
        critical: whether it is critical.
        status: what it counts as now; UNKNOWN before its first run.
        duration: seconds its last run took, up to its timeout; None before the first.
        age: seconds since its last run came to a verdict; None before the first.
        stuck_for: seconds since the beginning of a run that is past its timeout and has not ended; None when
            there is none.
    """

    name: str
    critical: bool
    status: HealthStatus
    duration: float | None
    age: float | None
    stuck_for: float | None


def require_seconds(subject: str, option: str, value: Any, *, zero: bool = False) -> float:
    """Return *value* as seconds.

    Raises:
        ConfigurationError: it is not a finite number above zero (with *zero*: zero or more).
    """
    number = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    if not number or value < 0 or (value == 0 and not zero):
        raise ConfigurationError(
            f"{subject} has {option}={value!r}; nothing was changed. "
            f"Pass a number of seconds, {'zero or more' if zero else 'above zero'}."
        )
    return float(value)


def _require_name(name: Any, subject: str) -> None:
    if not isinstance(name, str) or not name.strip() or "/" in name or not name.isprintable():
        raise ConfigurationError(
            f"{subject} is {name!r}; nothing was registered. "
            "Pass a string without slashes or control characters: it is a segment of the probe's path."
        )
