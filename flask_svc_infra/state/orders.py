"""What a person sees and orders of all workers at once, through the store.

The command line and the console are two ways to the same. Nothing here waits, prints or knows who asks: each
function does one thing with a store and lets its :class:`~flask_svc_infra.state.store.StoreError` pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from .document import MAINTENANCE, circuit_key, order
from .store import decoded

if TYPE_CHECKING:
    from .ledger import Json
    from .store import Store

__all__ = [
    "CURE",
    "Entry",
    "circuit",
    "circuits",
    "journal",
    "maintenance",
    "moment",
    "overrule",
    "reset",
    "snapshot",
    "switch",
]

CURE = (
    "SVC_INFRA_STATE_URL is 'memory://', where each worker keeps its own state and none can be reached "
    "from here; {consequence}. Set it to sqlite:////path.db for the workers of one host, or to "
    "redis://host:6379/0 for a fleet{where}."
)
"""Why nothing can be ordered where nothing is shared, and what to do about it."""

_PREFIX = circuit_key("")
_WORDS: dict[str | None, str] = {"open": "forced open", "disabled": "disabled", None: "reset"}
_MODES = ("read-only", "full")


@dataclass(frozen=True, slots=True)
class Entry:
    """One change, as the journal has it.

    Attributes:
        at: when, in milliseconds since the epoch, by the clock of the store's host; None if it cannot be
            read.
        name: the circuit, or ``maintenance``.
        what: what changed, in words.
        reason: why.
        actor: who or what did it.
    """

    at: int | float | None
    name: str
    what: str
    reason: str | None
    actor: str


def snapshot(store: Store) -> tuple[Json, Json]:
    """Return all records and documents."""
    reply = store.act("sync", {"seen": -1, "reports": [], "probe": False})
    return reply["records"] or {}, reply["documents"] or {}


def journal(store: Store, limit: int) -> list[Entry]:
    """Return the last *limit* changes, newest first; what cannot be read as one is left out."""
    found = store.act("journal", {"limit": limit})["entries"] or ()
    return [_entry(entry) for entry in found if isinstance(entry, dict)]


def _entry(entry: Json) -> Entry:
    at, reason = entry.get("at"), entry.get("reason")
    return Entry(
        at=at if isinstance(at, int | float) and not isinstance(at, bool) else None,
        name=str(entry.get("name")).removeprefix(_PREFIX),
        what=str(entry.get("what")),
        reason=None if reason is None else str(reason),
        actor=str(entry.get("actor")),
    )


def moment(at: Any) -> str:
    """Return milliseconds since the epoch as a date in UTC; a dash for what is none."""
    if isinstance(at, int | float):
        try:
            return datetime.fromtimestamp(at / 1000, tz=UTC).isoformat(timespec="seconds")
        except (ValueError, OverflowError, OSError):
            pass
    return "-"


def circuits(records: Json, documents: Json, names: Iterable[str]) -> dict[str, Json]:
    """Return how each circuit is, by name: those of *names*, and those the store knows."""
    ordered = {key.removeprefix(_PREFIX) for key in documents if key.startswith(_PREFIX)}
    every = {*names, *records, *ordered}
    return {
        name: circuit(name, records.get(name), documents.get(circuit_key(name))) for name in sorted(every)
    }


def circuit(name: str, record: Json | None, document: Json | None) -> Json:
    """Return how one circuit is, from its record and from what overrules it."""
    body: Any = decoded(document["body"]) if document else None
    body = body if isinstance(body, dict) else {}
    forced = body.get("kind") if body.get("kind") in ("open", "disabled") else None
    state, reason = "closed", None
    if record is not None:
        state, reason = record["state"], record["reason"]
    if forced:
        state, reason = "open" if forced == "open" else "closed", body.get("reason")
    retry_after = record["remaining"] / 1000 if record and state == "open" and not forced else None
    return {
        "name": name,
        "state": state,
        "forced": forced,
        "retry_after": retry_after,
        "reason": reason,
        "actor": document["actor"] if document and forced else None,
        "epoch": record["epoch"] if record else 0,
    }


def overrule(
    store: Store, name: str, kind: Literal["open", "disabled"] | None, *, reason: str | None, actor: str
) -> None:
    """Force a circuit open, disable it, or with None lift either."""
    body = {"kind": kind, "reason": reason}
    store.act("put", order(circuit_key(name), body, what=_WORDS[kind], reason=reason, actor=actor))


def reset(store: Store, name: str, *, reason: str | None, actor: str) -> None:
    """Close a circuit and lift what overrules it.

    Also where it is closed already it is closed anew: a worker may have opened it for itself, for want of a
    quorum.
    """
    record = snapshot(store)[0].get(name)
    epoch = 1 if record is None else record["epoch"] + 1
    while True:
        args = {
            "name": name,
            "epoch": epoch,
            "state": "closed",
            "recovery": 0,
            "opens": 0,
            "reason": reason or "reset",
            "actor": actor,
        }
        record = store.act("restore", args)["record"]
        if (record["state"], record["epoch"]) == ("closed", epoch):
            break
        epoch = record["epoch"] + 1  # another worker was quicker
    overrule(store, name, None, reason=reason, actor=actor)


def switch(
    store: Store,
    mode: str,
    *,
    reason: str | None,
    actor: str,
    duration: float | None = None,
    retry_after: int | None = None,
) -> None:
    """Switch maintenance to *mode*, ``off`` included, in place of what was ordered before.

    Args:
        store: where.
        mode: ``off``, ``read-only`` or ``full``.
        reason: why.
        actor: who.
        duration: seconds until it ends by itself.
        retry_after: seconds a refused client is told to wait; None for the app's own default.
    """
    body = {"mode": mode, "reason": reason, "retry_after": retry_after}
    args = order(MAINTENANCE, body, what=mode, reason=reason, actor=actor, duration=duration)
    store.act("put", args)


def maintenance(documents: Json) -> Json:
    """Return the order in force: mode, reason, actor and the seconds that remain."""
    found = documents.get(MAINTENANCE)
    body: Any = decoded(found["body"]) if found else None
    remaining = found["remaining"] if found else None
    mode = body.get("mode") if isinstance(body, dict) else None
    if mode not in _MODES or remaining == 0:
        mode = "off"
    return {
        "mode": mode,
        "reason": body.get("reason") if isinstance(body, dict) else None,
        "actor": found["actor"] if found else None,
        "remaining": None if remaining is None else remaining / 1000,
    }
