"""The one rule by which many checks make one status.

| the check is | healthy | degraded | unhealthy | unknown |
| --- | --- | --- | --- | --- |
| critical | healthy | degraded | unhealthy | unhealthy |
| not critical | healthy | degraded | degraded | degraded |

The worst cell wins. A critical check nobody knows anything about is no reason to send traffic here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .model import AggregatedHealthResult, HealthStatus

if TYPE_CHECKING:
    from .lanes import Report

__all__ = ["aggregate", "passes", "worst_of"]


def passes(status: HealthStatus) -> bool:
    """Tell whether *status* lets traffic through: a degraded service still serves."""
    return status is HealthStatus.HEALTHY or status is HealthStatus.DEGRADED


def worst_of(verdicts: Iterable[tuple[bool, HealthStatus]]) -> HealthStatus:
    """Return the status of the whole from each check's ``(critical, status)``; HEALTHY when there is none."""
    worst = HealthStatus.HEALTHY
    for critical, status in verdicts:
        if status is HealthStatus.HEALTHY:
            continue
        if critical and not passes(status):
            return HealthStatus.UNHEALTHY
        worst = HealthStatus.DEGRADED
    return worst


def aggregate(reports: list[Report]) -> AggregatedHealthResult:
    """Return what *reports* say together."""
    return AggregatedHealthResult(
        status=worst_of((report.check.critical, report.result.status) for report in reports),
        checks=[report.result for report in reports],
        message=None if reports else "No health checks registered",
    )
