"""What is made for awaiting has a side for threads; code that runs in threads is handed that one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

__all__ = ["SYNC_SIDE", "sync_side", "taking_sync_sides"]

P = ParamSpec("P")
T = TypeVar("T")

SYNC_SIDE = "_svc_infra_sync_side"
"""The attribute that holds it."""


def sync_side(value: Any) -> Any:
    """Return the side of *value* for threads; *value* itself where it has none.

    Looked up in its own ``__dict__``: objects that have every attribute, as mocks do, have no side of ours.
    """
    return getattr(value, "__dict__", {}).get(SYNC_SIDE, value)


def taking_sync_sides(function: Callable[P, T]) -> Callable[P, T]:
    """Return *function* so that it is handed the sync side of each argument."""
    inner = cast("Callable[..., T]", function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return inner(*map(sync_side, args), **{name: sync_side(value) for name, value in kwargs.items()})

    return call
