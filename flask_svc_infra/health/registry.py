"""The registry: which checks a service has, and asking them.

Blocking, thread-safe and free of any framework. The async twin is ``flask_svc_infra.aio.HealthRegistry``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from ..errors import ConfigurationError
from .aggregation import aggregate
from .announcer import HealthAnnouncer, OnChange
from .forking import renew_in_children
from .model import (
    DEFAULT_TIMEOUT,
    AggregatedHealthResult,
    CheckSnapshot,
    HealthCheck,
    HealthCheckFn,
    HealthCheckResult,
    HealthStatus,
)
from .refresher import Refresher
from .runner import Drive, Lane, Report, Run, Runner, Within, asks_for_itself

__all__ = ["HealthRegistry", "aggregate"]


class HealthRegistry:
    """The health checks of a service.

    Every ask runs the checks at the same time and takes as long as the slowest, at most until its timeout. A
    check is in flight once: who asks meanwhile shares its run. Thread-safe; usable after a fork; starts no
    thread before the first ask.

    Args:
        on_change: called with a :class:`~flask_svc_infra.events.HealthChanged` after a check's status
            changed, in the thread in which its run ended; what it raises is logged.
        clock: monotonic seconds; tests pass their own.
    """

    def __init__(
        self, *, on_change: OnChange | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lanes: dict[str, Lane] = {}  # replaced, never changed: read without the lock
        self._lock = threading.Lock()
        self._runner = Runner(HealthAnnouncer(self, on_change), clock)
        self._refresher = Refresher(self._runner)
        self._within: Within | None = None
        renew_in_children(self)

    def __repr__(self) -> str:
        checks = ", ".join(f"'{name}' {lane.standing.status}" for name, lane in self._lanes.items())
        return f"<HealthRegistry {checks or 'without checks'}>"

    def add(
        self,
        name: str,
        check_fn: HealthCheckFn,
        *,
        critical: bool = True,
        timeout: float = DEFAULT_TIMEOUT,
        groups: Iterable[str] | None = None,
        interval: float | None = None,
        failures_before_unhealthy: int = 1,
        successes_before_healthy: int = 1,
    ) -> None:
        """Register a health check.

        Args:
            name: unique in this registry; it wins over whatever name the function's results bear.
            check_fn: a sync or async function without arguments that returns a HealthCheckResult, a
                HealthStatus or a bool; raising means unhealthy.
            critical: whether its failure makes the service unhealthy; otherwise it makes it degraded.
            timeout: seconds a run may take. The built-in checks hand it on to their drivers.
            groups: the groups it answers in; None: ``ready``, and ``startup`` too when critical.
            interval: seconds between runs in the background, give or take a tenth so that workers do not
                march in step; probes then never wait for it. None: it runs when asked for.
            failures_before_unhealthy: how many runs in a row must fail before a passing check counts as
                failed.
            successes_before_healthy: how many must pass before a failed one counts as passing.

        Raises:
            ConfigurationError: the name is taken, or a value cannot work. (It is a ValueError.)
        """
        grouped = groups if groups is None or isinstance(groups, str) else tuple(groups)
        check = HealthCheck(
            name,
            check_fn,
            critical,
            timeout,
            grouped,  # type: ignore[arg-type]  # a bare string is refused in there
            interval,
            failures_before_unhealthy,
            successes_before_healthy,
        )
        with self._lock:
            if name in self._lanes:
                raise ConfigurationError(
                    f"health check '{name}' is already registered; the first stays. "
                    "Give this one another name, or remove() the first."
                )
            self._lanes = {**self._lanes, name: Lane(check)}

    def remove(self, name: str) -> bool:
        """Remove a check; tell whether there was one.

        Who waits for its run gets the answer; nothing is announced of it any more.
        """
        with self._lock:
            lane = self._lanes.get(name)
            if lane is None:
                return False
            lane.removed = True
            self._lanes = {key: each for key, each in self._lanes.items() if key != name}
            return True

    def clear(self) -> None:
        """Remove every check."""
        with self._lock:
            for lane in self._lanes.values():
                lane.removed = True
            self._lanes = {}

    @property
    def checks(self) -> list[HealthCheck]:
        """The registered checks, in the order of registration."""
        return [lane.check for lane in self._lanes.values()]

    def check_one(self, name: str) -> HealthCheckResult:
        """Run one check, or share its run in flight.

        Raises:
            KeyError: there is none of this name.
        """
        return self._check([name])[0].result

    def check_all(self) -> AggregatedHealthResult:
        """Run every check at the same time; take as long as the slowest."""
        return aggregate(self._check())

    def wait_until_healthy(
        self, *, timeout: float = 60.0, interval: float = 2.0, check_names: Iterable[str] | None = None
    ) -> bool:
        """Wait until the critical checks (or those named) are healthy or degraded.

        Each attempt asks those that still miss and logs one line that names them.

        Args:
            timeout: seconds to wait at most; kept even when a check hangs for longer.
            interval: seconds between attempts.
            check_names: wait for these instead, critical or not.

        Returns:
            Whether they were ready in time.

        Raises:
            KeyError: a name is not registered.
            ConfigurationError: *check_names* is empty, or a number of seconds cannot work.
        """
        return not self._wait(timeout=timeout, interval=interval, check_names=check_names)

    def snapshot(self) -> list[CheckSnapshot]:
        """Return what is known of each check, without running any: for metrics, at each scrape."""
        now = self._runner.clock()
        return [
            CheckSnapshot(
                name=name,
                critical=lane.check.critical,
                status=lane.standing.status,
                duration=lane.last.duration if lane.last else None,
                age=max(0.0, now - lane.last.finished) if lane.last else None,
                stuck_for=self._runner.stuck_for(lane),
            )
            for name, lane in self._lanes.items()
        ]

    def _check(
        self,
        names: Iterable[str] | None = None,
        *,
        drive: Drive | None = None,
        within: Within | None = None,
        max_age: float | None = None,
        until: float | None = None,
    ) -> list[Report]:
        """Ask the checks named (None: all) and return their reports in that order. It blocks.

        The way in for the other edges of this package; the async facade takes the two halves of it,
        :meth:`_start` and :meth:`_answer`, and waits in between without blocking.

        Args:
            names: names of checks.
            drive: brings an async check to its end: ``(awaitable, seconds) -> value``, called in the run's
                thread, as with ``asyncio.run_coroutine_threadsafe(awaitable, loop).result(seconds)``; it is
                to cancel what it gives up on. None: an event loop for each run.
            within: the context sync checks are called in; None: that of the app the registry is mounted on.
            max_age: how old a report may be, in seconds, to be used again; that of a check with an interval
                may always be older. None: run, whatever is known.
            until: a moment on the registry's clock at which to give up before the deadlines.

        Raises:
            KeyError: there is no check of a name.
        """
        asked = self._start(names, drive=drive, within=within, max_age=max_age)
        return [self._answer(lane, each, until) for lane, each in asked]

    def _start(
        self,
        names: Iterable[str] | None,
        *,
        drive: Drive | None = None,
        within: Within | None = None,
        max_age: float | None = None,
    ) -> list[tuple[Lane, Report | Run]]:
        """Start what :meth:`_check` asks for, without waiting: a report that is there, or a run in flight."""
        lanes = [self._lane(name) for name in names] if names is not None else list(self._lanes.values())
        within = within or self._within
        self._refresher.attend(self, lanes, within)
        return [(lane, self._ask(lane, drive, within, max_age)) for lane in lanes]

    def _wait(
        self,
        *,
        timeout: float,
        interval: float,
        check_names: Iterable[str] | None = None,
        drive: Drive | None = None,
    ) -> list[Report]:
        """Wait as :meth:`wait_until_healthy` does; return the reports of those that are not ready."""
        from .waiting import wait

        return wait(self, timeout=timeout, interval=interval, check_names=check_names, drive=drive)

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            known = ", ".join(f"'{each}'" for each in self._lanes)
            cure = f"name one of {known}" if known else "none is registered, so add() it first"
            raise KeyError(f"health check '{name}' not found; {cure}")
        return lane

    def _ask(
        self, lane: Lane, drive: Drive | None, within: Within | None, max_age: float | None
    ) -> Report | Run:
        if asks_for_itself(lane):
            message = f"check '{lane.check.name}' asked for its own result while it ran; leave itself out"
            return self._runner.verdict(lane, HealthStatus.UNKNOWN, message)
        if max_age is not None:
            report = self._runner.recent(lane, self._refresher.max_age(lane, max_age))
            if report is not None:
                return report
        return self._runner.start(lane, drive=drive, within=within)

    def _answer(self, lane: Lane, asked: Report | Run, until: float | None = None) -> Report:
        if isinstance(asked, Report):
            return asked
        report = self._runner.wait(asked, until=until)
        if report is None:
            nothing = self._runner.verdict(lane, HealthStatus.UNKNOWN, "check is still running")
            report = replace(nothing, unfinished=True)
        return report

    def renew(self) -> None:
        """Make the registry usable in a forked child; called there by itself, never by a user."""
        self._lock = threading.Lock()
        self._runner.forget_in_flight(list(self._lanes.values()))
        self._refresher.renew()
