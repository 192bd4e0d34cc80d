"""Operations at the edge of a Flask app: plain probes, maintenance mode, circuit gates, draining.

The names are resolved at first use: the gunicorn conf module needs a part of this before Flask is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..health.openapi import openapi_paths
    from .bypass import bypass_link
    from .circuits import (
        add_circuit_error_handler,
        add_circuit_gate,
        circuit_breaker_dependency,
        circuit_gate,
    )
    from .draining import add_draining
    from .gates import add_maintenance_mode
    from .maintenance import Maintenance
    from .probes import add_probes

_HOMES = {
    "Maintenance": ".maintenance",
    "add_circuit_error_handler": ".circuits",
    "add_circuit_gate": ".circuits",
    "add_draining": ".draining",
    "add_maintenance_mode": ".gates",
    "add_probes": ".probes",
    "bypass_link": ".bypass",
    "circuit_breaker_dependency": ".circuits",
    "circuit_gate": ".circuits",
    "openapi_paths": "..health.openapi",
}

__all__ = [
    "Maintenance",
    "add_circuit_error_handler",
    "add_circuit_gate",
    "add_draining",
    "add_maintenance_mode",
    "add_probes",
    "bypass_link",
    "circuit_breaker_dependency",
    "circuit_gate",
    "openapi_paths",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home, __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
