"""How many runs in a row it takes to change a check's mind.

A pure fold: the standing so far and the next raw status in, the standing afterwards out. The first run
decides at once, since there is nothing to hold on to; between healthy and degraded there is no threshold,
since both let traffic through.
"""

from __future__ import annotations

from dataclasses import dataclass

from .aggregation import passes
from .model import HealthStatus

__all__ = ["Standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a check counts as, and how many runs in a row have spoken against it.

    Attributes:
        status: what it counts as; UNKNOWN before the first run.
        against: how many runs in a row disagreed with that.
        known: whether it ever ran.
    """

    status: HealthStatus = HealthStatus.UNKNOWN
    against: int = 0
    known: bool = False

    def after(self, raw: HealthStatus, *, failures: int, successes: int) -> Standing:
        """Return the standing after a run that said *raw*.

        Args:
            raw: what the run said.
            failures: how many failing runs in a row turn a passing check.
            successes: how many passing runs in a row turn a failing one.
        """
        if not self.known or passes(raw) == passes(self.status):
            return Standing(raw, 0, known=True)
        against = self.against + 1
        if against >= (successes if passes(raw) else failures):
            return Standing(raw, 0, known=True)
        return Standing(self.status, against, known=True)
