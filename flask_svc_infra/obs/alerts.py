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
    makers = (
        _high_error_rate,
        _high_latency,
        _circuit_breaker_open,
        _health_check_failing,
        _health_check_stuck,
        _maintenance_left_on,
        _worker_metrics_missing,
    )
    return Group("svc-infra-service", tuple(make(scope) for make in makers))


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


def _health_check_failing(scope: Scope) -> Alert:
    by = f"by ({', '.join((*scope.by, 'check'))})"
    return _alert(
        scope,
        "HealthCheckFailing",
        f"min {by} ({promql.selector('health_check_up', scope.matchers)}) == 0",
        hold="5m",
        severity="warning",
        summary=f"Check {{{{ $labels.check }}}} of {scope.service()} fails",
        description=(
            f"The health check {{{{ $labels.check }}}} of {scope.service()} has been unhealthy or unknown "
            "for more than 5 minutes in at least one pod. If it is critical, that pod gets no traffic."
        ),
    )


def _health_check_stuck(scope: Scope) -> Alert:
    by = f"by ({', '.join((*scope.by, 'check'))})"
    return _alert(
        scope,
        "HealthCheckStuck",
        f"max {by} ({promql.selector('health_check_stuck_seconds', scope.matchers)}) > 60",
        hold="1m",
        severity="warning",
        summary=f"Check {{{{ $labels.check }}}} of {scope.service()} hangs",
        description=(
            f"A run of the health check {{{{ $labels.check }}}} of {scope.service()} has been past its "
            "deadline for {{ $value | humanizeDuration }} without coming back; the limit is 1m. It holds "
            "a thread and perhaps a connection, and no new run starts until it returns."
        ),
    )


def _maintenance_left_on(scope: Scope) -> Alert:
    by = f"by ({', '.join((*scope.by, 'mode'))})"
    on = promql.selector("maintenance_mode", [*scope.matchers, ("mode", "!=", "off")])
    return _alert(
        scope,
        "MaintenanceLeftOn",
        f"max {by} ({on}) == 1",
        hold="2h",
        severity="warning",
        summary=f"Maintenance ({{{{ $labels.mode }}}}) of {scope.service()} is still on",
        description=(
            f"Maintenance of {scope.service()} has been {{{{ $labels.mode }}}} for more than 2 hours in at "
            "least one worker; clients are refused with 503."
        ),
    )


def _worker_metrics_missing(scope: Scope) -> Alert:
    skipped = promql.selector("svc_infra_metric_files_skipped_total", scope.matchers)
    return _alert(
        scope,
        "WorkerMetricsMissing",
        f"sum {scope.grouping} (increase({skipped}[15m])) > 0",
        hold=None,
        severity="warning",
        summary=f"Metrics of a worker of {scope.service()} were lost",
        description=(
            f"In the last 15 minutes {scope.service()} set aside damaged metric files of its workers. What "
            "they counted is missing from the totals, so rates and error budgets may be too low."
        ),
    )
