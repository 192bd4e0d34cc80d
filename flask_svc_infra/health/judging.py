"""From what a check returned or raised to a result that may be shown to anyone.

Pure, but for taking the secrets out. Whatever a check does (nothing, a tuple, a million characters,
SystemExit), there is exactly one answer here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .aggregation import passes
from .model import HealthCheck, HealthCheckResult, HealthStatus
from .redaction import clean, describe, redact

if TYPE_CHECKING:
    from .hysteresis import Standing

__all__ = ["held_back", "judge", "judge_exception", "overdue"]


def judge(name: str, value: Any, latency_ms: float) -> HealthCheckResult:
    """Return the result of a check that returned *value*.

    The registered *name* and the measured *latency_ms* win over what the check put there; its own object is
    left alone, since it may share it with others.
    """
    if isinstance(value, HealthCheckResult):
        return _judge_result(name, value, latency_ms)
    if isinstance(value, HealthStatus):
        return HealthCheckResult(name, value, latency_ms)
    if isinstance(value, bool):
        return HealthCheckResult(name, HealthStatus.HEALTHY if value else HealthStatus.UNHEALTHY, latency_ms)
    return HealthCheckResult(name, HealthStatus.UNKNOWN, latency_ms, message=_wrong_type(name, value))


def judge_exception(name: str, exc: BaseException, latency_ms: float) -> HealthCheckResult:
    """Return the result of a check that raised *exc*: unhealthy, with what it said."""
    said = describe(exc)
    if not isinstance(exc, Exception):
        said = f"check raised {type(exc).__name__}" + ("" if said == type(exc).__name__ else f": {said}")
    return HealthCheckResult(name, HealthStatus.UNHEALTHY, latency_ms, message=said)


def overdue(check: HealthCheck, *, running_for: float | None = None) -> HealthCheckResult:
    """Return the result of a run that did not end within its timeout.

    Args:
        check: whose run it is.
        running_for: seconds since it began, when it is still going on long after.
    """
    message = f"Check timed out after {check.timeout:g}s"
    if running_for is not None:
        message += f"; it has been running for {running_for:.0f}s and is not started again until it ends"
    return HealthCheckResult(check.name, HealthStatus.UNHEALTHY, check.timeout * 1000, message=message)


def held_back(check: HealthCheck, result: HealthCheckResult, standing: Standing) -> HealthCheckResult:
    """Return *result* with the status the check counts as, and say so where it found another."""
    if result.status is standing.status:
        return result
    failing = not passes(result.status)
    needed = check.failures_before_unhealthy if failing else check.successes_before_healthy
    message = f"{'failed' if failing else 'passed'} {standing.against} of {needed} times before it counts"
    if result.message:
        message += f": {result.message}"
    return HealthCheckResult(result.name, standing.status, result.latency_ms, message, result.details)


def _judge_result(name: str, value: HealthCheckResult, latency_ms: float) -> HealthCheckResult:
    try:
        status = HealthStatus(value.status)
    except ValueError:
        return HealthCheckResult(
            name,
            HealthStatus.UNKNOWN,
            latency_ms,
            message=f"check '{name}' returned a result with a status that is none; use a HealthStatus",
        )
    said: Any = value.message
    message = None if said is None else redact(said if isinstance(said, str) else str(clean(said)))
    details = clean(value.details) if isinstance(value.details, Mapping) else None
    return HealthCheckResult(name, status, latency_ms, message or None, details or None)


def _wrong_type(name: str, value: Any) -> str:
    got = "None" if value is None else f"a {type(value).__name__}"
    return f"check '{name}' returned {got}; return a HealthCheckResult, a HealthStatus or a bool"
