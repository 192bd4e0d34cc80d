"""Run checks so that none can hurt the one who asks.

A thread cannot be killed, so a hung check is contained instead: each check has a *lane* with at most one
run in it. A run is one daemon thread that ends with it; whoever asks meanwhile shares the run and waits no
longer than its deadline, counted from the run's start. There are never more threads than checks, a hung one
is never started beside itself, takes nobody's turn, and does not hold up the process's exit.

Invariants, all under the one lock: ``lane.run`` is None or the run whose thread has not ended;
``run.report`` is set once, by the thread when it ends in time, by whoever waits when the deadline passes
first. The lock is held to decide, never during a check, a listener or a log line.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from ..events import CheckFinished
from .deadline import lane_threads, registered_timeout, running_lanes
from .judging import held_back, judge, judge_exception, overdue
from .lanes import CalledOff, Drive, Lane, Report, Run, Within
from .model import HealthCheckResult, HealthStatus

if TYPE_CHECKING:
    from .announcer import HealthAnnouncer

__all__ = ["CalledOff", "Drive", "Lane", "Report", "Run", "Runner", "Within", "asks_for_itself"]

_EARLY = 0.005
"""Seconds by which a cancellation at the deadline may come early: event loops round their clock."""

_GRACE = 0.01
"""Seconds past its deadline that a run gets to end, once its verdict is given: what was cancelled, or whose
driver gave up then, leaves its lane free for the very next ask."""

_logger = logging.getLogger("flask_svc_infra.health")


class Runner:
    """Starts runs, waits for them, and announces how they ended. Thread-safe."""

    def __init__(self, announcer: HealthAnnouncer, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._announcer = announcer
        self._lock = threading.Lock()

    def start(self, lane: Lane, *, drive: Drive | None = None, within: Within | None = None) -> Run:
        """Return the lane's run in flight, started now when there is none.

        Args:
            lane: whose turn it is.
            drive: brings an async check to its end; None: an event loop of its own in the run's thread.
            within: the context the check is called in.
        """
        with self._lock:
            run = lane.run
            if run is not None:
                run.askers += 1
                return run
            run = lane.run = Run(lane, self.clock())
        thread = threading.Thread(
            target=self._thread,
            args=(run, drive, within),
            name=f"svc-infra-check-{lane.check.name}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as exc:  # the process is out of threads, or shutting down
            self._end(run, judge_exception(lane.check.name, exc, 0.0))
        return run

    def wait(self, run: Run, *, until: float | None = None) -> Report | None:
        """Return the run's report, waiting no longer than its deadline.

        Args:
            run: what :meth:`start` returned.
            until: a moment on the runner's clock at which the caller gives up, before the deadline perhaps.

        Returns:
            The report; None when the caller gave up first.
        """
        if run.late and run.lane.run is run:  # hung since before this ask: say for how long
            self._count_hang(run)
            report = run.report
            if report is not None:
                still = overdue(run.lane.check, running_for=self.clock() - run.began)
                return replace(report, result=held_back(run.lane.check, still, run.lane.standing))
        deadline = run.deadline if until is None else min(until, run.deadline)
        run.done.wait(max(0.0, deadline - self.clock()))
        if run.report is None:
            if self.clock() < run.deadline:
                return None
            self._settle(run, overdue(run.lane.check), timed_out=True)
            run.done.wait(max(0.0, run.deadline + _GRACE - self.clock()))
        return run.report

    def recent(self, lane: Lane, max_age: float) -> Report | None:
        """Return the lane's last report when it is at most *max_age* seconds old."""
        last = lane.last
        if last is not None and max_age > 0 and self.clock() - last.finished <= max_age:
            return replace(last, reused=True)
        return None

    def when_done(self, run: Run, tell: Callable[[], object]) -> None:
        """Call *tell*, which must not raise, in the run's thread when it has ended; at once if it has."""
        with self._lock:
            if not run.done.is_set():
                run.watchers.append(tell)
                return
        tell()

    def call_off(self, run: Run) -> bool:
        """Free the lane of a run that the caller alone has asked for; tell whether it is so.

        For a caller who is cancelled and cancels the run's coroutine. Who asks from now on gets a run of
        their own.
        """
        with self._lock:
            if run.askers > 1 or run.report is not None or run.lane.run is not run:
                return False
            run.lane.run = None
            return True

    def stuck_for(self, lane: Lane) -> float | None:
        """Return the seconds since a run began that is past its deadline; None when there is none."""
        run = lane.run
        now = self.clock()
        return now - run.began if run is not None and now >= run.deadline else None

    def forget_in_flight(self, lanes: list[Lane]) -> None:
        """Make everything usable in a forked child: its parent's threads do not exist there."""
        self._lock = threading.Lock()
        self._announcer.renew()
        for lane in lanes:
            lane.run = None
            lane.threads = []

    def verdict(self, lane: Lane, status: HealthStatus, message: str) -> Report:
        """Return a report that no run stands behind: it is neither kept nor announced."""
        result = HealthCheckResult(lane.check.name, status, 0.0, message=message)
        return Report(lane.check, result, self.clock(), time.time(), 0.0)

    def _thread(self, run: Run, drive: Drive | None, within: Within | None) -> None:
        # A context of its own: a request's must not leak into a run that outlives it.
        judged = Context().run(self._perform, run, drive, within)
        if judged is None:
            self._free(run)
        else:
            result, timed_out = judged
            self._end(run, result, timed_out=timed_out)

    def _perform(
        self, run: Run, drive: Drive | None, within: Within | None
    ) -> tuple[HealthCheckResult, bool] | None:
        check = run.lane.check
        registered_timeout.set(check.timeout)
        running_lanes.set(run.chain)
        lane_threads.set(run.lane.threads)
        value: Any = None
        error: BaseException | None = None
        try:
            with within() if within is not None else contextlib.nullcontext():
                value = check.check_fn()
                if isawaitable(value):
                    value = (drive or _drive())(value, max(0.0, run.deadline - self.clock()))
        except CalledOff:
            return None
        except BaseException as exc:  # SystemExit and its like too: whoever asked gets an answer
            error = exc
        taken = self.clock() - run.began
        cancelled = isinstance(error, TimeoutError) and taken >= check.timeout - _EARLY
        if taken >= check.timeout or cancelled:
            return overdue(check), True
        if error is not None:
            return judge_exception(check.name, error, taken * 1000), False
        return judge(check.name, value, taken * 1000), False

    def _end(self, run: Run, result: HealthCheckResult, *, timed_out: bool = False) -> None:
        if run.report is not None:
            _logger.info(
                "check '%s' ended %.1fs after it began, past its timeout; it may be run again",
                run.lane.check.name,
                self.clock() - run.began,
                extra={"check": run.lane.check.name},
            )
        else:
            self._settle(run, result, timed_out=timed_out)
        self._free(run)

    def _free(self, run: Run) -> None:
        """Make the lane free for its next run."""
        with self._lock:
            if run.lane.run is run:
                run.lane.run = None
            run.done.set()
        for tell in run.watchers:
            tell()

    def _count_hang(self, run: Run) -> None:
        """Count a run that hangs as one more failure for each timeout it has been running.

        It is not started again, so nothing else would ever bring a check with a threshold to count as failed.
        """
        lane, check = run.lane, run.lane.check
        with self._lock:
            old = lane.standing.status
            due = min(int((self.clock() - run.began) / check.timeout), check.failures_before_unhealthy)
            while run.counted < due:
                run.counted += 1
                lane.standing = lane.standing.after(
                    HealthStatus.UNHEALTHY,
                    failures=check.failures_before_unhealthy,
                    successes=check.successes_before_healthy,
                )
            if lane.standing.status is old or lane.removed:
                return
            at = time.time()
            event = CheckFinished(
                check.name, lane.standing.status, check.critical, check.timeout, timed_out=True, at=at
            )
            self._announcer.note(event, old, overdue(check).message)
        self._announcer.announce()

    def _settle(self, run: Run, result: HealthCheckResult, *, timed_out: bool) -> None:
        """Record the run's verdict, once, and announce it."""
        lane, check = run.lane, run.lane.check
        now, at = self.clock(), time.time()
        with self._lock:
            if run.report is not None:
                return
            old = lane.standing.status
            lane.standing = lane.standing.after(
                result.status,
                failures=check.failures_before_unhealthy,
                successes=check.successes_before_healthy,
            )
            result = held_back(check, result, lane.standing)
            duration = min(now - run.began, check.timeout)
            run.late, run.counted = timed_out, 1
            run.report = lane.last = Report(check, result, now, at, duration)
            if not lane.removed:
                event = CheckFinished(check.name, result.status, check.critical, duration, timed_out, at)
                self._announcer.note(event, old, result.message)
        self._announcer.announce()


def _drive() -> Drive:
    from .coroutines import drive

    return drive


def asks_for_itself(lane: Lane) -> bool:
    """Tell whether the code running now is part of a run in *lane*: it would wait for itself."""
    return lane in running_lanes.get()
