"""What the commands share: how they read parameters, find their app and print."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from .fetch import Target, parse_seconds, parse_url

if TYPE_CHECKING:
    from pathlib import Path

    from flask import Flask

__all__ = [
    "json_option",
    "load_app",
    "plain",
    "seconds",
    "show_json",
    "table",
    "url",
    "verdict",
    "writing",
]


def url(ctx: click.Context, param: click.Parameter, value: str) -> Target:
    """Read a URL argument (a click callback)."""
    try:
        return parse_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Read an option of seconds above zero (a click callback; its default is a string)."""
    try:
        return parse_seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


json_option = click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON.")


def load_app(ctx: click.Context) -> Flask:
    """Return the app that ``flask --app`` names, its context pushed until the command ends.

    Only the commands about the app call it, so that the others work where the app cannot be imported.
    """
    from flask.cli import ScriptInfo

    app = ctx.ensure_object(ScriptInfo).load_app()
    ctx.with_resource(app.app_context())
    return app


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell in a sentence that *path* cannot be written."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(
            f"'{error.filename or path}' cannot be written ({error.strerror or error}). "
            "Name a place where this user may write, and where there is room."
        ) from error


def show_json(value: Any) -> None:
    """Print *value* as JSON; what JSON has no word for is printed as its text."""
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=not _can_print("é✓")))


def verdict(good: bool, text: str) -> None:
    """Print *text* after a tick or a cross; in words where the terminal has no such characters."""
    tick, cross = ("✓", "✗") if _can_print("✓✗") else ("OK", "FAILED")
    click.secho(plain(f"{tick if good else cross} {text}"), fg="green" if good else "red")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print *rows* under *head* in columns as wide as their widest cell."""
    lines = [list(head), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def plain(text: str) -> str:
    """Return *text* on one line without control characters: a server's words must not steer the terminal."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if _can_print(text) else text.encode("ascii", "backslashreplace").decode()


def _can_print(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True
