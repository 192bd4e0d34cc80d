"""Where an objective's numbers come from: the counters it counts, and the series recorded for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import promql

if TYPE_CHECKING:
    from .rules import Scope
    from .slo import SLO

__all__ = ["FROM_COUNTERS", "Series", "is_short"]

FROM_COUNTERS = ("5m", "1h")
"""The windows of the first page; their rates are taken from the counters themselves."""

LONGEST_SHORT = "6h"
"""Up to here windows are summed from samples every half minute, beyond it from one every five minutes."""

Matchers = list[tuple[str, str, str]]


def is_short(window: str) -> bool:
    """Tell whether *window* is one of those that page."""
    return promql.seconds(window) <= promql.seconds(LONGEST_SHORT)


@dataclass(frozen=True, slots=True)
class Series:
    """The series of one objective of one service."""

    slo: SLO
    scope: Scope

    @property
    def labels(self) -> dict[str, str]:
        """The labels of everything recorded for it, besides those that tell services apart."""
        return {**self.scope.fixed, "slo": self.slo.name}

    @property
    def on(self) -> str:
        """The clause that matches one service's numbers with each other."""
        return f"on ({', '.join(self.scope.by)})"

    def recorded(self, name: str, window: str | None = None) -> str:
        """Select a series recorded for this objective."""
        pairs = {label: value for label, _, value in self.scope.matchers} | {"slo": self.slo.name}
        return promql.selector(name, pairs if window is None else pairs | {"window": window})

    def counted(self) -> Matchers:
        """Match the requests that count, whatever became of them."""
        matchers = self._route()
        if self.slo.methods is not None:
            matchers.append(("method", "=~", "|".join(self.slo.methods)))
        if self.slo.exclude_status:
            statuses = "|".join(str(status).replace("xx", "..") for status in self.slo.exclude_status)
            matchers.append(("status", "!~", statuses))
        return matchers

    def _route(self) -> Matchers:
        """The path label is the URL rule, or with a classifier ``rule|class``."""
        slo, scope = self.slo, self.scope
        if slo.path is not None and slo.route_class is not None:
            return [*scope.matchers, ("path", "=", f"{slo.path}|{slo.route_class}")]
        if slo.path is not None:
            return [*scope.matchers, ("path", "=~", f"{promql.literal(slo.path)}([|].*)?")]
        if slo.route_class is not None:
            route_class = promql.literal(slo.route_class)
            return [*scope.matchers, ("path", "=~", f"{promql.URL_RULE}[|]{route_class}")]
        return scope.customers()

    def _rate(self, metric: str, window: str, *more: tuple[str, str, str]) -> str:
        selected = promql.selector(metric, [*self.counted(), *more])
        return f"sum {self.scope.grouping} (rate({selected}[{window}]))"

    def requests(self, window: str) -> str:
        """All requests that count, per second, over every worker, pod and route."""
        if self.slo.latency is None:
            return self._rate("http_requests_total", window)
        return self._rate("http_request_duration_seconds_count", window)

    def errors(self, window: str) -> str:
        """The bad ones, per second.

        Where no status 5xx exists yet that is 0. A latency objective has no such case: its bucket is missing
        only when it is no bound, and then silence must not pass for success.
        """
        if self.slo.latency is None:
            none = f"0 * {self.recorded(f'slo:requests:rate{window}')}"
            failed = self._rate("http_requests_total", window, ("status", "=~", "5.."))
            return f"{failed}\nor {self.on} {none}"
        # client libraries write a whole bound as "1.0", other tools as "1"
        bound = promql.number(self.slo.latency)
        le = promql.literal(bound) + ("" if "." in bound else "([.]0)?")
        good = self._rate("http_request_duration_seconds_bucket", window, ("le", "=~", le))
        return f"clamp_min(\n  {self.recorded(f'slo:requests:rate{window}')}\n  - {self.on} {good},\n  0\n)"

    def sums(self, kind: str, window: str) -> str:
        """What *kind* (requests or errors) amounts to over *window*, in no particular unit."""
        if window in FROM_COUNTERS:
            return self.recorded(f"slo:{kind}:rate{window}")
        kept = "rate5m" if is_short(window) else "every5m"
        return f"sum_over_time({self.recorded(f'slo:{kind}:{kept}')}[{window}])"
