"""What the page shows: plain values, each in the words and the length it is shown in. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..health.model import HealthStatus
from ..state.orders import moment
from .text import plain, said, span

if TYPE_CHECKING:
    from ..health.lanes import Report
    from ..health.model import CheckSnapshot
    from ..resilience import CircuitBreaker
    from ..state.ledger import Json
    from ..state.orders import Entry

__all__ = [
    "CheckRow",
    "CircuitRow",
    "EntryRow",
    "Overview",
    "StoreRow",
    "SwitchRow",
    "check_row",
    "circuit_row",
    "concerns",
    "entry_row",
    "local_circuit",
    "worst_first",
]

Tone = Literal["good", "odd", "bad"]
"""How a state is coloured; its word says the same."""

LONGEST_NAME = 120
MOST_CIRCUITS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitRow:
    """One circuit, and what this worker has of it (None where it has none)."""

    name: str
    shown: str
    state: str
    tone: Tone
    by: str | None
    why: str | None
    retry_after: str | None
    here: str | None
    rule: str | None
    failures: int | None
    calls: tuple[int, int, int] | None
    orderable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """One health check, as of its last run."""

    name: str
    status: str
    tone: Tone
    critical: bool
    message: str | None
    latency: str | None
    age: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRow:
    """One line of the journal."""

    at: str
    name: str
    what: str
    why: str | None
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchRow:
    """Maintenance: what is ordered, what this worker does, what its environment says, what is to come."""

    ordered: str
    by: str | None
    why: str | None
    until: str | None
    here: str
    here_by: str | None
    variable: str
    flagged: bool
    scheduled: tuple[str, ...]

    @property
    def tone(self) -> Tone:
        """How it is coloured."""
        return "good" if self.ordered == "off" and self.here == "off" else "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRow:
    """The store: where it is, whether it is shared, and what is wrong with it."""

    url: str
    shared: bool
    trouble: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything on the page."""

    service: str
    namespace: str
    worker: str
    version: str
    now: str
    held: str | None
    store: StoreRow
    switch: SwitchRow | None
    circuits: Sequence[CircuitRow]
    left_out: int
    checks: Sequence[CheckRow]
    entries: Sequence[EntryRow]
    concerns: Sequence[str]


def local_circuit(breaker: CircuitBreaker) -> Json:
    """Return how a circuit is in this process, as :func:`~flask_svc_infra.state.orders.circuit` says it."""
    forced = breaker.forced
    return {
        "name": breaker.name,
        "state": breaker.state.value,
        "forced": forced.kind if forced else None,
        "retry_after": breaker.remaining_timeout,
        "reason": forced.reason if forced else None,
        "actor": None,
    }


def circuit_row(found: Json, breaker: CircuitBreaker | None) -> CircuitRow:
    """Return how a circuit is shown.

    Args:
        found: how it is, for all or for this process.
        breaker: the one of this process, if it has made it.
    """
    name, state = found["name"], _state_in_words(found["state"], found["forced"])
    here = rule = failures = calls = None
    if breaker is not None:
        forced = breaker.forced
        here = _state_in_words(breaker.state.value, forced.kind if forced else None)
        rule = str(breaker.trip)
        failures = breaker._failure_count  # noqa: SLF001 - of this package
        stats = breaker.stats
        calls = stats.total_calls, stats.failed_calls, stats.rejected_calls
    return CircuitRow(
        name=name,
        shown=plain(name, LONGEST_NAME),
        state=state,
        tone="good" if state == "closed" else "odd" if state in ("half-open", "disabled") else "bad",
        by=None if found["actor"] is None else plain(str(found["actor"]), LONGEST_NAME),
        why=None if state == "closed" else said(found["reason"]),
        retry_after=None if found["retry_after"] is None else span(found["retry_after"]),
        here=None if here == state else here,
        rule=rule,
        failures=failures,
        calls=calls,
        orderable=name.isprintable() and len(name) <= LONGEST_NAME,
    )


def _state_in_words(state: str, forced: str | None) -> str:
    if forced is not None:
        return "forced open" if forced == "open" else "disabled"
    return state.replace("_", "-")


def worst_first(rows: Iterable[CircuitRow]) -> tuple[list[CircuitRow], int]:
    """Return the circuits that are not as they should be first, and how many are left out at the end."""
    order = {"bad": 0, "odd": 1, "good": 2}
    sorted_rows = sorted(rows, key=lambda row: (order[row.tone], row.name))
    return sorted_rows[:MOST_CIRCUITS], max(0, len(sorted_rows) - MOST_CIRCUITS)


def check_row(known: CheckSnapshot, report: Report | None) -> CheckRow:
    """Return how a check is shown.

    Args:
        known: what it counts as.
        report: its last result; None while a run goes on longer than the page waits.
    """
    age = "not run yet" if known.age is None else f"{span(known.age)} ago"
    if known.stuck_for is not None:
        age += f"; its run hangs since {span(known.stuck_for)}"
    elif report is None:
        age += "; running"
    status = known.status
    tone: Tone = "bad" if known.critical or status is not HealthStatus.DEGRADED else "odd"
    return CheckRow(
        name=known.name,
        status=str(status),
        tone="good" if status is HealthStatus.HEALTHY else tone,
        critical=known.critical,
        message=None if report is None else said(report.result.message),
        latency=None if known.duration is None else f"{known.duration * 1000:.0f} ms",
        age=age,
    )


def entry_row(entry: Entry) -> EntryRow:
    """Return how a change is shown."""
    return EntryRow(
        at=moment(entry.at).replace("T", " ").removesuffix("+00:00"),
        name=plain(entry.name, LONGEST_NAME),
        what=plain(entry.what, LONGEST_NAME),
        why=said(entry.reason),
        by=plain(entry.actor, LONGEST_NAME),
    )


def concerns(
    *,
    held: str | None,
    store: StoreRow,
    switch: SwitchRow | None,
    circuits: Sequence[CircuitRow],
    checks: Sequence[CheckRow],
) -> list[str]:
    """Return what whoever was paged should know first, a sentence each."""
    found = []
    if switch is not None and switch.tone != "good":
        found.append(f"Maintenance is {switch.ordered if switch.ordered != 'off' else switch.here}.")
    found += _named("circuit", "not closed", [row.shown for row in circuits if row.tone != "good"])
    found += _named("check", "not healthy", [row.name for row in checks if row.tone != "good"])
    if held is not None:
        found.append(f"Readiness is held back: {held}.")
    if store.trouble is not None:
        found.append("The state store does not answer.")
    return found


def _named(noun: str, what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    most = 5
    listed = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    subject = f"1 {noun} is" if len(names) == 1 else f"{len(names)} {noun}s are"
    return [f"{subject} {what}: {listed}."]
