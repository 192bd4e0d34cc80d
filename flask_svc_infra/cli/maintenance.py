"""``flask svc-infra maintenance``: switch maintenance of all workers on and off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..state.document import MAINTENANCE, order
from ..state.store import decoded
from .output import json_option, load_app, plain, seconds, show_json
from .state import act, actor, shared_store, snapshot

if TYPE_CHECKING:
    from ..state.ledger import Json
    from ..state.store import Store

__all__ = ["maintenance"]


@click.group()
def maintenance() -> None:
    """Switch maintenance of all workers on and off.

    Acts through the store that SVC_INFRA_STATE_URL names; every worker follows within 1.5 seconds.
    """


@maintenance.command()
@click.option(
    "--mode",
    type=click.Choice(["read-only", "full"]),
    default="read-only",
    show_default=True,
    help="What is refused: every write, or everything.",
)
@click.option("-r", "--reason", help="Why; for the journal, the log and a page of yours.")
@click.option("--duration", callback=lambda c, p, v: None if v is None else seconds(c, p, v), help="Seconds.")
@click.option("--retry-after", type=click.IntRange(min=1), help="Seconds a refused client is told to wait.")
@json_option
@click.pass_context
def on(
    ctx: click.Context,
    /,
    *,
    mode: str,
    reason: str | None,
    duration: float | None,
    retry_after: int | None,
    as_json: bool,
) -> None:
    """Switch it on, in place of what was switched on before."""
    store = shared_store(load_app(ctx), consequence="maintenance was left as it is")
    body = {"mode": mode, "reason": reason, "retry_after": retry_after}
    args = order(MAINTENANCE, body, what=mode, reason=reason, actor=actor(), duration=duration)
    act(store, "put", args)
    end = "until: maintenance off" if duration is None else f"for {duration:g}s"
    _say(f"maintenance is '{mode}' everywhere, {end}", store, as_json)


@maintenance.command()
@click.option("-r", "--reason", help="Why; for the journal and the log.")
@json_option
@click.pass_context
def off(ctx: click.Context, /, *, reason: str | None, as_json: bool) -> None:
    """Lift what was switched on; a flag in a worker's own environment stays."""
    store = shared_store(load_app(ctx), consequence="maintenance was left as it is")
    body = {"mode": "off", "reason": reason, "retry_after": None}
    act(store, "put", order(MAINTENANCE, body, what="off", reason=reason, actor=actor()))
    _say("maintenance is off everywhere", store, as_json)


@maintenance.command()
@json_option
@click.pass_context
def status(ctx: click.Context, /, *, as_json: bool) -> None:
    """Show what is ordered."""
    store = shared_store(load_app(ctx), consequence="there is nothing to show")
    shown = _shown(store)
    if as_json:
        show_json(shown)
    else:
        for key, value in shown.items():
            click.echo(plain(f"{key}: {'-' if value is None else value}"))


def _say(text: str, store: Store, as_json: bool) -> None:
    if as_json:
        show_json(_shown(store))
    else:
        click.echo(text)


def _shown(store: Store) -> Json:
    found = snapshot(store)[1].get(MAINTENANCE)
    body: Any = decoded(found["body"]) if found else None
    remaining = found["remaining"] if found else None
    mode = body.get("mode") if isinstance(body, dict) else None
    if mode not in ("read-only", "full") or remaining == 0:
        mode = "off"
    return {
        "mode": mode,
        "reason": body.get("reason") if isinstance(body, dict) else None,
        "actor": found["actor"] if found else None,
        "remaining": None if remaining is None else remaining / 1000,
    }
