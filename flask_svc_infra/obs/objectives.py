"""The objectives of one app: kept with its mounts, their latencies among the histogram's bounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..mounts import mounts_of, settings_of
from .rules import Scope
from .slo import SLO, add_bounds, check_bounds, check_slos

__all__ = ["declare_slos", "scope_of", "slos_of"]

_PART = "obs.slos"


def declare_slos(app: Any, slos: Iterable[SLO]) -> None:
    """Keep *slos* as the app's, and make every latency a bound of its duration histogram.

    Call it before the app's metrics are mounted: a histogram's bounds cannot be changed later.

    Raises:
        ConfigurationError: two have one name; or the metrics are mounted and a latency is none of their
            bounds (the message names the nearest). Nothing was changed.
    """
    checked = check_slos([*slos_of(app), *slos])
    settings = settings_of(app)
    mounts = mounts_of(app)
    if mounts.metrics_paths:
        check_bounds(settings.metrics_buckets, checked)
    else:
        mounts.settings = replace(settings, metrics_buckets=add_bounds(settings.metrics_buckets, checked))
    mounts.parts[_PART] = checked


def slos_of(app: Any) -> tuple[SLO, ...]:
    """Return the app's objectives."""
    slos: tuple[SLO, ...] = mounts_of(app).parts.get(_PART, ())
    return slos


def scope_of(app: Any, **options: Any) -> Scope:
    """Make the scope of rules for *app*: its own probe paths are no customers'.

    Args:
        app: the app.
        **options: as :class:`~flask_svc_infra.obs.rules.Scope` takes them.

    Raises:
        ConfigurationError: an option cannot work.
    """
    settings = settings_of(app)
    return Scope(probe_prefixes=(settings.health_prefix, settings.ops_prefix), **options)
