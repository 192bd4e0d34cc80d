"""Flags in the environment, read at each request."""

from __future__ import annotations

import logging
import os

from ..config import parse_flag

__all__ = ["flag"]

_logger = logging.getLogger("flask_svc_infra.ops")
_complained: set[tuple[str, str]] = set()


def flag(variable: str) -> bool:
    """Tell whether the environment variable *variable* is on.

    Unset and unreadable values are off; an unreadable one is logged once per process, variable and value.
    Costs about a microsecond. Thread-safe.
    """
    text = os.environ.get(variable)
    if not text:
        return False
    parsed = parse_flag(text)
    if parsed is None:
        complaint = (variable, text)
        if complaint not in _complained:
            _complained.add(complaint)
            _logger.warning(
                "%s is %r, which is neither on nor off; it counts as off. Set it to 1, true, yes or on, "
                "or to 0, false, no or off.",
                variable,
                text[:80],
            )
        return False
    return parsed
