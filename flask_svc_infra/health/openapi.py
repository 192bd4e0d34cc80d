"""Describe the probes as OpenAPI, when they are asked to be seen."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from ..mounts import Probe, ProbeKind, mounts_of

__all__ = ["document", "openapi_paths", "show"]

PART = "openapi.paths"
"""Where among an app's parts the path items are kept, by URL rule; the plain probes put theirs there too."""

_CONVERTER = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
_UNAVAILABLE = frozenset[ProbeKind]({"ready", "startup", "check", "group"})
_NAMED = frozenset[ProbeKind]({"check", "group"})


def openapi_paths(app: Any) -> dict[str, Any]:
    """Return the OpenAPI path items of the probes that were mounted with ``include_in_schema=True``.

    For documents made by an extension that sees its own routes alone. With flask-smorest::

        api.spec.options["paths"] = openapi_paths(app)

    Args:
        app: the Flask app, with its probes mounted.
    """
    items = mounts_of(app).parts.get(PART, {})
    return {_CONVERTER.sub(r"{\1}", rule): deepcopy(item) for rule, item in items.items()}


def show(blueprint: Any, *, visible: bool) -> None:
    """Tell APIFlask, which reads these attributes of every blueprint, whether to document this one."""
    blueprint.enable_openapi = visible
    blueprint.tag = "health"


def document(app: Any, probe: Probe, view: Callable[..., Any], summary: str) -> None:
    """Keep what the probe does for :func:`openapi_paths`, and give it to APIFlask."""
    operation = _operation(probe, summary)
    mounts_of(app).parts.setdefault(PART, {})[probe.rule] = {"get": operation}
    view._spec = deepcopy(operation)  # type: ignore[attr-defined]  # noqa: SLF001 - APIFlask's own name for it


def _operation(probe: Probe, summary: str) -> dict[str, Any]:
    responses = {"200": _answer("It is healthy or degraded." if probe.kind in _UNAVAILABLE else "Always.")}
    operation: dict[str, Any] = {"summary": summary, "tags": ["health"], "responses": responses}
    if probe.kind in _UNAVAILABLE:
        responses["503"] = _answer("It is unhealthy or unknown, or something holds it back.")
    if probe.kind in _NAMED:
        responses["404"] = {"description": "There is none of this name."}
        operation["parameters"] = [
            {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    return operation


def _answer(description: str) -> dict[str, Any]:
    status = {"type": "string", "enum": ["ok", "healthy", "degraded", "unhealthy", "unknown"]}
    schema = {"type": "object", "properties": {"status": status}, "required": ["status"]}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
