"""What a gate says when it refuses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from flask import current_app, json

if TYPE_CHECKING:
    from flask import Response

__all__ = ["UNKNOWN_WAIT", "bulkhead_full", "circuit_open", "refuse"]

UNKNOWN_WAIT = 30
"""Seconds a client is told to wait where nobody knows: the breakers' default recovery timeout."""


def refuse(detail: str, *, retry_after: int) -> Response:
    """Return a 503 with ``{"detail": detail}`` and Retry-After, which no cache may keep."""
    response = current_app.response_class(
        json.dumps({"detail": detail}) + "\n", 503, content_type="application/json"
    )
    response.headers["Retry-After"] = str(retry_after)
    response.headers["Cache-Control"] = "no-store"
    return response


def circuit_open(remaining_timeout: float | None) -> Response:
    """Return the refusal of an open circuit: Retry-After is *remaining_timeout* rounded up, at least 1."""
    wait = UNKNOWN_WAIT
    if remaining_timeout is not None and math.isfinite(remaining_timeout):
        wait = max(1, math.ceil(remaining_timeout))
    return refuse("circuit open", retry_after=wait)


def bulkhead_full() -> Response:
    """Return the refusal of a full bulkhead: a place comes back with the next call that ends, so soon."""
    return refuse("bulkhead full", retry_after=1)
