"""Describe the mounted probes as OpenAPI, for apps whose document no extension of ours can reach."""

from __future__ import annotations

from typing import Any

from ..mounts import Probe, ProbeKind, mounts_of

__all__ = ["openapi_paths"]

_SUMMARIES: dict[ProbeKind, str] = {
    "static": "Tell that the process answers.",
    "live": "Tell that the process is running.",
    "ready": "Tell whether the service can take requests.",
    "startup": "Tell whether the critical dependencies are there.",
    "check": "Tell how one dependency is.",
    "group": "Tell how a group of dependencies is.",
}
_UNAVAILABLE = frozenset[ProbeKind]({"ready", "startup", "check", "group"})
_NAMED = frozenset[ProbeKind]({"check", "group"})
_STATUS: dict[str, Any] = {"type": "string", "enum": ["healthy", "degraded", "unhealthy", "unknown", "ok"]}


def openapi_paths(app: Any) -> dict[str, Any]:
    """Return the ``paths`` of every probe mounted on *app*, to be merged into its OpenAPI document.

    For flask-smorest: ``api.spec.path(path=path, operations=item)`` for each pair.

    Args:
        app: the Flask app, with its probes mounted.
    """
    mounts = mounts_of(app)
    probes = [*mounts.probes.values(), *mounts.probe_prefixes.values()]
    return {probe.rule.replace("<", "{").replace(">", "}"): {"get": _operation(probe)} for probe in probes}


def _operation(probe: Probe) -> dict[str, Any]:
    responses = {"200": _response("It can.")}
    if probe.kind in _UNAVAILABLE:
        responses["503"] = _response("It cannot.")
    operation: dict[str, Any] = {
        "operationId": probe.rule.strip("/").replace("/", "_").replace("<", "").replace(">", ""),
        "summary": _SUMMARIES[probe.kind],
        "tags": ["health"],
        "security": [],
        "responses": responses,
    }
    if probe.kind in _NAMED:
        responses["404"] = {"description": "There is none of this name."}
        operation["parameters"] = [
            {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    return operation


def _response(description: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"status": _STATUS}, "required": ["status"]}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
