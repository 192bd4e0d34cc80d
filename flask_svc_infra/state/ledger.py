"""The rules every store follows: what each operation does to the records, pure.

A store calls :func:`act` with a shelf nobody else writes to meanwhile (a lock, a transaction) and its own
clock in milliseconds; ``redis.lua`` is the same rules where the server runs them. ``tests/state`` proves the
two equal. Clocks of hosts never meet: callers send and get durations.

What is kept:

- a *record* for each circuit: its epoch (grows by one with each change of state), its state, until when it is
  open, the trials' leases, the votes to open it. Everybody's knowledge is ordered by the epoch: whoever knows
  a higher one than the store has, because the store lost its data, writes it back (``restore``), so that an
  emptied store neither resurrects a state nor wedges in one.
- a *tally* for each circuit: what its calls came to since it closed.
- *documents*: small, versioned, the newest wins.
- a journal, bounded.

What cannot be read as such (garbage, a hostile hand's, another version's) counts as absent.
"""

from __future__ import annotations

from typing import Any, Protocol

from .figures import LARGEST, whole
from .tally import counted

__all__ = ["FARTHEST", "JOURNAL_LENGTH", "Json", "Shelf", "act"]

FARTHEST = 30 * 86_400_000
"""A time further ahead than this was not written by us."""
JOURNAL_LENGTH = 1000
STATES = frozenset({"closed", "open", "half_open"})

Json = dict[str, Any]


class Shelf(Protocol):
    """Where a store keeps its records, for the time of one operation."""

    def get(self, section: str, name: str) -> Any:
        """Return what is kept, decoded; None when there is nothing, or garbage."""
        ...

    def put(self, section: str, name: str, value: Json) -> None:
        """Keep *value*."""
        ...

    def names(self, section: str) -> list[str]:
        """Return the names of what is kept."""
        ...

    def revision(self) -> int:
        """Return the number of the last change; 0 when nothing was ever changed."""
        ...

    def change(self, now: int, entry: Json, /) -> None:
        """Note a change that all must hear of: a new revision, *entry* in the journal, the bell."""
        ...

    def journal(self, limit: int) -> list[Any]:
        """Return the last entries, newest first."""
        ...


def act(shelf: Shelf, now: int, operation: str, args: Json) -> Json:
    """Do *operation*: ``sync``, ``acquire``, ``settle``, ``open``, ``restore``, ``put`` or ``journal``."""
    return _OPERATIONS[operation](shelf, now, args)


def _times(value: Any, now: int) -> dict[str, int]:
    """Read leases or votes: those that still hold."""
    if not isinstance(value, dict):
        return {}
    return {key: end for key, end in value.items() if whole(end, now + 1, now + FARTHEST)}


def _record(shelf: Shelf, now: int, name: str) -> Json | None:
    found = shelf.get("records", name)
    if (
        not isinstance(found, dict)
        or not isinstance(found.get("state"), str)
        or found["state"] not in STATES
        or not whole(found.get("epoch"), 0, LARGEST)
        or not whole(found.get("until"), 0, now + FARTHEST)
        or not whole(found.get("opens"), 0, LARGEST)
        or not whole(found.get("successes"), 0, LARGEST)
        or not isinstance(found.get("reason"), str)
    ):
        return None
    kept = {key: found[key] for key in ("epoch", "state", "until", "opens", "successes", "reason")}
    return kept | {"leases": _times(found.get("leases"), now), "votes": _times(found.get("votes"), now)}


def _shown(record: Json | None, now: int) -> Json | None:
    if record is None:
        return None
    return {
        "epoch": record["epoch"],
        "state": record["state"],
        "remaining": max(0, record["until"] - now),
        "opens": record["opens"],
        "successes": record["successes"],
        "reason": record["reason"],
    }


def _claimed(args: Json, state: str) -> Json:
    """Return the record of a caller who knows more than the store."""
    return {
        "epoch": args["epoch"],
        "state": state,
        "until": 0,
        "opens": args["opens"],
        "successes": 0,
        "reason": args["reason"],
        "leases": {},
        "votes": {},
    }


def _save(shelf: Shelf, now: int, args: Json, record: Json, old: str | None) -> None:
    """Keep *record*; with *old*, the state it was in before, as a change all must hear of."""
    shelf.put("records", args["name"], record)
    if old is None:
        return
    shelf.change(
        now,
        {
            "at": now,
            "kind": "circuit",
            "name": args["name"],
            "what": f"{old} -> {record['state']}",
            "reason": record["reason"],
            "actor": args["actor"],
        },
    )


def _enter(shelf: Shelf, now: int, args: Json, record: Json, state: str, *, reason: str) -> None:
    old = record["state"]
    record.update(
        epoch=max(record["epoch"], args["epoch"]) + 1,
        state=state,
        until=0,
        successes=0,
        reason=reason,
        leases={},
        votes={},
    )
    if state == "open":
        record["until"] = now + args["recovery"]
        record["opens"] += 1
    elif state == "closed":
        record["opens"] = 0
    _save(shelf, now, args, record, old)


def _sync(shelf: Shelf, now: int, args: Json) -> Json:
    if args["probe"]:
        shelf.put("tallies", "", {"at": now})  # a store that cannot write is not up
    tallies = [_count(shelf, now, report) for report in args["reports"]]
    revision = shelf.revision()
    reply: Json = {"revision": revision, "tallies": tallies}
    if revision != args["seen"] or revision == 0:  # an empty store may have been emptied since
        records = {name: _record(shelf, now, name) for name in shelf.names("records")}
        documents = {key: _document(shelf, now, key) for key in shelf.names("documents")}
        reply["records"] = {name: _shown(found, now) for name, found in records.items() if found}
        reply["documents"] = {key: found for key, found in documents.items() if found}
        reply["ignored"] = sorted(name for name, found in (records | documents).items() if found is None)
    return reply


def _count(shelf: Shelf, now: int, report: Json) -> Json:
    """Add one process's calls of a circuit to the fleet's, and return what that makes."""
    record = _record(shelf, now, report["name"])
    if record is not None and (record["state"] != "closed" or record["epoch"] > report["epoch"]):
        return {"run": 0, "windows": [[0, 0] for _ in report["windows"]]}
    tally, answer = counted(shelf.get("tallies", report["name"]), now, report)
    shelf.put("tallies", report["name"], tally)
    return answer


def _acquire(shelf: Shelf, now: int, args: Json) -> Json:
    record = _record(shelf, now, args["name"])
    if record is None or record["epoch"] < args["epoch"]:
        record = _claimed(args, "open")
    if record["state"] == "open" and now >= record["until"]:
        _enter(shelf, now, args, record, "half_open", reason="recovery timeout elapsed")
    granted = record["state"] == "half_open" and len(record["leases"]) < args["limit"]
    if granted:
        record["leases"][args["permit"]] = now + args["lease"]
        _save(shelf, now, args, record, None)
    return {"granted": granted, "record": _shown(record, now)}


def _settle(shelf: Shelf, now: int, args: Json) -> Json:
    record = _record(shelf, now, args["name"])
    if record is None or record["state"] != "half_open" or record["epoch"] != args["epoch"]:
        return {"record": _shown(record, now)}
    record["leases"].pop(args["permit"], None)
    record["successes"] += args["outcome"] == "success"
    if args["outcome"] == "failure":
        _enter(shelf, now, args, record, "open", reason=args["reason"])
    elif record["successes"] >= args["threshold"]:
        _enter(shelf, now, args, record, "closed", reason=args["reason"])
    else:
        _save(shelf, now, args, record, None)
    return {"record": _shown(record, now)}


def _open(shelf: Shelf, now: int, args: Json) -> Json:
    record = _record(shelf, now, args["name"])
    if record is None or record["epoch"] < args["epoch"]:
        record = _claimed(args, "closed")
    if record["epoch"] == args["epoch"] and record["state"] != "open":
        record["votes"][args["host"]] = now + args["vote"]
        if len(record["votes"]) >= args["quorum"]:
            _enter(shelf, now, args, record, "open", reason=args["reason"])
        else:
            _save(shelf, now, args, record, None)
    return {"record": _shown(record, now)}


def _restore(shelf: Shelf, now: int, args: Json) -> Json:
    record = _record(shelf, now, args["name"])
    if record is None or record["epoch"] < args["epoch"]:
        old = "unknown" if record is None else record["state"]
        record = _claimed(args, args["state"])
        if args["state"] == "open":
            record["until"] = now + args["recovery"]
        _save(shelf, now, args, record, old)
    return {"record": _shown(record, now)}


def _document(shelf: Shelf, now: int, key: str) -> Json | None:
    found = shelf.get("documents", key)
    if (
        not isinstance(found, dict)
        or not whole(found.get("version"), 1, LARGEST)
        or not whole(found.get("until"), 0, LARGEST)
        or not isinstance(found.get("body"), str)
        or not isinstance(found.get("actor"), str)
    ):
        return None
    until = found["until"]
    return {
        "version": found["version"],
        "body": found["body"],
        "actor": found["actor"],
        "remaining": max(0, until - now) if until else None,
        "age": now - _given(found, now),
    }


def _given(found: Json, now: int) -> int:
    """Return when an order was given; one from the future was given by another clock, long ago."""
    at: int = found["at"] if whole(found.get("at"), 0, now) else 0
    return at


def _put(shelf: Shelf, now: int, args: Json) -> Json:
    """Keep an order, unless one that was given later is there: it may have been on its way for long."""
    held = _document(shelf, now, args["key"])
    version = args["version"] if args["restore"] else args["version"] + 1
    if held is not None:
        known = held["body"] == args["body"] and held["actor"] == args["actor"]
        if held["age"] < args["age"] or (args["restore"] and (known or held["age"] == args["age"])):
            return {"document": held}
        version = max(version, held["version"] + 1)
    version = min(version, LARGEST)
    until = 0 if args["duration"] is None else now + args["duration"]
    shelf.put(
        "documents",
        args["key"],
        {
            "version": version,
            "body": args["body"],
            "actor": args["actor"],
            "until": until,
            "at": max(0, now - args["age"]),
        },
    )
    shelf.change(
        now,
        {
            "at": now,
            "kind": "document",
            "name": args["key"],
            "what": args["what"],
            "reason": args["reason"],
            "actor": args["actor"],
        },
    )
    return {"document": _document(shelf, now, args["key"])}


def _journal(shelf: Shelf, _now: int, args: Json) -> Json:
    return {"entries": shelf.journal(args["limit"])}


_OPERATIONS = {
    "sync": _sync,
    "acquire": _acquire,
    "settle": _settle,
    "open": _open,
    "restore": _restore,
    "put": _put,
    "journal": _journal,
}
