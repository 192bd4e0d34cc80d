"""``flask svc-infra slo``: ask a Prometheus how this app's objectives are doing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import click

from .api import base_url, query
from .output import json_option, load_app, show_json, table

__all__ = ["slo"]

_SERIES = {
    "slo:objective": "objective",
    "slo:error_budget:remaining": "budget_left",
    "slo:window_days": "window_days",
}


@click.group()
def slo() -> None:
    """Look after this app's service level objectives."""


@slo.command()
@click.option(
    "--prometheus", required=True, envvar="PROMETHEUS_URL", show_envvar=True, callback=base_url,
    help="Prometheus' address.",
)  # fmt: skip
@click.option("--job", help="Only this scrape job.")
@json_option
@click.pass_context
def report(ctx: click.Context, /, *, prometheus: str, job: str | None, as_json: bool) -> None:
    """Show what is left of each objective's error budget, how fast it burns, and what alerts.

    Exits 1 when a budget is spent, a burn-rate alert fires, or there is nothing to judge an objective by.
    """
    from ..obs.objectives import slos_of
    from ..obs.promql import literal, selector

    names = [objective.name for objective in slos_of(load_app(ctx))]
    if not names:
        raise click.ClickException(
            "this app declares no objectives; there is nothing to report. Declare some: "
            "SvcInfra(slos=[SLO('availability', objective=0.999)])"
        )
    matchers = [
        ("__name__", "=~", "slo:.+"),
        ("slo", "=~", "|".join(map(literal, names))),
    ]
    if job is not None:
        matchers.append(("job", "=", job))
    firing = selector(
        "ALERTS", [("alertname", "=", "ErrorBudgetBurn"), ("alertstate", "=", "firing"), *matchers[1:]]
    )
    rows = reported(names, query(prometheus, selector("", matchers)), query(prometheus, firing))
    if as_json:
        show_json(rows)
    else:
        _show(rows)
    if not all(row["good"] for row in rows):
        raise SystemExit(1)


def reported(
    names: Iterable[str], samples: Iterable[dict[str, Any]], alerts: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Put each objective's samples into one row, one for each service that has it.

    Args:
        names: the objectives that were declared, in order; one without samples gets a row that says so.
        samples: the recorded series, as Prometheus' API gives them.
        alerts: the firing burn-rate alerts, likewise.
    """
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for sample in samples:
        labels, value = sample["metric"], float(sample["value"][1])
        row = rows.setdefault(_key(labels), {})
        if labels["__name__"] in _SERIES:
            row[_SERIES[labels["__name__"]]] = value
        elif labels["__name__"] == "slo:burn_rate" and labels.get("window") in {"1h", "6h"}:
            row[f"burn_{labels['window']}"] = value
    firing: dict[tuple[str, str, str], set[str]] = {}
    for alert in alerts:
        firing.setdefault(_key(alert["metric"]), set()).add(alert["metric"].get("severity", ""))
    found = [
        _row(name, key, rows[key], sorted(firing.get(key, ())))
        for name in names
        for key in sorted(rows)
        if key[0] == name
    ]
    missing = set(names) - {row["slo"] for row in found}
    return found + [_row(name, (name, "", ""), {}, []) for name in names if name in missing]


def _key(labels: dict[str, str]) -> tuple[str, str, str]:
    return (labels.get("slo", ""), labels.get("namespace", ""), labels.get("job", ""))


def _row(name: str, key: tuple[str, str, str], values: dict[str, float], firing: list[str]) -> dict[str, Any]:
    left, burn = values.get("budget_left"), values.get("burn_6h")
    days = None
    if left is not None and burn is not None and burn > 0 and "window_days" in values:
        days = max(left, 0.0) * values["window_days"] / burn
    return {
        "slo": name,
        "namespace": key[1] or None,
        "job": key[2] or None,
        "objective": values.get("objective"),
        "budget_left": left,
        "burn_rate_1h": values.get("burn_1h"),
        "days_to_exhaustion": days,
        "alerts": firing,
        "good": left is not None and left > 0 and not firing,
    }


def _show(rows: list[dict[str, Any]]) -> None:
    table(
        ("SLO", "SERVICE", "OBJECTIVE", "BUDGET LEFT", "BURN 1H", "DAYS LEFT", "ALERTS"),
        [
            (
                row["slo"],
                "/".join(filter(None, (row["namespace"], row["job"]))) or "no metrics",
                _percent(row["objective"]),
                _percent(row["budget_left"]),
                _number(row["burn_rate_1h"]),
                _number(row["days_to_exhaustion"]),
                ",".join(row["alerts"]) or "-",
            )
            for row in rows
        ],
    )


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value * 100:.6g}%"


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3g}"
