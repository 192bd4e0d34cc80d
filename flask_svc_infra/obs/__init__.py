"""Metrics: what the service did and how it is doing, in Prometheus' words.

The names are resolved at first use, so that importing the package does not import prometheus_client: in
multiprocess mode that must happen after ``PROMETHEUS_MULTIPROC_DIR`` is set.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .add import add_observability

_HOMES = {"add_observability": "add"}

__all__ = ["add_observability"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
