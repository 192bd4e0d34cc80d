"""Arguments, checked where they come in: each function returns its value or says what would do instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from math import isfinite
from typing import Any

from ..errors import ConfigurationError
from .holding import is_kind

__all__ = [
    "at_least_one",
    "callable_or_none",
    "count",
    "exception_classes",
    "fraction",
    "name",
    "seconds_above_zero",
    "seconds_or_zero",
    "share",
    "sync_callable_or_none",
]


def _refuse(subject: str, value: object, cure: str) -> ConfigurationError:
    return ConfigurationError(f"{subject} is {value!r}, which cannot work; nothing was made. Give it {cure}.")


def count(subject: str, value: Any) -> int:
    """Check a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _refuse(subject, value, "a whole number of at least 1")
    return value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def fraction(subject: str, value: Any) -> float:
    """Check a share above 0 and at most 1."""
    if not _number(value) or not 0 < value <= 1:
        raise _refuse(subject, value, "a share above 0 and at most 1, as in 0.5")
    return float(value)


def share(subject: str, value: Any) -> float:
    """Check a share between 0 and 1, both allowed."""
    if not _number(value) or not 0 <= value <= 1:
        raise _refuse(subject, value, "a share between 0 and 1, as in 0.1")
    return float(value)


def at_least_one(subject: str, value: Any) -> float:
    """Check a finite number of at least 1."""
    if not _number(value) or value < 1:
        raise _refuse(subject, value, "a number of at least 1")
    return float(value)


def seconds_or_zero(subject: str, value: Any) -> float:
    """Check a finite number of seconds, zero or more."""
    if not _number(value) or value < 0:
        raise _refuse(subject, value, "a number of seconds, zero or more")
    return float(value)


def seconds_above_zero(subject: str, value: Any) -> float:
    """Check a finite number of seconds above zero."""
    if not _number(value) or value <= 0:
        raise _refuse(subject, value, "a number of seconds above zero")
    return float(value)


def name(subject: str, value: Any) -> str:
    """Check a name: it goes into labels, logs and URLs."""
    if not isinstance(value, str) or not value.strip():
        raise _refuse(subject, value, "a name, as in 'payments'")
    return value


def exception_classes(subject: str, value: Any) -> tuple[type[Exception], ...]:
    """Check a tuple of exception classes."""
    if not isinstance(value, tuple) or not all(
        isinstance(v, type) and issubclass(v, Exception) for v in value
    ):
        raise _refuse(subject, value, "a tuple of exception classes, as in (TimeoutError, ConnectionError)")
    return value


def callable_or_none(subject: str, value: Any) -> Callable[..., Any] | None:
    """Check something to call, or None."""
    if value is not None and not callable(value):
        raise _refuse(subject, value, "a function, or None")
    return value  # type: ignore[no-any-return]


def sync_callable_or_none(subject: str, value: Any) -> Callable[..., Any] | None:
    """Check something that is called where nothing can be awaited, or None."""
    callable_or_none(subject, value)
    if is_kind(inspect.iscoroutinefunction, value):
        raise _refuse(subject, value, "a plain function: a coroutine function would never be awaited")
    return value  # type: ignore[no-any-return]
