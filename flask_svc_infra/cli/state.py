"""What the commands on shared state have in common: the app's store, asked directly and once."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ..state.orders import CURE
from ..state.store import StoreError

if TYPE_CHECKING:
    from flask import Flask

    from ..state.store import Store

__all__ = ["actor", "asking"]


@contextmanager
def asking(app: Flask, *, consequence: str) -> Iterator[Store]:
    """Give the store that *app*'s workers share.

    Args:
        app: the app.
        consequence: what is not done where they share none, for the message.

    Raises:
        ClickException: they share none, or the store did not answer what was asked of it within.
    """
    from ..mounts import settings_of
    from ..state.urls import open_store

    settings = settings_of(app)
    store = open_store(settings.state_url, namespace=settings.namespace, folder=app.instance_path)
    if not store.shared:
        where = ", for the workers and for this command"
        raise click.ClickException(CURE.format(consequence=consequence, where=where))
    try:
        yield store
    except StoreError as error:
        raise click.ClickException(
            f"the state store '{store.url}' does not answer ({error}); nothing is known to have changed. "
            "Check that it runs and can be reached and written from here."
        ) from None
    finally:
        store.close()


def actor() -> str:
    """Say who runs the command, for the journal."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        user = str(os.getuid())
    return f"cli:{user}@{os.uname().nodename}"
