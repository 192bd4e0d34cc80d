"""How fast an error budget may burn before someone is told.

The table is that of the SRE Workbook (https://sre.google/workbook/alerting-on-slos/, table 5-8), for 30 days:
an alert needs the budget to burn `factor` times too fast both over the long window, so that it matters, and
over the short one, so that it ends when the trouble does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from . import promql

if TYPE_CHECKING:
    from .slo import SLO

__all__ = ["TABLE", "Burn", "burns", "threshold"]


@dataclass(frozen=True, slots=True)
class Burn:
    """One line of the table: who is told, factor, and windows."""

    severity: Literal["page", "ticket"]
    factor: float
    long: str
    short: str


TABLE = (
    Burn("page", 14.4, "1h", "5m"),
    Burn("page", 6, "6h", "30m"),
    Burn("ticket", 3, "1d", "2h"),
    Burn("ticket", 1, "3d", "6h"),
)


def burns(slo: SLO) -> tuple[Burn, ...]:
    """Return the lines that apply to *slo*: those that look back no further than its own window."""
    length = promql.seconds(slo.window)
    return tuple(burn for burn in TABLE if promql.seconds(burn.long) <= length)


def threshold(slo: SLO, burn: Burn) -> float:
    """Return the error ratio above which *burn* tells someone.

    14.4 times the budget of a 90 % objective would be 144 %, which not even a total outage reaches. Such a
    threshold is put halfway between the budget and everything failing.
    """
    return min(burn.factor * slo.budget, (1 + slo.budget) / 2)
