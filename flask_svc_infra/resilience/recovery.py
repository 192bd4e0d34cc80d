"""How long an open circuit waits before it lets a trial through."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .checked import at_least_one, seconds_above_zero, share

__all__ = ["DEFAULT", "exponential_recovery"]

DEFAULT = 30.0
"""Seconds: the documented ``recovery_timeout``, and what is waited when a callable fails to say."""


@dataclass(frozen=True)
class _Exponential:
    base: float
    factor: float
    maximum: float
    jitter: float

    def __call__(self, consecutive_opens: int) -> float:
        """Return the seconds to wait after opening for the *consecutive_opens*-th time without closing."""
        try:
            delay = min(self.maximum, self.base * self.factor ** (consecutive_opens - 1))
        except OverflowError:
            delay = self.maximum
        spread = random.uniform(-self.jitter, self.jitter)  # noqa: S311 - spreads load, guards nothing
        return min(self.maximum, delay * (1 + spread))


def exponential_recovery(
    base: float, *, factor: float = 2.0, maximum: float = 300.0, jitter: float = 0.1
) -> _Exponential:
    """Wait *base* seconds after the first opening and *factor* times as long after each that follows.

    Closing the circuit starts the count again.

    Args:
        base: seconds after the first opening.
        factor: at least 1.
        maximum: seconds that no wait exceeds, jitter included; five minutes, so that a person who repaired
            the dependency need not reset the breakers.
        jitter: the share by which each wait is made longer or shorter at random, so that the processes of a
            fleet do not all try at the same moment; 0 to 1.

    Raises:
        ConfigurationError: a number cannot work.
    """
    base = seconds_above_zero("exponential_recovery(base)", base)
    factor = at_least_one("exponential_recovery(factor)", factor)
    maximum = seconds_above_zero("exponential_recovery(maximum)", maximum)
    jitter = share("exponential_recovery(jitter)", jitter)
    return _Exponential(base, factor, maximum, jitter)
