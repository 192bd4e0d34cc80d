"""What must be one thing in the process, even where ``importlib.reload`` runs a module a second time.

A module that is reloaded begins with fresh globals for its functions, while the objects it made before live
on. Two tables of the same things would then measure them twice, or give one file to two writers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["kept"]

T = TypeVar("T")
_things: dict[str, Any] = globals().get("_things", {})


def kept(name: str, make: Callable[[], T]) -> T:
    """Return the thing called *name*, made by *make* at the first call in this process."""
    if name not in _things:
        _things[name] = make()
    thing: T = _things[name]
    return thing
