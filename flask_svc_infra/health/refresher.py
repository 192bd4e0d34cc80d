"""Run checks in the background, so that probes need not wait for them.

One daemon thread a registry and process, started when a check with an interval is first asked for: before
that (at import, before a fork) nothing runs. It only starts runs, each in its own lane, and never waits for
one.
"""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .runner import Lane, Runner, Within

__all__ = ["Refresher"]

_JITTER = 0.1
"""Part of the interval by which a run comes earlier or later: workers started together drift apart."""

_LONGEST_NAP = 5.0
"""Seconds after which the thread looks whether its registry still exists."""


class Refresher:
    """Keeps the results of checks with an interval fresh. Thread-safe."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._tended: list[tuple[Lane, Within | None]] = []

    def attend(self, owner: object, lanes: Iterable[Lane], within: Within | None) -> None:
        """See to it that those of *lanes* that have an interval are run from now on, while *owner* lives."""
        for lane in lanes:
            if lane.check.interval is not None and not lane.tended:
                with self._lock:
                    if not lane.tended:
                        lane.tended = True
                        self._tended = [*self._tended, (lane, within)]
                        self._begin(owner)

    def max_age(self, lane: Lane, max_age: float) -> float:
        """Return how old the lane's last report may be for a probe.

        With an interval: as old as it gets when one refresh is late by a whole interval and takes its whole
        timeout. Older than that, the refresher is not keeping up, and the probe runs the check itself.
        """
        interval = lane.check.interval
        return max_age if interval is None else max(max_age, 2 * interval + lane.check.timeout)

    def renew(self) -> None:
        """Forget, in a forked child, the parent's thread; the next ask starts one."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = None
        for lane, _ in self._tended:
            lane.tended = False
        self._tended = []

    def _begin(self, owner: object) -> None:
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, args=(weakref.ref(owner),), name="svc-infra-refresh", daemon=True
            )
            self._thread.start()

    def _work(self, owner: weakref.ref[object]) -> None:
        due: dict[Lane, float] = {}
        while owner() is not None:
            with self._lock:
                self._tended = [each for each in self._tended if not each[0].removed]
                tended = self._tended
                if not tended:
                    self._thread = None
                    return
            moments = [self._tend(lane, within, due) for lane, within in tended]
            self._wake.wait(min(_LONGEST_NAP, max(0.0, min(moments) - self._runner.clock())))
            self._wake.clear()

    def _tend(self, lane: Lane, within: Within | None, due: dict[Lane, float]) -> float:
        """Start the lane's run when it is due; return the moment to come back."""
        now = self._runner.clock()
        interval = lane.check.interval or 0.0
        if now >= due.get(lane, now):
            due[lane] = now + interval * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
            self._runner.start(lane, within=within)
        run = lane.run
        if run is None or (run.report is not None and not run.late):
            return due[lane]
        if now >= run.deadline:
            self._runner.wait(run)  # nobody else may be waiting: the verdict is given here
            return due[lane]
        return min(due[lane], run.deadline)
