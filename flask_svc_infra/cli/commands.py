"""The group ``flask svc-infra``, found by Flask through the ``flask.commands`` entry point."""

from __future__ import annotations

from typing import Any

import click

from ..errors import SvcInfraError
from .breakers import breakers
from .config import config
from .dashboards import dashboards
from .doctor import doctor
from .drain import drain
from .health import health
from .k8s import k8s
from .maintenance import maintenance
from .rules import rules
from .slo import slo

__all__ = ["group"]


class _Group(click.Group):
    """Tells our own errors as sentences: they carry their cure, a traceback would hide it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SvcInfraError as error:
            raise click.ClickException(str(error)) from error


@click.group("svc-infra", cls=_Group)
def group() -> None:
    """Look after a service: its health, its settings, its installation.

    Every command that prints takes --json. Exit codes: 0 good, 1 bad, 2 wrong usage.
    """


group.add_command(breakers)
group.add_command(config)
group.add_command(dashboards)
group.add_command(doctor)
group.add_command(drain)
group.add_command(health)
group.add_command(k8s)
group.add_command(maintenance)
group.add_command(rules)
group.add_command(slo)
