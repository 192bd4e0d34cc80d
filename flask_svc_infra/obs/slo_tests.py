"""Tests for the rules of objectives, as promtool runs them: outages, slow burns, silence, on made-up series.

They say of each objective what a person would want to know before trusting a pager: that an outage pages,
that the page ends, that a budget is counted right, that neither silence nor a single failure wakes anyone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from . import promql
from .burn import TABLE, burns, threshold
from .rules import Scope
from .slo_series import Series

if TYPE_CHECKING:
    from .slo import SLO

__all__ = ["rule_test_document"]

MINUTE = 60
INTERVAL = 30
"""Seconds between two samples and between two evaluations."""


@dataclass(frozen=True, slots=True)
class _Phase:
    """So many requests each interval, so many of them bad, for so many minutes."""

    minutes: int
    requests: int
    bad: int

    @property
    def steps(self) -> int:
        return self.minutes * MINUTE // INTERVAL


def rule_test_document(
    slo: SLO, scope: Scope | None = None, *, rule_file: str = "rules.yaml"
) -> dict[str, Any]:
    """Arrange the tests of *slo* as a file for ``promtool test rules``.

    One file for each objective: promtool evaluates every rule of a file in every test of it.

    Args:
        slo: the objective the rules were made from.
        scope: the scope the rules were made with.
        rule_file: where the rules are, seen from the test file.
    """
    return {
        "rule_files": [rule_file],
        "evaluation_interval": f"{INTERVAL}s",
        "tests": _Cases(slo, scope or Scope()).all(),
    }


class _Cases:
    """The tests of one objective."""

    def __init__(self, slo: SLO, scope: Scope) -> None:
        self.slo = slo
        self.scope = scope
        self.series = Series(slo, scope)
        self.target = {label: value for label, _, value in scope.matchers}
        for label in scope.by:
            self.target.setdefault(label, f"a-{label}")

    def all(self) -> list[dict[str, Any]]:
        """Every test that applies."""
        return [
            self.outage(),
            self.outage_from_the_start(),
            self.budget_spent(),
            self.slow_burn(),
            self.no_traffic(),
            self.one_failure(),
            self.uneven_traffic(),
        ]

    def outage(self) -> dict[str, Any]:
        """After a quiet hour everything fails: how soon that pages is a matter of arithmetic."""
        limit = threshold(self.slo, TABLE[0])
        needed = max(2, math.ceil(limit * 60) + 1)
        outage = needed + 3
        after = 60 + outage
        phases = [_Phase(60, 100, 0), _Phase(outage, 100, 100), _Phase(45, 100, 0)]
        return self.case(
            "total outage pages and resolves",
            phases,
            [self.silent(60), self.pages(60 + needed), self.no_page(after + 40)],
        )

    def outage_from_the_start(self) -> dict[str, Any]:
        """Nothing ever worked: two minutes are enough."""
        return self.case("outage from the first request pages", [_Phase(10, 100, 100)], [self.pages(2)])

    def budget_spent(self) -> dict[str, Any]:
        allowed = 1 - Fraction(Decimal(repr(float(self.slo.objective))))
        phases = [_Phase(60, allowed.denominator, allowed.numerator)]
        remaining = self.series.recorded("slo:error_budget:remaining")
        zero = f"max(abs({remaining})) < bool 0.000001"
        return self.case("budget exactly spent reads 0", phases, [self.value(60, zero, 1), self.no_page(60)])

    def slow_burn(self) -> dict[str, Any]:
        """Twice the budget, or what lies between the two tickets where thresholds are capped."""
        slo = self.slo
        low = threshold(slo, TABLE[3])
        ratio = Fraction((low + threshold(slo, TABLE[2])) / 2).limit_denominator(100_000)
        checks = [self.no_page(60)]
        if any(burn.factor == 1 for burn in burns(slo)):
            checks.append(self.tickets(60))
        return self.case(
            "slow burn tickets and does not page", [_Phase(60, ratio.denominator, ratio.numerator)], checks
        )

    def no_traffic(self) -> dict[str, Any]:
        remaining = self.series.recorded("slo:error_budget:remaining")
        not_a_number = f"count({remaining} != {remaining}) or vector(0)"
        return self.case(
            "no traffic is silent, and its budget is whole",
            [_Phase(30, 0, 0)],
            [self.silent(30), self.value(30, not_a_number, 0), self.value(30, f"max({remaining})", 1)],
        )

    def one_failure(self) -> dict[str, Any]:
        """In a quiet service one failure is a large share; it is still one failure."""
        phases = [_Phase(30, 0, 0), _Phase(1, 1, 1), _Phase(30, 0, 0)]
        failures = phases[1].bad * phases[1].steps
        checks = [self.silent(32), self.silent(60)] if failures < self.scope.minimum_errors else []
        return self.case("a few failures in a quiet service are silent", phases, checks)

    def uneven_traffic(self) -> dict[str, Any]:
        """Many good requests by day, few and bad ones by night; an average of ratios would be far off."""
        phases = [
            _Phase(60, 1000, 1),
            _Phase(30, 0, 0),
            _Phase(120, 3, 2),
            _Phase(60, 500, 0),
            _Phase(10, 0, 0),
        ]
        exact = sum(p.bad * p.steps for p in phases) / sum(p.requests * p.steps for p in phases)
        ratio = self.series.recorded("slo:error_ratio", self.slo.window)
        near = f"max(abs({ratio} - {promql.number(exact)})) < bool 0.001"
        return self.case("uneven traffic gives the exact ratio", phases, [self.value(145, near, 1)])

    # what is expected

    def alerts(self, severity: str, **more: str) -> str:
        matchers = {
            **self.series.labels,
            **self.target,
            "alertname": "ErrorBudgetBurn",
            "alertstate": "firing",
        }
        alerts = promql.selector("ALERTS", matchers | {"severity": severity} | more)
        return f"count({alerts}) > bool 0 or vector(0)"

    def pages(self, minute: int) -> dict[str, Any]:
        return self.value(minute, self.alerts("page", window=TABLE[0].long), 1)

    def no_page(self, minute: int) -> dict[str, Any]:
        return self.value(minute, self.alerts("page"), 0)

    def tickets(self, minute: int) -> dict[str, Any]:
        return self.value(minute, self.alerts("ticket"), 1)

    def silent(self, minute: int) -> dict[str, Any]:
        matchers = {"alertstate": "firing", "slo": self.slo.name}
        return self.value(minute, f"count({promql.selector('ALERTS', matchers)}) or vector(0)", 0)

    def value(self, minute: int, expr: str, expected: float) -> dict[str, Any]:
        return {"eval_time": f"{minute}m", "expr": expr, "exp_samples": [{"labels": "{}", "value": expected}]}

    # what is made up

    def case(self, name: str, phases: Sequence[_Phase], checks: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "interval": f"{INTERVAL}s",
            "name": f"{self.slo.name}: {name}",
            "input_series": self.inputs(phases),
            "promql_expr_test": checks,
        }

    def inputs(self, phases: Sequence[_Phase]) -> list[dict[str, str]]:
        slo = self.slo
        path = slo.path or "/made/up"
        if slo.route_class is not None:
            path = f"{path}|{slo.route_class}"
        labels = {**self.target, "method": (slo.methods or ("GET",))[0], "path": path}
        good = [(phase.steps, phase.requests - phase.bad) for phase in phases]
        every = [(phase.steps, phase.requests) for phase in phases]
        bad = [(phase.steps, phase.bad) for phase in phases]
        if slo.latency is None:
            name = "http_requests_total"
            return [
                _counter(name, {**labels, "status": "200"}, good),
                _counter(name, {**labels, "status": self.failing_status()}, bad),
            ]
        name = "http_request_duration_seconds"
        return [
            _counter(f"{name}_bucket", {**labels, "le": repr(float(slo.latency))}, good),
            _counter(f"{name}_bucket", {**labels, "le": "+Inf"}, every),
            _counter(f"{name}_count", labels, every),
        ]

    def failing_status(self) -> str:
        """A status 5xx that the objective does not leave out."""
        excluded = {str(status) for status in self.slo.exclude_status}
        return next(status for status in map(str, range(500, 600)) if status not in excluded)


def _counter(name: str, labels: dict[str, str], phases: Sequence[tuple[int, int]]) -> dict[str, str]:
    """Write a counter in promtool's notation: each phase is ``start+step x times``."""
    total, parts = 0, ["0"]
    for steps, step in phases:
        parts.append(f"{total + step}+{step}x{steps - 1}")
        total += steps * step
    return {"series": promql.selector(name, labels), "values": " ".join(parts)}
