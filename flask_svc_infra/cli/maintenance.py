"""``flask svc-infra maintenance``: switch maintenance of all workers on and off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import ConfigurationError
from ..state import orders
from .output import json_option, load_app, plain, seconds, show_json
from .state import actor, asking

if TYPE_CHECKING:
    from ..state.ledger import Json
    from ..state.store import Store

__all__ = ["maintenance"]

_UNCHANGED = "maintenance was left as it is"


def _duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    from ..ops.windows import as_duration

    try:
        return as_duration(seconds(ctx, param, value))
    except ConfigurationError as error:
        raise click.BadParameter(str(error), ctx, param) from None


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
@click.option("--duration", callback=_duration, help="Seconds until it ends by itself.")
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
    end = "until: maintenance off" if duration is None else f"for {duration:g}s"
    with asking(load_app(ctx), consequence=_UNCHANGED) as store:
        orders.switch(store, mode, reason=reason, actor=actor(), duration=duration, retry_after=retry_after)
        _say(f"maintenance is '{mode}' everywhere, {end}", store, as_json)


@maintenance.command()
@click.option("-r", "--reason", help="Why; for the journal and the log.")
@json_option
@click.pass_context
def off(ctx: click.Context, /, *, reason: str | None, as_json: bool) -> None:
    """Lift what was switched on; a flag in a worker's own environment stays."""
    with asking(load_app(ctx), consequence=_UNCHANGED) as store:
        orders.switch(store, "off", reason=reason, actor=actor())
        _say("maintenance is off everywhere", store, as_json)


@maintenance.command()
@json_option
@click.pass_context
def status(ctx: click.Context, /, *, as_json: bool) -> None:
    """Show what is ordered."""
    with asking(load_app(ctx), consequence="there is nothing to show") as store:
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
    return orders.maintenance(orders.snapshot(store)[1])
