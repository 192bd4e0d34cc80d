"""Behind the page: looking at this process and at the store, and giving orders. Knows no Flask."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from .. import __version__
from ..ops.gates import PART as MAINTENANCE_PART
from ..state import orders
from ..state.asking import ask
from ..state.store import StoreError
from .rows import (
    CheckRow,
    Overview,
    StoreRow,
    SwitchRow,
    check_row,
    circuit_row,
    concerns,
    entry_row,
    local_circuit,
    worst_first,
)
from .text import plain, said, span

if TYPE_CHECKING:
    from ..health.registry import HealthRegistry
    from ..mounts import Mounts
    from ..ops.watch import Watch
    from ..ops.windows import Window
    from ..resilience import Breakers, CircuitBreaker
    from ..state.ledger import Json
    from ..state.orders import Entry
    from ..state.reporter import Reporter
    from ..state.store import Store
    from .form import Order

__all__ = ["Desk", "Refused"]

_FOR_CHECKS = 0.25
_FOR_STORE = 0.5
"""Seconds a page waits for checks that run, and for the store; without them it shows what is known."""
_LATEST = 50

_CONFLICT, _NOT_FOUND, _UNAVAILABLE = 409, 404, 503


class Refused(Exception):  # noqa: N818 - an answer, told to the person who asked
    """An order that was not carried out.

    Attributes:
        status: the HTTP status that says so.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the store says, or why it says nothing."""

    circuits: dict[str, Json]
    maintenance: Json | None
    entries: list[Entry]
    trouble: str | None


class Desk:
    """What one app's console looks at and orders.

    Args:
        service: what the app is called.
        namespace: whose state it shares.
        mounts: what is mounted on the app.
        registry: the health checks.
        breakers: the circuits.
        reporter: talks to the store; None where nothing is shared.
        max_age: how old a check's result may be, in seconds, that is shown without running it again.
    """

    def __init__(
        self,
        *,
        service: str,
        namespace: str,
        mounts: Mounts,
        registry: HealthRegistry,
        breakers: Breakers,
        reporter: Reporter | None,
        max_age: float,
    ) -> None:
        self._service = service
        self._namespace = namespace
        self._mounts = mounts
        self._registry = registry
        self._breakers = breakers
        self._reporter = reporter
        self._max_age = max_age

    @property
    def shared(self) -> bool:
        """Whether an order would reach anybody but this worker."""
        return self._reporter is not None

    @property
    def cure(self) -> str:
        """Why nothing can be ordered where nothing is shared."""
        return orders.CURE.format(consequence="the page looks, and changes nothing", where="")

    @property
    def switches_maintenance(self) -> bool:
        """Whether the app has maintenance mode at all."""
        return MAINTENANCE_PART in self._mounts.parts

    # Looking

    def look(self) -> Overview:
        """Return what there is to see, without waiting for what hangs."""
        now = datetime.now(UTC)
        checks = self._checks()
        known = self._shared()
        rows = [circuit_row(found, self._breaker(name)) for name, found in known.circuits.items()]
        circuits, left_out = worst_first(rows)
        store, switch, held = self._store(known), self._switch(known, now), self._mounts.held("ready")
        held = said(held)
        return Overview(
            service=plain(self._service, 100),
            namespace=self._namespace,
            worker=f"{os.uname().nodename}:{os.getpid()}",
            version=__version__,
            now=_clock(now),
            held=held,
            store=store,
            switch=switch,
            circuits=circuits,
            left_out=left_out,
            checks=checks,
            entries=[entry_row(entry) for entry in known.entries],
            concerns=concerns(held=held, store=store, switch=switch, circuits=rows, checks=checks),
        )

    def _breaker(self, name: str) -> CircuitBreaker | None:
        return self._breakers[name] if name in self._breakers else None  # noqa: SIM401 - get() makes one

    def _checks(self) -> list[CheckRow]:
        registry = self._registry
        until = registry._runner.clock() + _FOR_CHECKS  # noqa: SLF001 - of this package, as the probes ask it
        reports = registry._check(max_age=self._max_age, until=until)  # noqa: SLF001
        finished = {report.check.name: report for report in reports if not report.unfinished}
        return [check_row(known, finished.get(known.name)) for known in registry.snapshot()]

    def _shared(self) -> _Shared:
        trouble = None
        if self._reporter is not None:
            try:
                return ask(self._reporter, self._read, patience=_FOR_STORE)
            except StoreError as error:
                trouble = said(error)
        here = {breaker.name: local_circuit(breaker) for breaker in self._breakers}
        return _Shared(here, None, [], trouble)

    def _read(self, store: Store) -> _Shared:
        records, documents = orders.snapshot(store)
        names = [breaker.name for breaker in self._breakers]
        return _Shared(
            orders.circuits(records, documents, names),
            orders.maintenance(documents),
            orders.journal(store, _LATEST),
            None,
        )

    def _store(self, known: _Shared) -> StoreRow:
        reporter = self._reporter
        if reporter is None:
            return StoreRow(url="memory://", shared=False, trouble=None)
        trouble = known.trouble
        down_for = reporter.down_for
        if trouble is not None and down_for is not None:
            trouble = f"for {span(down_for)}: {trouble}"
        return StoreRow(url=plain(reporter.store.url, 200), shared=True, trouble=trouble)

    def _switch(self, known: _Shared, now: datetime) -> SwitchRow | None:
        watch: Watch | None = self._mounts.parts.get(MAINTENANCE_PART)
        if watch is None:
            return None
        ordered = known.maintenance or _ordered_here(watch.maintenance.ordered)
        current = watch.current()
        remaining = ordered["remaining"]
        on = ordered["mode"] != "off"
        return SwitchRow(
            ordered=ordered["mode"],
            by=plain(str(ordered["actor"]), 100) if on else None,
            why=said(ordered["reason"]) if on else None,
            until=f"{_clock(now + timedelta(seconds=remaining))} (in {span(remaining)})"
            if on and remaining is not None
            else None,
            here=watch.mode.value,
            here_by=None if current is None else plain(current.actor, 100),
            variable=watch.variable,
            flagged=watch.flagged,
            scheduled=tuple(_scheduled(window) for window in watch.maintenance.status().scheduled),
        )

    # Ordering

    def carry_out(self, order: Order, actor: str) -> None:
        """Have every worker do what *order* says, by the name of *actor*.

        Raises:
            Refused: nobody would hear it, there is no such circuit, or the store does not answer.
        """
        reporter = self._reporter
        if reporter is None:
            raise Refused(_CONFLICT, self.cure)
        if order.action.startswith("maintenance.") and not self.switches_maintenance:
            raise Refused(_NOT_FOUND, "this app has no maintenance mode; nothing was changed.")
        try:
            known = ask(reporter, lambda store: self._give(store, order, actor), patience=_FOR_STORE)
        except StoreError as error:
            raise Refused(
                _UNAVAILABLE,
                f"the state store '{reporter.store.url}' does not answer ({said(error)}); nothing is known "
                "to have changed. Check that it runs and can be reached and written from here.",
            ) from None
        if not known:
            shown = plain(order.circuit, 100)
            raise Refused(_NOT_FOUND, f"no circuit is called '{shown}'; nothing was changed.")
        reporter.ring()  # this worker need not wait for its next poll

    def _give(self, store: Store, order: Order, actor: str) -> bool:
        """Give *order*, in the reporter's thread; tell whether what it is about exists."""
        if order.action.startswith("maintenance."):
            orders.switch(store, order.mode, reason=order.reason, actor=actor, duration=order.duration)
            return True
        name = order.circuit
        names = [breaker.name for breaker in self._breakers]
        if name not in orders.circuits(*orders.snapshot(store), names):
            return False
        if order.action == "breaker.reset":
            orders.reset(store, name, reason=order.reason, actor=actor)
        else:
            kind: Literal["open", "disabled"]
            kind = "open" if order.action == "breaker.force_open" else "disabled"
            orders.overrule(store, name, kind, reason=order.reason, actor=actor)
        return True


def _ordered_here(window: Window | None) -> Json:
    if window is None:
        return {"mode": "off", "reason": None, "actor": None, "remaining": None}
    return {
        "mode": window.mode.value,
        "reason": window.reason,
        "actor": window.actor,
        "remaining": window.remaining(),
    }


def _scheduled(window: Window) -> str:
    starts, ends = (datetime.fromtimestamp(at, UTC) for at in (window.starts, window.ends))
    why = said(window.reason)
    return f"{window.mode.value} from {_clock(starts)} to {_clock(ends)}" + (f": {why}" if why else "")


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
