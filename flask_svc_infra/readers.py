"""How a setting is read: a reader takes what was given and returns what it means, or says what it expected.

Values come from ``app.config``, so from Python or, as text, from the environment.
"""

from __future__ import annotations

import ipaddress
import math
from itertools import pairwise
from typing import Any

__all__ = [
    "Network",
    "Refused",
    "buckets",
    "flag",
    "name",
    "namespace",
    "networks",
    "parse_flag",
    "path",
    "prefixes",
    "seconds",
    "secret",
    "store",
    "whole_seconds",
    "words",
]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_STORES = frozenset({"memory", "sqlite", "redis", "rediss", "unix", "redis+sentinel"})
_LONGEST_NAMESPACE = 100
_SHORTEST_TOKEN = 16
"""A bypass token is guessed at over HTTP; 16 random characters are out of reach of that."""

_ON = frozenset({"1", "true", "yes", "on"})
_OFF = frozenset({"0", "false", "no", "off", ""})


def parse_flag(text: str) -> bool | None:
    """Read a flag as people write them: stripped, case-folded; None when it is neither on nor off."""
    word = text.strip().casefold()
    if word in _ON:
        return True
    return False if word in _OFF else None


class Refused(Exception):  # noqa: N818 - carries a message to the place that knows the key's name
    """What a reader expected, in words."""


def flag(value: Any) -> bool:
    """Read a flag."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int):
        parsed = parse_flag(str(value))
        if parsed is not None:
            return parsed
    raise Refused("a flag: true, yes, on, 1 or false, no, off, 0")


def path(value: Any) -> str:
    """Read a path that something is served at."""
    if (
        not isinstance(value, str)
        or not value.startswith("/")
        or value == "/"
        or value.endswith("/")
        or "//" in value
        or any(character in value for character in "<>?# \t\r\n")
    ):
        raise Refused(
            "a path that starts with a slash, does not end with one and has no blanks, doubled slashes, "
            "'<>?' or '#', as in '/metrics'"
        )
    return value


def seconds(value: Any) -> float:
    """Read seconds, zero or more."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise Refused("a number of seconds, zero or more")
    return float(value)


def whole_seconds(value: Any) -> int:
    """Read whole seconds, at least one."""
    number = seconds(value)
    if number < 1 or number != int(number):
        raise Refused("a whole number of seconds, at least 1")
    return int(number)


def words(value: Any) -> tuple[str, ...]:
    """Read a list of words."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(v, str) for v in value):
        raise Refused("a list, or a string with commas between its parts")
    return tuple(value)


def prefixes(value: Any) -> tuple[str, ...]:
    """Read path prefixes."""
    paths = words(value)
    if not all(path.startswith("/") for path in paths):
        raise Refused("path prefixes that start with a slash, as in '/webhooks,/admin'")
    return paths


def buckets(value: Any) -> tuple[float, ...]:
    """Read a histogram's upper bounds."""
    expected = "at least one bound in seconds, above zero and rising, as in '0.01,0.1,1'"
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list | tuple):
        raise Refused(expected)
    try:
        bounds = tuple(seconds(bound) for bound in value)
    except Refused:
        raise Refused(expected) from None
    if not bounds or bounds[0] <= 0 or any(a >= b for a, b in pairwise(bounds)):
        raise Refused(expected)
    return bounds


def networks(value: Any) -> tuple[Network, ...]:
    """Read addresses and networks."""
    try:
        return tuple(ipaddress.ip_network(word) for word in words(value))
    except ValueError:
        raise Refused("addresses or networks without host bits, as in '10.0.0.0/8,192.168.1.7'") from None


def name(value: Any) -> str:
    """Read a word, as an environment variable's name is."""
    if not isinstance(value, str) or not value or not value.isprintable() or " " in value or "=" in value:
        raise Refused("a word without spaces or equals signs")
    return value


def secret(value: Any) -> str | None:
    """Read a secret, which no error shows."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # Flask reads digits in the environment as a number
    if not isinstance(value, str) or len(value) < _SHORTEST_TOKEN:
        raise Refused(f"a string of at least {_SHORTEST_TOKEN} characters (what was given is not shown)")
    return value


def store(value: Any) -> str:
    """Read where shared state lives; its own room reads the rest."""
    if not isinstance(value, str) or value.partition("://")[0] not in _STORES or "://" not in value:
        raise Refused("memory://, sqlite:////absolute/path.db or redis://host:6379/0")
    return value


def namespace(value: Any) -> str:
    """Read whose the shared state is."""
    allowed = isinstance(value, str) and value.replace("-", "").replace("_", "").replace(".", "")
    if not allowed or not (allowed.isascii() and allowed.isalnum()) or len(value) > _LONGEST_NAMESPACE:
        raise Refused("a word of letters, digits, dots, dashes and underscores, as in 'shop-production'")
    return str(value)
