"""Every ``SVC_INFRA_*`` setting: its name, its default, what it accepts.

Constructor arguments say how the code uses the extension, ``app.config`` how the deployment differs. The keys
are read once, in ``init_app``; an unknown or malformed one is refused before anything is mounted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from . import readers
from .errors import ConfigurationError
from .readers import Network, parse_flag

__all__ = [
    "DEFAULT_BUCKETS",
    "PREFIX",
    "Network",
    "Settings",
    "parse_flag",
    "require_bool",
    "require_path",
    "require_word",
]

PREFIX = "SVC_INFRA_"
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds in seconds; those of the documented library, so that its alerts keep their meaning."""

_PROBES = ("live", "ready", "startup")


def require_path(subject: str, value: Any) -> str:
    """Return *value*, a path an argument gave, by the rule the settings follow.

    Raises:
        ConfigurationError: it is none; the message names *subject*.
    """
    return _required(subject, value, readers.path)


def require_word(subject: str, value: Any) -> str:
    """Return *value*, a word without spaces, as an environment variable's name is.

    Raises:
        ConfigurationError: it is none; the message names *subject*.
    """
    return _required(subject, value, readers.name)


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
    except readers.Refused as expected:
        raise ConfigurationError(
            f"{subject} is {value!r}, which cannot work; nothing was mounted. Give {expected}."
        ) from None


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

    health_prefix: str = _setting("/_health", readers.path)
    ops_prefix: str = _setting("/_ops", readers.path)
    metrics_path: str = _setting("/metrics", readers.path)
    metrics_enabled: bool = _setting(True, readers.flag)
    metrics_buckets: tuple[float, ...] = _setting(DEFAULT_BUCKETS, readers.buckets)
    health_cache_ttl: float = _setting(1.0, readers.seconds)
    detailed_on_failure: bool = _setting(True, readers.flag)
    maintenance_env_var: str = _setting("MAINTENANCE_MODE", readers.name)
    maintenance_exempt_prefixes: tuple[str, ...] = _setting((), readers.prefixes)
    maintenance_retry_after: int = _setting(60, readers.whole_seconds)
    maintenance_bypass_token: str | None = _setting(None, readers.secret, secret=True)
    maintenance_allow: tuple[Network, ...] = _setting((), readers.networks)
    drain_seconds: float = _setting(0.0, readers.seconds)
    state_url: str = _setting("memory://", readers.store, secret=True)
    namespace: str = _setting("default", readers.namespace)
    console: bool = _setting(False, readers.flag)

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
            except readers.Refused as expected:
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
