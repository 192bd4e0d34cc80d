"""Flags in the environment, read at each request."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from ..config import parse_flag

__all__ = ["flag"]

_logger = logging.getLogger("flask_svc_infra.ops")
_complained: set[tuple[str, str]] = set()


def flag(variable: str) -> Callable[[], bool]:
    """Return a function that tells whether the environment variable *variable* is on now.

    Unset and unreadable values are off; an unreadable one is logged once per process, variable and value.
    Thread-safe.
    """
    key = os.fsencode(variable)

    def is_on() -> bool:
        # Nearly always the variable is not set. Asking os.environ for what it does not have raises and
        # catches two exceptions inside, most of what a gate would cost; its own dict is ten times faster.
        values = getattr(os.environ, "_data", None)
        if values is not None and key not in values:
            return False
        text = os.environ.get(variable)
        return bool(text) and _parse(variable, text or "")

    return is_on


def _parse(variable: str, text: str) -> bool:
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
