"""How a bucket's upper bound is written in a label."""

from __future__ import annotations

from prometheus_client.utils import floatToGoString

__all__ = ["bound_label"]


def bound_label(bound: float) -> str:
    """Return the label of an upper bound, as prometheus_client and Go write it: ``0.5``, ``+Inf``."""
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]
