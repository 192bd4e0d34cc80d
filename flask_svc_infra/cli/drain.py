"""``flask svc-infra drain``: let a service of this machine drain before it is told to stop."""

from __future__ import annotations

import click

from .output import json_option, show_json

__all__ = ["drain"]


@click.command()
@click.option(
    "--pid", type=click.IntRange(min=1), help="The gunicorn master; needed where this user runs several."
)
@json_option
def drain(*, pid: int | None, as_json: bool) -> None:
    """Make readiness say 503 while the workers go on serving.

    For a preStop hook: run it in the same container and as the same user as gunicorn. Needs
    gunicorn -c python:flask_svc_infra.gunicorn. Exits 1 when there is nothing to drain, or several services
    and no --pid.
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
            serves = f", and it serves for {seconds:g}s at least" if seconds else ""
            click.echo(f"process {master} drains: readiness says 503{serves}")
    if not all(told.values()):
        click.secho(
            "its drain is 0s, so the stop signal ends it at once. "
            "Wait before that is sent, or set SVC_INFRA_DRAIN_SECONDS.",
            fg="yellow",
            err=True,
        )
