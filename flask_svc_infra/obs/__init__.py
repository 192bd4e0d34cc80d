"""Metrics: what the service did and how it is doing, in Prometheus' words.

The names are resolved at first use, so that importing the package does not import prometheus_client: in
multiprocess mode that must happen after ``PROMETHEUS_MULTIPROC_DIR`` is set.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .add import add_observability
    from .clients import instrument_httpx, instrument_requests
    from .exporter import make_exporter

_HOMES = {
    "add_observability": "add",
    "instrument_httpx": "clients",
    "instrument_requests": "clients",
    "make_exporter": "exporter",
}

__all__ = ["add_observability", "instrument_httpx", "instrument_requests", "make_exporter"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
