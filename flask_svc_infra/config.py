"""Every ``SVC_INFRA_*`` setting: its name, its default, what it accepts.

Constructor arguments say how the code uses the extension, ``app.config`` how the deployment differs. The keys
are read once, in ``init_app``; an unknown or malformed one is refused before anything is mounted.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from .errors import ConfigurationError

__all__ = [
    "DEFAULT_BUCKETS",
    "PREFIX",
    "Settings",
    "parse_flag",
    "require_bool",
    "require_path",
    "require_word",
]

PREFIX = "SVC_INFRA_"
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds in seconds; those of the documented library, so that its alerts keep their meaning."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PROBES = ("live", "ready", "startup")
_ON = frozenset({"1", "true", "yes", "on"})
_OFF = frozenset({"0", "false", "no", "off", ""})


def parse_flag(text: str) -> bool | None:
    """Read a flag as people write them: stripped, case-folded; None when it is neither on nor off."""
    word = text.strip().casefold()
    if word in _ON:
        return True
    return False if word in _OFF else None


class _Refused(Exception):  # noqa: N818 - carries a message to the place that knows the key's name
    """What a reader expected, in words."""


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int):
        parsed = parse_flag(str(value))
        if parsed is not None:
            return parsed
    raise _Refused("a flag: true, yes, on, 1 or false, no, off, 0")


def _path(value: Any) -> str:
    if (
        not isinstance(value, str)
        or not value.startswith("/")
        or value == "/"
        or value.endswith("/")
        or "//" in value
        or any(character in value for character in "<>?# \t\r\n")
    ):
        raise _Refused(
            "a path that starts with a slash, does not end with one and has no blanks, doubled slashes, "
            "'<>?' or '#', as in '/metrics'"
        )
    return value


def require_path(subject: str, value: Any) -> str:
    """Return *value*, a path an argument gave, by the rule the settings follow.

    Raises:
        ConfigurationError: it is none; the message names *subject*.
    """
    return _required(subject, value, _path)


def require_word(subject: str, value: Any) -> str:
    """Return *value*, a word without spaces, as an environment variable's name is.

    Raises:
        ConfigurationError: it is none; the message names *subject*.
    """
    return _required(subject, value, _name)


def require_bool(subject: str, value: Any) -> bool:
    """Return *value*, which an argument gave and which must be True or False: ``"False"`` counts as true.

    Raises:
        ConfigurationError: it is neither; the message names *subject*.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"{subject} is {value!r}, which cannot work; nothing was mounted. Give True or False."
        )
    return value


def _required(subject: str, value: Any, read: Callable[[Any], str]) -> str:
    try:
        return read(value)
    except _Refused as expected:
        raise ConfigurationError(
            f"{subject} is {value!r}, which cannot work; nothing was mounted. Give {expected}."
        ) from None


def _seconds(value: Any) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise _Refused("a number of seconds, zero or more")
    return float(value)


def _whole_seconds(value: Any) -> int:
    seconds = _seconds(value)
    if seconds < 1 or seconds != int(seconds):
        raise _Refused("a whole number of seconds, at least 1")
    return int(seconds)


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(v, str) for v in value):
        raise _Refused("a list, or a string with commas between its parts")
    return tuple(value)


def _prefixes(value: Any) -> tuple[str, ...]:
    prefixes = _words(value)
    if not all(prefix.startswith("/") for prefix in prefixes):
        raise _Refused("path prefixes that start with a slash, as in '/webhooks,/admin'")
    return prefixes


def _buckets(value: Any) -> tuple[float, ...]:
    expected = "at least one bound in seconds, above zero and rising, as in '0.01,0.1,1'"
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list | tuple):
        raise _Refused(expected)
    try:
        bounds = tuple(_seconds(bound) for bound in value)
    except _Refused:
        raise _Refused(expected) from None
    if not bounds or bounds[0] <= 0 or any(a >= b for a, b in pairwise(bounds)):
        raise _Refused(expected)
    return bounds


def _networks(value: Any) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(word) for word in _words(value))
    except ValueError:
        raise _Refused("addresses or networks without host bits, as in '10.0.0.0/8,192.168.1.7'") from None


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or " " in value or "=" in value:
        raise _Refused("a word without spaces or equals signs")
    return value


def _secret(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # Flask reads digits in the environment as a number
    if not isinstance(value, str) or len(value) < _SHORTEST_TOKEN:
        raise _Refused(f"a string of at least {_SHORTEST_TOKEN} characters (what was given is not shown)")
    return value


def _store(value: Any) -> str:
    if not isinstance(value, str) or value.partition("://")[0] not in _STORES or "://" not in value:
        raise _Refused("memory://, sqlite:////absolute/path.db or redis://host:6379/0")
    return value


def _namespace(value: Any) -> str:
    allowed = isinstance(value, str) and value.replace("-", "").replace("_", "").replace(".", "")
    if not allowed or not (allowed.isascii() and allowed.isalnum()) or len(value) > _LONGEST_NAMESPACE:
        raise _Refused("a word of letters, digits, dots, dashes and underscores, as in 'shop-production'")
    return str(value)


_STORES = frozenset({"memory", "sqlite", "redis", "rediss", "unix", "redis+sentinel"})
_LONGEST_NAMESPACE = 100
_SHORTEST_TOKEN = 16
"""A bypass token is guessed at over HTTP; 16 random characters are out of reach of that."""


def _setting(default: Any, read: Callable[[Any], Any], *, secret: bool = False) -> Any:
    return field(default=default, metadata={"read": read, "secret": secret}, repr=not secret)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The deployment's settings, read from ``app.config`` and frozen.

    Attributes:
        health_prefix: where the dependency-aware probes live.
        ops_prefix: where the plain probes live.
        metrics_path: where Prometheus scrapes.
        metrics_enabled: whether anything is measured and exposed at all.
        metrics_buckets: upper bounds of the request duration histogram, in seconds.
        health_cache_ttl: how old a result may be, in seconds, that a probe reuses; one second turns any storm
            of probes into one run a second.
        detailed_on_failure: whether probe bodies name the checks and their messages.
        maintenance_env_var: the environment variable that switches maintenance on.
        maintenance_exempt_prefixes: paths under these are served during maintenance.
        maintenance_retry_after: seconds a refused client is told to wait.
        maintenance_bypass_token: who presents it passes during maintenance; None: nobody.
        maintenance_allow: networks whose clients pass during maintenance.
        drain_seconds: how long a worker goes on serving after SIGTERM while readiness says 503.
        state_url: where circuits and maintenance are shared; ``memory://`` is not at all.
        namespace: whose they are, where several services use one store.
        console: whether the operations page is served, at ``console`` under ``ops_prefix``.
    """

    health_prefix: str = _setting("/_health", _path)
    ops_prefix: str = _setting("/_ops", _path)
    metrics_path: str = _setting("/metrics", _path)
    metrics_enabled: bool = _setting(True, _flag)
    metrics_buckets: tuple[float, ...] = _setting(DEFAULT_BUCKETS, _buckets)
    health_cache_ttl: float = _setting(1.0, _seconds)
    detailed_on_failure: bool = _setting(True, _flag)
    maintenance_env_var: str = _setting("MAINTENANCE_MODE", _name)
    maintenance_exempt_prefixes: tuple[str, ...] = _setting((), _prefixes)
    maintenance_retry_after: int = _setting(60, _whole_seconds)
    maintenance_bypass_token: str | None = _setting(None, _secret, secret=True)
    maintenance_allow: tuple[Network, ...] = _setting((), _networks)
    drain_seconds: float = _setting(0.0, _seconds)
    state_url: str = _setting("memory://", _store, secret=True)
    namespace: str = _setting("default", _namespace)
    console: bool = _setting(False, _flag)

    @property
    def console_path(self) -> str:
        """Where the operations page is served, if it is."""
        return f"{self.ops_prefix}/console"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Read every ``SVC_INFRA_*`` key of *config*.

        Raises:
            ConfigurationError: a key is unknown (it names the nearest known one) or its value cannot work. A
                secret's value is never shown.
        """
        known = {PREFIX + item.name.upper(): item for item in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in config.items():
            if not (key.startswith(PREFIX) or key == PREFIX.rstrip("_")):
                continue
            if key not in known:
                raise ConfigurationError(_unknown(key, known))
            item = known[key]
            try:
                values[item.name] = item.metadata["read"](value)
            except _Refused as expected:
                shown = "has a value that" if item.metadata["secret"] else f"is {repr(value)[:80]}, which"
                raise ConfigurationError(
                    f"{key} {shown} cannot work; nothing was mounted. Set it to {expected}."
                ) from None
        settings = cls(**values)
        settings._refuse_overlap()
        return settings

    def _refuse_overlap(self) -> None:
        places = {
            "SVC_INFRA_HEALTH_PREFIX": self.health_prefix,
            "SVC_INFRA_OPS_PREFIX": self.ops_prefix,
            "SVC_INFRA_METRICS_PATH": self.metrics_path,
        }
        keys = list(places)
        for i, one in enumerate(keys):
            for other in keys[i + 1 :]:
                if places[one] == places[other]:
                    raise ConfigurationError(
                        f"{one} and {other} are both '{places[one]}'; nothing was mounted. "
                        "Give each a path of its own."
                    )
        if self.console and f"{self.metrics_path}/".startswith(f"{self.console_path}/"):
            raise ConfigurationError(
                f"SVC_INFRA_METRICS_PATH is '{self.metrics_path}', where the console is served; nothing was "
                "mounted. Give the metrics a path of their own, or set SVC_INFRA_CONSOLE to off."
            )
        for key in keys[:2]:
            if self.metrics_path in {f"{places[key]}/{probe}" for probe in _PROBES}:
                raise ConfigurationError(
                    f"SVC_INFRA_METRICS_PATH is '{self.metrics_path}', a probe under {key}; nothing was "
                    "mounted. Give the metrics a path of their own."
                )


def _unknown(key: str, known: Mapping[str, Any]) -> str:
    if key == PREFIX.rstrip("_"):
        return (
            f"{key} is not a setting; nothing was mounted. A double underscore in an environment "
            "variable makes a nested dict: write FLASK_SVC_INFRA_METRICS_PATH, with single underscores."
        )
    # Without the prefix: it alone makes any two keys look alike.
    near = get_close_matches(key.removeprefix(PREFIX), [name.removeprefix(PREFIX) for name in known], n=1)
    cure = f"Did you mean {PREFIX}{near[0]}?" if near else f"The settings are: {', '.join(sorted(known))}."
    return f"{key} is not a setting; nothing was mounted. {cure}"
