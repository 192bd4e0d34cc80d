"""The command line: ``flask svc-infra …`` and the container probe ``flask-svc-infra-probe``.

``group`` is resolved at first use, so that the probe, which lives in this package, does not pay for click.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .commands import group

__all__ = ["group"]


def __getattr__(name: str) -> Any:
    if name != "group":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .commands import group

    return group
