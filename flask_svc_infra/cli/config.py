"""``flask svc-infra config``: the settings this app runs with, and where each comes from."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from ..config import PREFIX, Settings
from .output import json_option, load_app, show_json, table

__all__ = ["config"]


@click.command()
@json_option
@click.pass_context
def config(ctx: click.Context, *, as_json: bool) -> None:
    """Show the settings this app runs with; secrets stay hidden."""
    from ..mounts import settings_of

    app = load_app(ctx)
    rows = described(settings_of(app), app.config)
    if as_json:
        show_json({key: {"value": value, "from": source} for key, value, source in rows})
    else:
        table(("SETTING", "VALUE", "FROM"), [(key, _text(value), source) for key, value, source in rows])


def described(settings: Settings, given: Any) -> list[tuple[str, Any, str]]:
    """Return key, value and origin of every setting, a secret's value replaced by whether it is set.

    Args:
        settings: what is in force.
        given: the app's config, whose keys tell what was set and what is a default.
    """
    rows = []
    for item in fields(settings):
        key = PREFIX + item.name.upper()
        value = getattr(settings, item.name)
        if item.metadata["secret"] and value != item.default:
            value = "(hidden)"
        if isinstance(value, tuple):
            value = [part if isinstance(part, float) else str(part) for part in value]
        rows.append((key, value, "app.config" if key in given else "default"))
    return rows


def _text(value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
