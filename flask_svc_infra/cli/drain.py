"""``flask svc-infra drain``: let the services of this machine drain before they are told to stop."""

from __future__ import annotations

import click

from .output import json_option, show_json

__all__ = ["drain"]


@click.command()
@click.option(
    "--pid", type=click.IntRange(min=1), help="The gunicorn master; every service of this user if left out."
)
@json_option
def drain(*, pid: int | None, as_json: bool) -> None:
    """Make readiness say 503 while the workers go on serving.

    For a preStop hook: run it in the same container and as the same user as gunicorn. Needs
    gunicorn -c python:flask_svc_infra.gunicorn. Exits 1 when there is nothing to drain.
    """
    from ..ops.draining import start_drain

    try:
        told = start_drain(pid)
    except (RuntimeError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        show_json([{"pid": master, "seconds": seconds} for master, seconds in told.items()])
    else:
        for master, seconds in told.items():
            click.echo(
                f"process {master} drains: readiness says 503, and it serves for {seconds:g}s at least"
            )
