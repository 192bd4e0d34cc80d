"""From objectives to Prometheus: recording rules, burn-rate alerts, an alert for when nothing can be judged.

What is recorded for each objective, with the label ``slo`` and the labels that tell services apart:

==========================================  ================================================================
``slo:requests:rate5m``, ``...:rate1h``     requests that count, per second
``slo:errors:rate5m``, ``...:rate1h``       those of them that were bad; 0, not absent, when none was
``slo:requests:every5m`` (``slo:errors:``)  the rates over 5m, kept every 5m: each request is in just one
``slo:error_ratio{window=...}``             bad of all, over 5m, 30m, 1h, 2h, 6h, 1d, 3d and its own window
``slo:burn_rate{window=...}``               that ratio, in budgets: at 1 the budget lasts just its window
``slo:error_budget:remaining``              1: untouched, 0: spent, negative: overspent
``slo:objective``, ``slo:window_days``      what was declared
==========================================  ================================================================

A ratio over a long window is the sum of errors over the sum of requests, never an average of short ratios: an
average gives a quiet night the weight of a busy day. Over 1h it is taken from the counters themselves, since
there the sums' five minutes of inertia would delay a page. Sums over days are taken of a sample every five
minutes, a tenth of the work.

Without requests there is no ratio (no series, so no NaN), and a budget nobody spent from is whole.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import promql
from .burn import Burn, burns, threshold
from .rules import Alert, Group, Recording, Scope
from .slo import SLO, check_slos
from .slo_series import FROM_COUNTERS, Series, is_short

__all__ = ["slo_groups"]

EVALUATION_SECONDS = 30
"""The groups' own interval: sums of rates count requests only when it is known."""
LONG_INTERVAL = "2m"
"""Sums over days move slowly and cost more; well below Prometheus' lookback of 5m, so that no gap shows."""
TILE = "5m"
"""The interval at which the rates over 5m are kept for the long sums: they lie side by side, like tiles."""


def slo_groups(slos: Iterable[SLO], scope: Scope | None = None) -> list[Group]:
    """Make three rule groups for each objective: what pages, what takes days to change, what that is made of.

    Args:
        slos: the objectives, their names unique.
        scope: which service they are about. Rules for two services in one Prometheus need a `job` each.

    Raises:
        ConfigurationError: two objectives have one name.
    """
    return [group for slo in check_slos(slos) for group in _groups(Series(slo, scope or Scope()))]


def _groups(series: Series) -> list[Group]:
    slo = series.slo
    names = {name for burn in burns(slo) for name in (burn.long, burn.short)} | {slo.window}
    windows = sorted(names, key=promql.seconds)
    burning = f"{series.recorded('slo:error_ratio')} / {promql.number(slo.budget)}"
    short: tuple[Recording | Alert, ...] = (
        *(rule for window in FROM_COUNTERS for rule in _rates(series, window)),
        *(_ratio(series, window) for window in windows if is_short(window)),
        Recording("slo:burn_rate", burning, series.labels),
        *(_burn_alert(series, burn) for burn in burns(slo) if is_short(burn.long)),
        _absent_alert(series),
    )
    long: tuple[Recording | Alert, ...] = (
        *(_ratio(series, window) for window in windows if not is_short(window)),
        *_budget(series),
        *(_burn_alert(series, burn) for burn in burns(slo) if not is_short(burn.long)),
    )
    tiles = tuple(
        Recording(f"slo:{kind}:every5m", series.recorded(f"slo:{kind}:rate5m"), series.labels)
        for kind in ("requests", "errors")
    )
    name = f"svc-infra-slo-{slo.name}"
    return [
        Group(name, short, f"{EVALUATION_SECONDS}s"),
        Group(f"{name}-long", long, LONG_INTERVAL),
        Group(f"{name}-tiles", tiles, TILE),
    ]


def _rates(series: Series, window: str) -> list[Recording]:
    return [
        Recording(f"slo:requests:rate{window}", series.requests(window), series.labels),
        Recording(f"slo:errors:rate{window}", series.errors(window), series.labels),
    ]


def _ratio(series: Series, window: str) -> Recording:
    """Bad of all, where there were requests."""
    expr = f"{series.sums('errors', window)}\n/ ({series.sums('requests', window)} > 0)"
    return Recording("slo:error_ratio", expr, {**series.labels, "window": window})


def _budget(series: Series) -> list[Recording]:
    """What is left, and what was declared wherever something is."""
    slo = series.slo
    spent = series.recorded("slo:error_ratio", slo.window)
    idle = f"0 * {series.recorded('slo:requests:rate5m')}"
    remaining = series.recorded("slo:error_budget:remaining")
    days = promql.number(promql.seconds(slo.window) / 86400)
    share = f"sum {series.scope.grouping} (\n  {spent}\n  or {series.on} {idle}\n)"
    return [
        Recording("slo:error_budget:remaining", f"1 - {share} / {promql.number(slo.budget)}", series.labels),
        Recording("slo:objective", f"0 * {remaining} + {promql.number(slo.objective)}", series.labels),
        Recording("slo:window_days", f"0 * {remaining} + {days}", series.labels),
    ]


def _burn_alert(series: Series, burn: Burn) -> Alert:
    """Tell someone that the budget burns too fast, once enough requests failed to be sure."""
    slo, scope = series.slo, series.scope
    limit = threshold(slo, burn)
    speed = promql.number(round(limit / slo.budget, 1))
    gone = 100 * limit / slo.budget * promql.seconds(burn.long) / promql.seconds(slo.window)
    if burn.long in FROM_COUNTERS:
        failed = f"{promql.seconds(burn.long)} * {series.sums('errors', burn.long)}"
    else:
        failed = f"{EVALUATION_SECONDS} * sum_over_time({series.recorded('slo:errors:rate5m')}[{burn.long}])"
    above = f"> {promql.number(limit)}"
    what = f" ({_untemplated(slo.description)})" if slo.description else ""
    return Alert(
        "ErrorBudgetBurn",
        f"{series.recorded('slo:error_ratio', burn.long)} {above}\n"
        f"and {series.on} {series.recorded('slo:error_ratio', burn.short)} {above}\n"
        f"and {series.on} {failed} >= {scope.minimum_errors}",
        None,
        {**series.labels, "severity": burn.severity, "window": burn.long, "short_window": burn.short},
        {
            "summary": f"{scope.service()} burns the error budget of '{slo.name}' at over {speed}x",
            "description": (
                f"{{{{ $value | humanizePercentage }}}} of the requests counted by '{slo.name}'{what} were "
                f"bad over the last {burn.long}, and too many over the last {burn.short}; "
                f"{promql.number(slo.budget * 100)}% may be. At {speed} times that, "
                f"{promql.number(round(gone, 1))}% of the budget for {slo.window} is gone in {burn.long}."
            ),
            "runbook_url": slo.runbook or scope.runbook("ErrorBudgetBurn"),
        },
    )


def _untemplated(text: str) -> str:
    """Keep Prometheus from taking a person's braces for a template."""
    return text.replace("{{", '{{ "{{" }}')


def _absent_alert(series: Series) -> Alert:
    """Tell someone that nothing can be told about this objective.

    A route's duration histogram is born with its first request, its counters before that: a route nobody asks
    for has nothing to be judged by, and is no trouble.
    """
    slo = series.slo
    expr = f"absent({series.recorded('slo:errors:rate5m')})"
    if slo.latency is not None:
        asked = promql.selector("http_requests_total", series.counted())
        expr += f"\nunless on () sum(increase({asked}[10m])) == 0"
    return Alert(
        "SLOMetricAbsent",
        expr,
        "10m",
        {**series.labels, "severity": "ticket"},
        {
            "summary": f"There are no metrics to judge the objective '{slo.name}' by",
            "description": (
                f"For 10 minutes no request counted by '{slo.name}' was measured, not even as zero. The "
                "service is not scraped, its metrics are switched off, or the objective names a route, class "
                "or latency bound that does not exist."
            ),
            "runbook_url": slo.runbook or series.scope.runbook("SLOMetricAbsent"),
        },
    )
