"""``flask svc-infra breakers``: look at the fleet's circuits, and overrule them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from ..state import orders
from .output import json_option, load_app, plain, show_json, table
from .state import actor, asking

if TYPE_CHECKING:
    from flask import Flask

    from ..state.ledger import Json
    from ..state.store import Store

__all__ = ["breakers"]

_LATEST = 10
"""Journal entries that ``show`` prints."""
_UNCHANGED = "the circuit was left as it is"

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
    with asking(app, consequence="there is nothing to list") as store:
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
    with asking(app, consequence="there is nothing to show") as store:
        row = _row_of(app, store, name)
        entries = [entry for entry in orders.journal(store, 1000) if entry.name == name][:_LATEST]
    row["journal"] = [
        {"at": entry.at, "what": entry.what, "reason": entry.reason, "actor": entry.actor}
        for entry in entries
    ]
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
            [(orders.moment(entry.at), entry.what, entry.reason or "-", entry.actor) for entry in entries],
        )


@breakers.command("force-open")
@click.argument("name")
@reason_option
@json_option
@click.pass_context
def force_open(ctx: click.Context, /, *, name: str, reason: str | None, as_json: bool) -> None:
    """Refuse every call of a circuit until it is reset."""
    told = f"circuit '{name}' is forced open everywhere, until: breakers reset {name}"
    _overrule(ctx, name, "open", reason, told, as_json=as_json)


@breakers.command()
@click.argument("name")
@reason_option
@json_option
@click.pass_context
def disable(ctx: click.Context, /, *, name: str, reason: str | None, as_json: bool) -> None:
    """Let every call of a circuit pass, unjudged, until it is reset."""
    told = f"circuit '{name}' is disabled everywhere, until: breakers reset {name}"
    _overrule(ctx, name, "disabled", reason, told, as_json=as_json)


@breakers.command()
@click.argument("name")
@reason_option
@json_option
@click.pass_context
def reset(ctx: click.Context, /, *, name: str, reason: str | None, as_json: bool) -> None:
    """Close a circuit and lift what overrules it."""
    _overrule(ctx, name, None, reason, f"circuit '{name}' is closed everywhere", as_json=as_json)


def _overrule(
    ctx: click.Context,
    name: str,
    kind: Literal["open", "disabled"] | None,
    reason: str | None,
    told: str,
    *,
    as_json: bool,
) -> None:
    app = load_app(ctx)
    with asking(app, consequence=_UNCHANGED) as store:
        _row_of(app, store, name)
        if kind is None:
            orders.reset(store, name, reason=reason, actor=actor())
        else:
            orders.overrule(store, name, kind, reason=reason, actor=actor())
        if as_json:
            show_json(_rows(app, store)[name])
        else:
            click.echo(plain(told))


def _row_of(app: Flask, store: Store, name: str) -> Json:
    rows = _rows(app, store)
    if name not in rows:
        known = ", ".join(f"'{other}'" for other in rows) or "none"
        raise click.ClickException(
            plain(f"no circuit is called '{name}'; nothing was changed. The circuits are: {known}.")
        )
    return rows[name]


def _rows(app: Flask, store: Store) -> dict[str, Json]:
    """Return every circuit that this app makes at its start, or that the store knows."""
    from ..mounts import mounts_of

    names = [breaker.name for breaker in mounts_of(app).parts.get("resilience.breakers", ())]
    return orders.circuits(*orders.snapshot(store), names)
