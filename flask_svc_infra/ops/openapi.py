"""What OpenAPI documents say about the probes, when they are asked to say anything."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from ..mounts import mounts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask import Blueprint, Flask

__all__ = ["document", "openapi_paths", "show"]

PART = "openapi.paths"
"""Where in ``mounts.parts`` the path items are kept: URL rule → path item."""

_CONVERTER = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")


def openapi_paths(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI path items of the probes that were mounted with ``include_in_schema=True``.

    For extensions that document only their own routes (flask-smorest, apispec). APIFlask needs it not: it
    finds the probes' views by itself.

    Example:
        >>> for path, operations in openapi_paths(app).items():
        ...     api.spec.path(path, operations=operations)
    """
    paths = mounts_of(app).parts.get(PART, {})
    return {_CONVERTER.sub(r"{\1}", rule): deepcopy(item) for rule, item in paths.items()}


def show(blueprint: Blueprint, *, visible: bool) -> None:
    """Tell APIFlask, which reads these attributes of every blueprint, whether to document this one."""
    blueprint.enable_openapi = visible  # type: ignore[attr-defined]
    blueprint.tag = "ops"  # type: ignore[attr-defined]


def document(app: Flask, rule: str, view: Callable[..., Any], operation: Mapping[str, Any]) -> None:
    """Keep *operation*, an OpenAPI operation object, as what GET of *rule* does, and give it to APIFlask."""
    mounts_of(app).parts.setdefault(PART, {})[rule] = {"get": dict(operation)}
    view._spec = dict(operation)  # type: ignore[attr-defined]  # noqa: SLF001 - APIFlask's own name for it
