"""The alerts every service gets, whatever its objectives.

The first three are the documented ones, corrected: each service on its own, probes left out, the breaker's
alert blind to how many workers there are. Thresholds and durations are the documentation's.
"""

from __future__ import annotations

from . import promql
from .rules import Alert, Group, Scope

__all__ = ["service_alerts"]


def service_alerts(scope: Scope | None = None) -> Group:
    """Make the alerts that need no objective."""
    scope = scope or Scope()
    rules = (_high_error_rate(scope), _high_latency(scope), _circuit_breaker_open(scope))
    return Group("svc-infra-service", rules)


def _alert(
    scope: Scope, name: str, expr: str, *, hold: str | None, severity: str, summary: str, description: str
) -> Alert:
    return Alert(
        name,
        expr,
        hold,
        {**scope.labels, "severity": severity},
        {"summary": summary, "description": description, "runbook_url": scope.runbook(name)},
    )


def _high_error_rate(scope: Scope) -> Alert:
    total = promql.selector("http_requests_total", scope.customers())
    failed = promql.selector("http_requests_total", [*scope.customers(), ("status", "=~", "5..")])
    return _alert(
        scope,
        "HighErrorRate",
        f"sum {scope.grouping} (rate({failed}[5m]))\n/ sum {scope.grouping} (rate({total}[5m]))\n> 0.01",
        hold="2m",
        severity="warning",
        summary=f"{scope.service()} fails {{{{ $value | humanizePercentage }}}} of its requests",
        description=(
            f"{{{{ $value | humanizePercentage }}}} of the requests to {scope.service()} were answered 5xx "
            "over the last 5 minutes; the limit is 1%. Probes are not counted."
        ),
    )


def _high_latency(scope: Scope) -> Alert:
    buckets = promql.selector("http_request_duration_seconds_bucket", scope.customers())
    grouping = f"by ({', '.join((*scope.by, 'le'))})"
    return _alert(
        scope,
        "HighLatency",
        f"histogram_quantile(0.99, sum {grouping} (rate({buckets}[5m])))\n> 2",
        hold="5m",
        severity="warning",
        summary=f"{scope.service()} is slow: P99 is {{{{ $value | humanizeDuration }}}}",
        description=(
            f"One request in a hundred to {scope.service()} took {{{{ $value | humanizeDuration }}}} "
            "or longer over the last 5 minutes; the limit is 2s. Probes are not counted."
        ),
    )


def _circuit_breaker_open(scope: Scope) -> Alert:
    by = f"by ({', '.join((*scope.by, 'name'))})"
    opened = promql.selector("circuit_breaker_state", [*scope.matchers, ("state", "=", "open")])
    trying = promql.selector("circuit_breaker_state", [*scope.matchers, ("state", "=", "half_open")])
    return _alert(
        scope,
        "CircuitBreakerOpen",
        f"max {by} ({opened}) == 1\n"
        "or (\n"
        f"  max {by} ({trying}) == 1\n"
        f"  and max {by} (max_over_time({opened}[5m])) == 1\n"
        ")",
        hold="1m",
        severity="critical",
        summary=f"Circuit {{{{ $labels.name }}}} of {scope.service()} is open",
        description=(
            f"The circuit breaker {{{{ $labels.name }}}} of {scope.service()} has been open for more than "
            "a minute in at least one worker: calls to what it guards are refused. A trial under way in "
            "between (half-open) does not end the alert; closing does."
        ),
    )
