"""What every built-in check has in common: a name, a budget, a measured result, a redacted reason."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from ...errors import ConfigurationError, MissingDriverError
from ..deadline import driver_timeout
from ..model import HealthCheckResult, HealthStatus, require_seconds
from ..redaction import clean, describe, redact

__all__ = [
    "BuiltInCheck",
    "Found",
    "driver",
    "healthy",
    "not_configured",
    "require_keep",
    "timed_out",
    "unhealthy",
]


class Found(NamedTuple):
    """What a look at a dependency found."""

    status: HealthStatus
    message: str | None = None
    details: dict[str, Any] | None = None


class BuiltInCheck:
    """A check made by a factory: call it for a result. Thread-safe; keeps nothing between runs of its own.

    Attributes:
        name: what it is called before it is registered.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[float], Found],
        *,
        timeout: float | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self.name = self.__name__ = name
        self._look = look
        self._timeout = (
            None if timeout is None else require_seconds(f"the check of '{name}'", "timeout", timeout)
        )
        self._secrets = tuple(secrets)

    def __call__(self) -> HealthCheckResult:
        """Look once, within the explicit timeout, the registered one, or 5 seconds."""
        timeout = driver_timeout(self._timeout)
        began = time.perf_counter()
        try:
            found = self._look(timeout)
        except Exception as exc:
            late = timed_out(exc)
            said = " ".join(describe(exc, secrets=self._secrets).split())
            found = unhealthy(f"Connection timeout: timed out after {timeout:g}s" if late else said)
        latency_ms = (time.perf_counter() - began) * 1000
        message = redact(found.message, secrets=self._secrets) if found.message else None
        details = clean(found.details, secrets=self._secrets) if found.details else None
        return HealthCheckResult(self.name, found.status, latency_ms, message, details)

    def __repr__(self) -> str:
        return f"<check '{self.name}'>"


def healthy(**details: Any) -> Found:
    """Return the finding that all is well."""
    return Found(HealthStatus.HEALTHY, None, details or None)


def unhealthy(message: str, **details: Any) -> Found:
    """Return the finding that the dependency cannot be used, and why."""
    return Found(HealthStatus.UNHEALTHY, message, details or None)


def not_configured(name: str, what: str, *, timeout: float | None) -> BuiltInCheck:
    """Return a check that is unhealthy because nobody said where *what* is; its options are checked too."""
    message = f"{what} not configured; its URL is empty"
    return BuiltInCheck(name, lambda _: unhealthy(message), timeout=timeout)


def require_keep(factory: str, keep_connection: bool) -> None:
    """Refuse what is neither True nor False: ``"False"`` counts as true.

    Raises:
        ConfigurationError: it is neither.
    """
    if not isinstance(keep_connection, bool):
        raise ConfigurationError(
            f"{factory} was given keep_connection={keep_connection!r}; no check was made. Give True or False."
        )


def driver(module: str, *, subject: str, extra: str) -> ModuleType:
    """Import a driver.

    Raises:
        MissingDriverError: it is not installed; the message says which extra brings it.
    """
    try:
        return import_module(module)
    except ImportError as exc:
        raise MissingDriverError(subject, module=module, extra=extra) from exc


def timed_out(exc: BaseException) -> bool:
    """Tell whether *exc* means that time ran out, whatever the driver wrapped it in."""
    seen = 0
    cause: BaseException | None = exc
    while cause is not None and seen < _DEEPEST:
        if isinstance(cause, TimeoutError | socket.timeout) or "timeout" in type(cause).__name__.casefold():
            return True
        cause, seen = cause.__cause__ or cause.__context__, seen + 1
    return False


_DEEPEST = 8
