"""Operations at the edge of a Flask app: plain probes, maintenance mode, circuit gates, draining."""

from __future__ import annotations

from .bypass import bypass_link
from .circuits import (
    add_circuit_error_handler,
    add_circuit_gate,
    circuit_breaker_dependency,
    circuit_gate,
)
from .gates import add_maintenance_mode
from .maintenance import Maintenance
from .openapi import openapi_paths
from .probes import add_probes

__all__ = [
    "Maintenance",
    "add_circuit_error_handler",
    "add_circuit_gate",
    "add_maintenance_mode",
    "add_probes",
    "bypass_link",
    "circuit_breaker_dependency",
    "circuit_gate",
    "openapi_paths",
]
