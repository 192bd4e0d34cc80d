"""What the commands on shared state have in common: the app's store, asked directly and once."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ..state import orders
from ..state.store import StoreError
from .diagnosis import Finding

if TYPE_CHECKING:
    from flask import Flask

    from ..state.store import Store

__all__ = ["actor", "asking", "examined"]


@contextmanager
def asking(app: Flask, *, consequence: str) -> Iterator[Store]:
    """Give the store that *app*'s workers share.

    Args:
        app: the app.
        consequence: what is not done where they share none, for the message.

    Raises:
        ClickException: they share none, or the store did not answer what was asked of it within.
    """
    store = _store_of(app)
    if not store.shared:
        where = ", for the workers and for this command"
        raise click.ClickException(orders.CURE.format(consequence=consequence, where=where))
    try:
        yield store
    except StoreError as error:
        raise click.ClickException(
            f"the state store '{store.url}' does not answer ({error}); nothing is known to have changed. "
            "Check that it runs and can be reached and written from here."
        ) from None
    finally:
        store.close()


def examined(app: Flask) -> Finding:
    """Ask the store that *app*'s workers share once, as they do each second, and judge it."""
    store = _store_of(app)
    if not store.shared:
        return Finding("store", "ok", "none: each worker keeps its own circuits and maintenance")
    try:
        orders.snapshot(store)
    except StoreError as error:
        return Finding(
            "store",
            "problem",
            f"the state store '{store.url}' does not answer ({error}); "
            "each process that finds it so goes on alone, and orders given now reach no other",
            "Make sure that it runs and can be reached and written by the user the workers run as.",
        )
    finally:
        store.close()
    return Finding("store", "ok", f"'{store.url}' answers")


def _store_of(app: Flask) -> Store:
    from ..mounts import settings_of
    from ..state.urls import open_store

    settings = settings_of(app)
    return open_store(settings.state_url, namespace=settings.namespace, folder=app.instance_path)


def actor() -> str:
    """Say who runs the command, for the journal."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        user = str(os.getuid())
    return f"cli:{user}@{os.uname().nodename}"
