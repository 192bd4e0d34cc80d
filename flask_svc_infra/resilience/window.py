"""Sliding windows over the calls of one generation: how many there were, and how many of them hit.

Each is O(1) a call and bounded in memory. Neither locks: the circuit's lock is held.
"""

from __future__ import annotations

from math import inf

__all__ = ["CountWindow", "TimeWindow"]

_BUCKETS = 60
"""Buckets of a time window. A call is forgotten at the latest when it is as old as the window, and at the
earliest one sixtieth of the window before that."""


class CountWindow:
    """The last *size* calls."""

    __slots__ = ("_next", "_ring", "hits", "total")
    rolls_at = inf

    def __init__(self, size: int) -> None:
        self._ring = bytearray(size)
        self._next = 0
        self.total = 0
        self.hits = 0

    def push(self, hit: bool, _now: float) -> None:
        """Record one call; the oldest is forgotten when the window is full."""
        ring, at = self._ring, self._next
        self.hits += hit - ring[at]
        ring[at] = hit
        self._next = at + 1 if at + 1 < len(ring) else 0
        if self.total < len(ring):
            self.total += 1

    def push_misses(self, count: int) -> None:
        """Record *count* calls that did not hit."""
        ring, at, size = self._ring, self._next, len(self._ring)
        self._next = (at + count) % size
        self.total = min(size, self.total + count)
        if not self.hits:
            return
        if count >= size:
            ring[:] = bytes(size)
            self.hits = 0
            return
        for start, stop in ((at, min(at + count, size)), (0, max(0, at + count - size))):
            self.hits -= ring.count(1, start, stop)
            ring[start:stop] = bytes(stop - start)


class TimeWindow:
    """The calls of the last *seconds*."""

    __slots__ = ("_hits", "_origin", "_tick", "_totals", "_width", "hits", "rolls_at", "total")

    def __init__(self, seconds: float, now: float) -> None:
        self._width = seconds / _BUCKETS
        self._origin = now
        self._tick = 0
        self._totals = [0] * _BUCKETS
        self._hits = [0] * _BUCKETS
        self.total = 0
        self.hits = 0
        self.rolls_at = now + self._width

    def push(self, hit: bool, now: float) -> None:
        """Record one call at *now*."""
        if now >= self.rolls_at:
            self._roll(now)
        slot = self._tick % _BUCKETS
        self._totals[slot] += 1
        self._hits[slot] += hit
        self.total += 1
        self.hits += hit

    def push_misses(self, count: int) -> None:
        """Record *count* calls that did not hit, all of them before ``rolls_at``."""
        self._totals[self._tick % _BUCKETS] += count
        self.total += count

    def _roll(self, now: float) -> None:
        tick = int((now - self._origin) / self._width)
        for passed in range(self._tick + 1, min(tick, self._tick + _BUCKETS) + 1):
            slot = passed % _BUCKETS
            self.total -= self._totals[slot]
            self.hits -= self._hits[slot]
            self._totals[slot] = self._hits[slot] = 0
        self._tick = max(tick, self._tick)
        self.rolls_at = self._origin + (self._tick + 1) * self._width
