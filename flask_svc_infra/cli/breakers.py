"""``flask svc-infra breakers``: look at the fleet's circuits, and overrule them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ..state.document import circuit_key, order
from ..state.store import decoded
from .output import json_option, load_app, plain, show_json, table
from .state import act, actor, shared_store, snapshot

if TYPE_CHECKING:
    from flask import Flask

    from ..state.ledger import Json
    from ..state.store import Store

__all__ = ["breakers"]

_PREFIX = circuit_key("")
_LATEST = 10
"""Journal entries that ``show`` prints."""

reason_option = click.option("-r", "--reason", help="Why; it shows in refusals, logs and the journal.")


@click.group()
def breakers() -> None:
    """Look at the circuits that all workers share, and overrule them.

    Acts through the store that SVC_INFRA_STATE_URL names; every worker follows within 1.5 seconds.
    """


@breakers.command("list")
@json_option
@click.pass_context
def list_(ctx: click.Context, /, *, as_json: bool) -> None:
    """List the circuits."""
    app = load_app(ctx)
    store = shared_store(app, consequence="there is nothing to list")
    rows = list(_rows(app, store).values())
    if as_json:
        show_json(rows)
        return
    table(
        ("CIRCUIT", "STATE", "FORCED", "RETRY AFTER", "REASON"),
        [
            (
                row["name"],
                row["state"],
                row["forced"] or "-",
                "-" if row["retry_after"] is None else f"{row['retry_after']:.1f}s",
                row["reason"] or "-",
            )
            for row in rows
        ],
    )


@breakers.command()
@click.argument("name")
@json_option
@click.pass_context
def show(ctx: click.Context, /, *, name: str, as_json: bool) -> None:
    """Show one circuit and what happened to it last."""
    app = load_app(ctx)
    store = shared_store(app, consequence="there is nothing to show")
    row = _row_of(app, store, name)
    row["journal"] = [
        {key: entry.get(key) for key in ("at", "what", "reason", "actor")}
        for entry in act(store, "journal", {"limit": 1000})["entries"] or ()
        if isinstance(entry, dict) and entry.get("name") in (name, circuit_key(name))
    ][:_LATEST]
    if as_json:
        show_json(row)
        return
    for key, value in row.items():
        if key != "journal":
            click.echo(plain(f"{key}: {'-' if value is None else value}"))
    if row["journal"]:
        click.echo()
        table(
            ("AT", "WHAT", "REASON", "BY"),
            [
                (_time(entry["at"]), str(entry["what"]), str(entry["reason"] or "-"), str(entry["actor"]))
                for entry in row["journal"]
            ],
        )


@breakers.command("force-open")
@click.argument("name")
@reason_option
@json_option
@click.pass_context
def force_open(ctx: click.Context, /, *, name: str, reason: str | None, as_json: bool) -> None:
    """Refuse every call of a circuit until it is reset."""
    store = _overrule(ctx, name, "open", reason, "forced open")
    _say(f"circuit '{name}' is forced open everywhere, until: breakers reset {name}", store, name, as_json)


@breakers.command()
@click.argument("name")
@reason_option
@json_option
@click.pass_context
def disable(ctx: click.Context, /, *, name: str, reason: str | None, as_json: bool) -> None:
    """Let every call of a circuit pass, unjudged, until it is reset."""
    store = _overrule(ctx, name, "disabled", reason, "disabled")
    _say(f"circuit '{name}' is disabled everywhere, until: breakers reset {name}", store, name, as_json)


@breakers.command()
@click.argument("name")
@reason_option
@json_option
@click.pass_context
def reset(ctx: click.Context, /, *, name: str, reason: str | None, as_json: bool) -> None:
    """Close a circuit and lift what overrules it."""
    store = _overrule(ctx, name, None, reason, "reset")
    record = snapshot(store)[0].get(name)
    while record is not None and record["state"] != "closed":
        args = {
            "name": name,
            "epoch": record["epoch"] + 1,
            "state": "closed",
            "recovery": 0,
            "opens": 0,
            "reason": reason or "reset",
            "actor": actor(),
        }
        record = act(store, "restore", args)["record"]
    _say(f"circuit '{name}' is closed everywhere", store, name, as_json)


def _say(text: str, store: Store, name: str, as_json: bool) -> None:
    if not as_json:
        click.echo(plain(text))
        return
    records, documents = snapshot(store)
    show_json(_row(name, records.get(name), documents.get(circuit_key(name))))


def _overrule(ctx: click.Context, name: str, kind: str | None, reason: str | None, what: str) -> Store:
    app = load_app(ctx)
    store = shared_store(app, consequence="the circuit was left as it is")
    _row_of(app, store, name)
    body = {"kind": kind, "reason": reason}
    act(store, "put", order(circuit_key(name), body, what=what, reason=reason, actor=actor()))
    return store


def _row_of(app: Flask, store: Store, name: str) -> Json:
    rows = _rows(app, store)
    if name not in rows:
        known = ", ".join(f"'{other}'" for other in sorted(rows)) or "none"
        raise click.ClickException(
            plain(f"no circuit is called '{name}'; nothing was changed. The circuits are: {known}.")
        )
    return rows[name]


def _rows(app: Flask, store: Store) -> dict[str, Json]:
    """Return every circuit that this app makes at its start, or that the store knows."""
    from ..mounts import mounts_of

    records, documents = snapshot(store)
    names = {breaker.name for breaker in mounts_of(app).parts.get("resilience.breakers", ())}
    names |= set(records) | {key.removeprefix(_PREFIX) for key in documents if key.startswith(_PREFIX)}
    return {name: _row(name, records.get(name), documents.get(circuit_key(name))) for name in sorted(names)}


def _row(name: str, record: Json | None, document: Json | None) -> Json:
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


def _time(at: Any) -> str:
    if not isinstance(at, int | float):
        return "-"
    return datetime.fromtimestamp(at / 1000, tz=UTC).isoformat(timespec="seconds")
