"""Trip rules over the calls of the whole fleet: what to count, and when it is enough. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from .rules import TripRule, _Both, _Consecutive, _Either, _Pair, _Rate

__all__ = ["Call", "Counts", "count", "tripped", "windows"]

Call = tuple[int, bool, float]
"""A call worth a report: how many successes there were by then, whether it failed, its seconds."""
Counts = Mapping[TripRule, tuple[int, int]]
"""Hits and calls in each window."""

_SHORTEST_SPAN = 1000
"""Milliseconds: reports of successes come once a second."""


def windows(rule: TripRule) -> tuple[_Rate, ...]:
    """Return the windows *rule* looks at."""
    if isinstance(rule, _Pair):
        return tuple(dict.fromkeys((*windows(rule.one), *windows(rule.other))))
    return (rule,) if isinstance(rule, _Rate) else ()


def count(rates: tuple[_Rate, ...], calls: list[Call], before: int, successes: int) -> dict[str, Any]:
    """Sum up one process's calls for a report.

    Args:
        rates: the windows.
        calls: those worth a report, in order.
        before: the process's successes at the report before.
        successes: those by now.
    """
    run, succeeded, seen = 0, False, before
    for by_then, failed, _ in calls:
        if by_then > seen:
            run, succeeded, seen = 0, True, by_then
        run += failed
    if successes > seen:
        run, succeeded = 0, True
    return {
        "run": run,
        "succeeded": succeeded,
        "calls": successes - before + sum(failed for _, failed, _ in calls),
        "windows": [
            {
                "id": repr(rate),
                "last": rate.last or 0,
                "span": 0 if rate.seconds is None else max(_SHORTEST_SPAN, round(rate.seconds * 1000)),
                "hits": sum(
                    seconds > rate.slower_than if rate.slower_than < inf else failed
                    for _, failed, seconds in calls
                ),
            }
            for rate in rates
        ],
    }


def tripped(rule: TripRule, run: int, counts: Counts) -> str | None:
    """Say why *rule* trips, by what the fleet has counted; None when it does not."""
    if isinstance(rule, _Consecutive):
        return f"{run} failures in a row in the fleet" if run >= rule.failures else None
    if isinstance(rule, _Rate):
        hits, calls = counts[rule]
        if calls < rule.minimum_calls or hits < rule.rate * calls:
            return None
        what = f"took longer than {rule.slower_than:g}s" if rule.slower_than < inf else "failed"
        return f"{hits} of the fleet's last {calls} calls {what} ({hits / calls:.0%})"
    if isinstance(rule, _Either):
        return tripped(rule.one, run, counts) or tripped(rule.other, run, counts)
    if isinstance(rule, _Both):
        one, other = tripped(rule.one, run, counts), tripped(rule.other, run, counts)
        return f"{one} and {other}" if one and other else None
    return None
