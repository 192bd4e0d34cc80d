"""What the commands on shared state have in common: the app's store, asked directly and once."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING, Any

import click

from ..state.store import StoreError

if TYPE_CHECKING:
    from flask import Flask

    from ..state.ledger import Json
    from ..state.store import Store

__all__ = ["act", "actor", "shared_store", "snapshot"]


def shared_store(app: Flask, *, consequence: str) -> Store:
    """Return the store that *app*'s workers share.

    Args:
        app: the app.
        consequence: what was not done, for the message.

    Raises:
        ClickException: they share none.
    """
    from ..mounts import settings_of
    from ..state.urls import open_store

    settings = settings_of(app)
    store = open_store(settings.state_url, namespace=settings.namespace)
    if not store.shared:
        raise click.ClickException(
            "SVC_INFRA_STATE_URL is 'memory://', where each worker keeps its own state and none can be "
            f"reached from here; {consequence}. Set it to sqlite:////path.db for the workers of one host, or "
            "to redis://host:6379/0 for a fleet, for the workers and for this command."
        )
    return store


def act(store: Store, operation: str, args: Json) -> Any:
    """Do one operation.

    Raises:
        ClickException: the store did not answer.
    """
    try:
        return store.act(operation, args)
    except StoreError as error:
        raise click.ClickException(
            f"the state store '{store.url}' does not answer ({error}); nothing is known to have changed. "
            "Check that it runs and can be reached and written from here."
        ) from None


def snapshot(store: Store) -> tuple[Json, Json]:
    """Return all records and documents."""
    reply = act(store, "sync", {"seen": -1, "reports": [], "probe": False})
    return reply["records"] or {}, reply["documents"] or {}


def actor() -> str:
    """Say who runs the command, for the journal."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        user = str(os.getuid())
    return f"cli:{user}@{os.uname().nodename}"
