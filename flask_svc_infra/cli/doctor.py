"""``flask svc-infra doctor``: what is wrong with this installation and this app, and the cure."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ..health.redaction import describe
from . import diagnosis, mounted, state
from .output import json_option, load_app, plain, show_json

if TYPE_CHECKING:
    from flask import Flask

    from .diagnosis import Finding

__all__ = ["doctor"]

_MARKS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Examine the installation and the app, and say how to cure what is wrong.

    Asks every probe, the metrics and the state store once, in this process, so the app's health checks run.
    Exits 1 when there is a problem; warnings leave it at 0.
    """
    findings = list(_examine(ctx))
    if as_json:
        show_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = click.style(f"{finding.level:<8}", fg=_MARKS[finding.level])
            click.echo(f"{mark} {finding.topic}: {plain(finding.text)}")
            if finding.cure:
                click.echo(f"         {plain(finding.cure)}")
    if any(finding.level == "problem" for finding in findings):
        raise SystemExit(1)


def _examine(ctx: click.Context) -> Iterator[Finding]:
    yield diagnosis.Finding("python", "ok", f"{platform.python_implementation()} {platform.python_version()}")
    yield diagnosis.releases(["flask-svc-infra", "flask", "werkzeug", "prometheus-client", "tenacity"])
    yield from diagnosis.drivers()
    yield diagnosis.gunicorn_release(diagnosis.release_of("gunicorn"))
    yield diagnosis.multiprocess(
        os.environ.get("PROMETHEUS_MULTIPROC_DIR"), diagnosis.workers_wanted(os.environ)
    )
    try:
        app = load_app(ctx)
    except Exception as error:
        # Whatever the app's code raises is the finding; the rest can be examined without it.
        yield diagnosis.Finding(
            "app",
            "problem",
            f"the app cannot be loaded: {_why(error)}",
            "Cure this first; the rest depends on it.",
        )
        yield from diagnosis.environment(os.environ, None, ["MAINTENANCE_MODE", "CIRCUIT_OPEN"])
    else:
        yield diagnosis.Finding("app", "ok", f"'{app.name}' is loaded")
        yield from _examine_app(app)


def _why(error: Exception) -> str:
    """Say why the app cannot be loaded; of a traceback that Flask made a message of, what it ends with."""
    if not isinstance(error, click.ClickException):
        return f"{type(error).__name__}: {describe(error)}"
    cause = error.__context__
    if cause is None or "Traceback" not in error.message:
        return describe(error)
    return f"{error.message.split(',')[0]}: {type(cause).__name__}: {describe(cause)}"


def _examine_app(app: Flask) -> Iterator[Finding]:
    from prometheus_client import REGISTRY

    from ..mounts import mounts_of, settings_of
    from ..resilience import live_breakers

    mounts, settings = mounts_of(app), settings_of(app)
    yield from diagnosis.environment(os.environ, app.config, [settings.maintenance_env_var, "CIRCUIT_OPEN"])
    yield from mounted.probes(app, mounts)
    yield from mounted.checks(mounts)
    yield from mounted.metrics(app, mounts)
    yield from mounted.measured_twice(REGISTRY)
    yield from mounted.hidden_views(app, mounts)
    yield from mounted.breakers([breaker.name for breaker in live_breakers()])
    yield state.examined(app)
