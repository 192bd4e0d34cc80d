"""Maintenance windows: one order each, from its start, inclusive, to its end, exclusive."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..errors import ConfigurationError

__all__ = ["Mode", "Orders", "Status", "Window", "as_duration", "as_mode", "as_retry_after", "strictest"]

Clock = Callable[[], float]


class Mode(StrEnum):
    """How much maintenance refuses: nothing, every write, everything."""

    OFF = "off"
    READ_ONLY = "read-only"
    FULL = "full"


LONGEST = 1e9
"""Seconds a maintenance may last, some thirty years: what the stores' numbers hold with room to spare."""
STRICTNESS = {Mode.OFF: 0, Mode.READ_ONLY: 1, Mode.FULL: 2}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """One order: this mode, from then to then.

    Attributes:
        mode: ``read-only`` or ``full``.
        actor: who or what ordered it (``env``, ``api``, ``schedule``, ``cli``).
        reason: why, as the person said.
        retry_after: seconds a refused client is told to wait; None for the app's default.
        clock: what ``starts`` and ``ends`` are read by: monotonic for a duration, wall for a date.
        starts: when it comes into force, by ``clock``.
        ends: when it is over, by ``clock``; infinite when nobody said.
    """

    mode: Mode
    actor: str
    reason: str | None = None
    retry_after: int | None = None
    clock: Clock = time.monotonic
    starts: float = -math.inf
    ends: float = math.inf

    def holds(self) -> bool:
        """Tell whether it is in force now."""
        return self.starts <= self.clock() < self.ends

    def over(self) -> bool:
        """Tell whether its end has come."""
        return self.clock() >= self.ends

    def remaining(self) -> float | None:
        """Return the seconds to its end, or None when it has none."""
        return None if self.ends == math.inf else max(0.0, self.ends - self.clock())

    def wait(self, default: int) -> int:
        """Return the seconds to name in Retry-After: as ordered, else *default*, cut at the window's end."""
        if self.retry_after is not None:
            return self.retry_after
        remaining = self.remaining()
        return default if remaining is None else max(1, min(default, math.ceil(remaining)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What holds now.

    Attributes:
        mode: ``off``, ``read-only`` or ``full``.
        reason: why, as the person said.
        actor: who or what ordered it; None when off.
        remaining: seconds to the end of what holds; None when nobody said.
        scheduled: the windows that have not begun, in order of their start.
    """

    mode: Mode
    reason: str | None = None
    actor: str | None = None
    remaining: float | None = None
    scheduled: tuple[Window, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can say it; the scheduled windows with seconds since the epoch."""
        return {
            "mode": self.mode.value,
            "reason": self.reason,
            "actor": self.actor,
            "remaining": self.remaining,
            "scheduled": [
                {"mode": w.mode.value, "reason": w.reason, "starts": w.starts, "ends": w.ends}
                for w in self.scheduled
            ],
        }


@dataclass(frozen=True, slots=True)
class Orders:
    """Everything ordered, replaced as one.

    Attributes:
        order: what was switched on by hand.
        scheduled: the windows of the schedule.
        lifted: who ended the last order, and why.
    """

    order: Window | None = None
    scheduled: tuple[Window, ...] = ()
    lifted: tuple[str, str | None] = ("api", None)

    def all(self) -> tuple[Window, ...]:
        """Return every window, the one ordered by hand first."""
        return self.scheduled if self.order is None else (self.order, *self.scheduled)

    def upcoming(self) -> tuple[Window, ...]:
        """Return the scheduled windows that have not begun."""
        return tuple(window for window in self.scheduled if window.clock() < window.starts)

    def in_force(self) -> Window | None:
        """Return the strictest window that holds now."""
        return strictest([window for window in self.all() if window.holds()])

    def without_past(self) -> Orders:
        """Return the orders that are not over."""
        order = None if self.order is None or self.order.over() else self.order
        return Orders(order, tuple(each for each in self.scheduled if not each.over()), self.lifted)


def strictest(windows: Iterable[Window | None]) -> Window | None:
    """Return the window that refuses most, the first of equals, or None."""
    found = [window for window in windows if window is not None]
    return max(found, key=lambda window: STRICTNESS[window.mode], default=None)


def as_mode(mode: str) -> Mode:
    """Read a mode that switches something on."""
    if mode not in (Mode.READ_ONLY, Mode.FULL):
        raise ConfigurationError(
            f"maintenance mode {mode!r} does not exist; nothing was changed. Use 'read-only' or 'full', "
            "or disable() to switch it off."
        )
    return Mode(mode)


def as_duration(duration: float) -> float:
    """Read a duration in seconds."""
    if not _is_number(duration) or not 0 < duration <= LONGEST:
        raise ConfigurationError(
            f"a maintenance of {duration!r} seconds cannot be; nothing was changed. Give a number above "
            f"zero and up to {LONGEST:.0f}, or None for one without an end."
        )
    return float(duration)


def as_retry_after(seconds: int | None) -> int | None:
    """Read the seconds a refused client is told to wait."""
    if seconds is None:
        return None
    if not _is_number(seconds) or seconds < 1:
        raise ConfigurationError(
            f"Retry-After cannot be {seconds!r} seconds; nothing was changed. Give a number of at least 1."
        )
    return math.ceil(seconds)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
