"""Asking the app's ``authorize`` who may do what. When in doubt the answer is no."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from .errors import ConfigurationError

__all__ = ["Access", "Authorize"]

Authorize = Callable[[Any, str], bool]
"""Called with a ``werkzeug.Request`` and an action; says whether the request may do it."""

_logger = logging.getLogger("flask_svc_infra.access")


class Access:
    """Asks *authorize*. Thread-safe if that is.

    Args:
        authorize: whom to ask.

    Raises:
        ConfigurationError: it cannot be called, or is a coroutine function: its every answer counts as true.
    """

    def __init__(self, authorize: Authorize | None) -> None:
        if not callable(authorize) or inspect.iscoroutinefunction(authorize):
            raise ConfigurationError(
                f"authorize is {authorize!r}, which cannot be asked who may do what; nothing was mounted. "
                "Give a plain function that takes a request and an action and returns True or False."
            )
        self._authorize = authorize

    def allows(self, request: Any, action: str) -> bool:
        """Tell whether *request* may do *action*.

        Whatever goes wrong in ``authorize`` is a no with a line in the log.

        Raises:
            HTTPException: ``authorize`` raised it, as ``abort(401)`` does with what a browser needs to ask.
        """
        try:
            answer: Any = self._authorize(request, action)
            if not inspect.isawaitable(answer):
                return bool(answer)
            if inspect.iscoroutine(answer):
                answer.close()
        except Exception as error:
            from werkzeug.exceptions import HTTPException

            if isinstance(error, HTTPException):
                raise
            _logger.exception("authorize raised when it was asked for '%s'; it was refused", action)
        else:
            _logger.error("authorize gave an awaitable for '%s', which nobody awaits; it was refused", action)
        return False
