"""What is read rather than counted: circuits, bulkheads, health checks, maintenance.

Nothing here lies on a breaker's or a check's way. A circuit's own statistics are read at each scrape and,
where a directory gathers several workers, at most once a second at the end of a request and at the worker's
exit; what has been added since the last look goes into the counters. What happens rarely (a transition, the
end of a check) is taken from its event at once.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..events import (
    CheckFinished,
    MaintenanceChanged,
    Retried,
    StoreChanged,
    Transition,
    check_finished,
    circuit_transition,
    maintenance_changed,
    retried,
    store_changed,
)
from ..resilience import live_breakers, live_bulkheads
from . import catalog, compaction
from .instruments import Instruments
from .kept import kept
from .owners import PROCESS_TAG

if TYPE_CHECKING:
    from pathlib import Path

    from ..mounts import Mounts

__all__ = ["AppState", "ProcessState", "process_state"]

_UP = frozenset({"healthy", "degraded"})
_OUTCOMES = (
    ("success", "successful_calls"),
    ("failure", "failed_calls"),
    ("ignored", "ignored_calls"),
    ("rejected", "rejected_calls"),
    ("stale", "stale_calls"),
)


class ProcessState:
    """The process' circuits and bulkheads, as metrics. Thread-safe. `refresh` brings them up to date."""

    def __init__(self, instruments: Instruments) -> None:
        self.instruments = instruments
        self._lock = threading.Lock()
        self._counted: weakref.WeakKeyDictionary[Any, tuple[float, ...]] = weakref.WeakKeyDictionary()
        self._names: set[str] = set()
        self._bulkheads: set[str] = set()
        self._damaged = 0
        self._sources: list[Callable[[], None]] = []
        circuit_transition.connect(self._on_transition)
        retried.connect(self._on_retried)
        _states.add(self)

    def add_source(self, source: Callable[[], None]) -> None:
        """Have *source* called at each refresh, to bring more up to date."""
        self._sources = [*self._sources, source]

    def remove_source(self, source: Callable[[], None]) -> None:
        """Call *source* no more."""
        self._sources = [other for other in self._sources if other != source]

    def refresh(self) -> None:
        """Take over what the circuits and bulkheads say now."""
        for source in self._sources:
            source()
        with self._lock:
            self._count_calls()
            self._show_circuits()
            self._show_bulkheads()
            damaged = compaction.skipped_files(self.instruments.directory)
            self.instruments.inc(catalog.FILES_SKIPPED, (), damaged - self._damaged)
            self._damaged = damaged

    def _count_calls(self) -> None:
        for breaker in live_breakers():
            stats = breaker.stats
            now = tuple(float(getattr(stats, field, 0)) for _, field in _OUTCOMES)
            before = self._counted.get(breaker, (0.0,) * len(now))
            for (outcome, _), new, old in zip(_OUTCOMES, now, before, strict=True):
                self.instruments.inc(catalog.BREAKER_CALLS, (breaker.name, outcome), max(0.0, new - old))
            self._counted[breaker] = now

    def _show_circuits(self) -> None:
        worst: dict[str, str] = {}
        for breaker in live_breakers():
            state = str(breaker.state)
            shown = worst.get(breaker.name)
            if shown is None or _RANK[state] > _RANK[shown]:
                worst[breaker.name] = state
        for name in self._names - worst.keys():
            self.instruments.set_state(catalog.BREAKER_STATE, (name,), None)
        for name in worst.keys() - self._names:
            for state in catalog.CIRCUIT_STATES:  # born at zero, so that the first transition is an increase
                self.instruments.inc(catalog.BREAKER_TRANSITIONS, (name, state), 0.0)
        for name, state in worst.items():
            self.instruments.set_state(catalog.BREAKER_STATE, (name,), state)
        self._names = set(worst)

    def _show_bulkheads(self) -> None:
        in_flight: dict[str, float] = {}
        limits: dict[str, float] = {}
        for bulkhead in live_bulkheads():
            name = bulkhead.name
            in_flight[name] = in_flight.get(name, 0.0) + bulkhead.in_flight
            limits[name] = limits.get(name, 0.0) + bulkhead.max_concurrent
            rejected = float(bulkhead.rejected)
            (before,) = self._counted.get(bulkhead, (0.0,))
            self.instruments.inc(catalog.BULKHEAD_REJECTED, (name,), max(0.0, rejected - before))
            self._counted[bulkhead] = (rejected,)
        for name in self._bulkheads - in_flight.keys():
            self.instruments.set(catalog.BULKHEAD_IN_FLIGHT, (name,), float("nan"))
            self.instruments.set(catalog.BULKHEAD_LIMIT, (name,), float("nan"))
        for name, value in in_flight.items():
            self.instruments.set(catalog.BULKHEAD_IN_FLIGHT, (name,), value)
            self.instruments.set(catalog.BULKHEAD_LIMIT, (name,), limits[name])
        self._bulkheads = set(in_flight)

    def _on_transition(self, _sender: object, event: Transition) -> None:
        self.instruments.inc(catalog.BREAKER_TRANSITIONS, (event.name, str(event.new)))
        if self.instruments.directory is not None:  # this worker may see no request and no scrape for long
            self.refresh()

    def _on_retried(self, _sender: object, event: Retried) -> None:
        outcome = "exhausted" if event.delay is None else "retried"
        self.instruments.inc(catalog.RETRY_FAILURES, (event.function, outcome))

    def after_fork(self) -> None:
        """In a child: what its copies of the circuits have counted is their parent's to report."""
        self._lock = threading.Lock()
        self._damaged = compaction.skipped_files(self.instruments.directory)
        for breaker in live_breakers():
            stats = breaker.stats
            self._counted[breaker] = tuple(float(getattr(stats, field, 0)) for _, field in _OUTCOMES)
        for bulkhead in live_bulkheads():
            self._counted[bulkhead] = (float(bulkhead.rejected),)


class AppState:
    """One app's health checks and maintenance, as metrics. Thread-safe."""

    def __init__(self, instruments: Instruments, mounts: Mounts) -> None:
        self.instruments = instruments
        self._mounts = mounts
        self._changes_born = False
        check_finished.connect(self._on_check)
        maintenance_changed.connect(self._on_maintenance)
        store_changed.connect(self._on_store)

    def refresh(self) -> None:
        """Take over what the registry and the maintenance of this app say now."""
        registry = self._mounts.parts.get("health.registry")
        for check in () if registry is None else registry.snapshot():
            labels = (check.name,)
            if check.age is not None:
                at = time.time() - check.age
                self.instruments.set(catalog.HEALTH_UP, labels, float(str(check.status) in _UP), at=at)
                self.instruments.set(catalog.HEALTH_LAST_RUN, labels, at)
            self.instruments.set(catalog.HEALTH_STUCK, labels, check.stuck_for or 0.0)
        maintenance = self._mounts.parts.get("ops.maintenance")
        if maintenance is not None:
            if not self._changes_born:  # before the first change, so that it shows as an increase
                self._changes_born = True
                for mode in catalog.MAINTENANCE_MODES:
                    for actor in catalog.MAINTENANCE_ACTORS:
                        self.instruments.inc(catalog.MAINTENANCE_CHANGES, (mode, actor), 0.0)
            self.instruments.set_state(catalog.MAINTENANCE_MODE, (), str(maintenance.mode))
        reporter = self._mounts.parts.get("state.reporter")
        if reporter is not None and reporter.met:
            self.instruments.set(catalog.STATE_UP, (), float(reporter.up))

    def close(self) -> None:
        """Listen no more."""
        check_finished.disconnect(self._on_check)
        maintenance_changed.disconnect(self._on_maintenance)
        store_changed.disconnect(self._on_store)

    def _on_check(self, sender: object, event: CheckFinished) -> None:
        if self._mounts.parts.get("health.registry") is not sender:
            return
        self.instruments.inc(catalog.HEALTH_RUNS, (event.name, str(event.status)))
        self.instruments.observe(catalog.HEALTH_DURATION, (event.name,), event.duration)

    def _on_maintenance(self, sender: object, event: MaintenanceChanged) -> None:
        parts = self._mounts.parts
        if parts.get("ops.maintenance") is sender:
            actor = event.actor if event.actor in catalog.MAINTENANCE_ACTORS else "other"
            self.instruments.inc(catalog.MAINTENANCE_CHANGES, (event.mode, actor))
            # At once: of several processes, the one that is scraped next may be another.
            self.instruments.set_state(catalog.MAINTENANCE_MODE, (), str(parts["ops.maintenance"].mode))

    def _on_store(self, sender: object, event: StoreChanged) -> None:
        if self._mounts.parts.get("state.reporter") is sender:
            self.instruments.set(catalog.STATE_UP, (), float(event.up))


_RANK = {state: rank for rank, state in enumerate(catalog.CIRCUIT_STATES)}
_states: weakref.WeakSet[ProcessState] = kept("process states", weakref.WeakSet)
_shared: dict[Path | None, ProcessState] = kept("shared process states", dict)
_sharing = threading.Lock()


def process_state(directory: Path | None) -> ProcessState:
    """Return the process' state for *directory*, made at the first call: all apps show the same one."""
    with _sharing:
        state = _shared.get(directory)
        if state is None:
            state = _shared[directory] = ProcessState(_instruments(directory))
            if directory is not None:
                atexit.register(_at_exit, state, directory)
        return state


def _instruments(directory: Path | None) -> Instruments:
    specs = [spec for spec in catalog.CATALOG if spec.scope == "process"]
    return Instruments(specs, buckets=(), directory=directory, tag=PROCESS_TAG)


def _at_exit(state: ProcessState, directory: Path) -> None:
    if directory.is_dir():
        state.refresh()


def _after_fork() -> None:
    global _sharing  # noqa: PLW0603 - a child may have been forked while another thread held it
    _sharing = threading.Lock()
    for state in list(_states):
        state.after_fork()


os.register_at_fork(after_in_child=_after_fork)
