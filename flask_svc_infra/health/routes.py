"""The Flask edge of health: mount the probes, ask the registry, hand out the answers.

A probe is answered in two places, at the WSGI entry and by the blueprint's view, and both call the very
function that is mounted here as its :class:`~flask_svc_infra.mounts.Probe`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from flask import Blueprint, Flask, Response, request

from ..config import require_bool
from ..errors import ConfigurationError
from ..mounts import Answer, Probe, ProbeKind, mounts_of, require_unserved, settings_of
from ..shortcut import install_shortcut
from .openapi import document, show
from .probes import Probes
from .registry import HealthRegistry

if TYPE_CHECKING:
    from .model import HealthCheckFn
    from .runner import Within

__all__ = [
    "REGISTRY",
    "AsyncRegistry",
    "add_dependency_health",
    "add_health_routes",
    "require_app",
    "sync_registry",
]

REGISTRY = "health.registry"
"""Where the registry an app serves is kept among its mounts' parts."""


class AsyncRegistry(Protocol):
    """A registry of ``flask_svc_infra.aio``: its ``sync`` is the registry behind it."""

    @property
    def sync(self) -> HealthRegistry:
        """The blocking registry."""
        ...


def add_health_routes(
    app: Flask,
    registry: HealthRegistry | AsyncRegistry,
    *,
    prefix: str = "/_health",
    include_in_schema: bool = False,
    detailed_on_failure: bool = True,
) -> None:
    """Mount the dependency-aware probes on *app*.

    ``live`` always says 200; ``ready`` runs every check of the group ``ready`` and ``startup`` the critical
    ones: 200 when healthy or degraded, else 503; ``checks/<name>`` and ``groups/<name>`` ask one check or
        one group. A
    result up to ``SVC_INFRA_HEALTH_CACHE_TTL`` seconds old is used again. Sync checks run in the app's
    context.

    Args:
        app: the Flask app, before its first request.
        registry: the checks; one of ``flask_svc_infra.aio`` will do as well.
        prefix: where they live.
        include_in_schema: whether an OpenAPI extension that scans the app (APIFlask) shows them; elsewhere
            see :func:`~flask_svc_infra.health.openapi_paths`.
        detailed_on_failure: whether bodies name the checks and say why; False, here or as
            ``SVC_INFRA_DETAILED_ON_FAILURE``, leaves the status alone.

    Raises:
        ConfigurationError: the prefix is no path, or a ``SVC_INFRA_*`` setting is malformed.
        RuntimeError: something is mounted there already, or the app has served a request.
    """
    require_app(app, "add_health_routes")
    behind = sync_registry(registry)
    prefix = _require_prefix(prefix)
    require_bool("include_in_schema", include_in_schema)
    require_bool("detailed_on_failure", detailed_on_failure)
    settings = settings_of(app)
    mounts = mounts_of(app)
    place = f"the health routes at '{prefix}'"
    require_unserved(app, place)
    mounts.claim(place, "Call add_health_routes once for a prefix, or give the second another prefix.")
    within = context_of(app)
    detailed = detailed_on_failure and settings.detailed_on_failure
    probes = Probes(mounts, behind, within, settings.health_cache_ttl, detailed)
    try:
        mounted = _mount(app, probes, prefix, include_in_schema=include_in_schema)
    except BaseException:
        mounts.release(place)
        raise
    for path, probe in mounted.items():
        (mounts.probe_prefixes if path.endswith("/") else mounts.probes)[path] = probe
    install_shortcut(app)
    mounts.parts.setdefault(REGISTRY, behind)
    behind._within = behind._within or within  # noqa: SLF001 - checks asked from Python see an app too


def add_dependency_health(app: Flask, name: str, check_fn: HealthCheckFn, *, critical: bool = True) -> None:
    """Register a check with the registry *app* serves; make and mount one when it serves none yet.

    Args:
        app: the Flask app.
        name: the check's name.
        check_fn: the check.
        critical: whether its failure makes the service unhealthy.

    Raises:
        ConfigurationError: the name is taken, or an argument cannot work.
    """
    require_app(app, "add_dependency_health")
    registry = mounts_of(app).parts.get(REGISTRY)
    if registry is not None:
        registry.add(name, check_fn, critical=critical)
        return
    registry = HealthRegistry()
    registry.add(name, check_fn, critical=critical)
    add_health_routes(app, registry, prefix=settings_of(app).health_prefix)


def sync_registry(registry: HealthRegistry | AsyncRegistry) -> HealthRegistry:
    """Return the blocking registry behind *registry*.

    Raises:
        ConfigurationError: it is none.
    """
    behind = getattr(registry, "sync", registry)
    if not isinstance(behind, HealthRegistry):
        raise ConfigurationError(
            f"add_health_routes was given a {type(registry).__name__} for a registry; nothing was mounted. "
            "Pass a HealthRegistry."
        )
    return behind


_QUESTIONS: tuple[tuple[str, ProbeKind, str], ...] = (
    ("/live", "live", "Tell that the process is running."),
    ("/ready", "ready", "Tell whether the service can take requests."),
    ("/startup", "startup", "Tell whether the critical dependencies are there."),
    ("/checks/<name>", "check", "Tell how one dependency is."),
    ("/groups/<name>", "group", "Tell how a group of dependencies is."),
)


def _mount(app: Flask, probes: Probes, prefix: str, *, include_in_schema: bool) -> dict[str, Probe]:
    """Mount a blueprint with the probes' views; return the probes by the path, or its start, they answer."""
    name = "svc_infra_health" + ("" if prefix == "/_health" else prefix.replace("/", "_").replace(".", "_"))
    blueprint = Blueprint(name, __name__, url_prefix=prefix)
    show(blueprint, visible=include_in_schema)
    mounted: dict[str, Probe] = {}
    for path, kind, summary in _QUESTIONS:
        probe = Probe(prefix + path, kind, getattr(probes, kind))
        mounted[probe.rule.removesuffix("<name>")] = probe
        view = _view(probe.answer, kind, summary)
        blueprint.add_url_rule(path, kind, view, methods=["GET"], strict_slashes=False)
        if include_in_schema:
            document(app, probe, view, summary)
    app.register_blueprint(blueprint)
    return mounted


def _view(answer: Callable[[Mapping[str, Any]], Answer], name: str, summary: str) -> Callable[..., Response]:
    """Return the view that gives the short cut's answer to whoever reaches Flask."""

    def view(**_: Any) -> Response:
        given = answer(request.environ)
        return Response(given.body, given.status, dict(given.headers), content_type=given.content_type)

    view.__name__, view.__doc__ = name, summary
    return view


def context_of(app: Flask) -> Within:
    """Return what makes the app's context, for as long as the app lives; the registry may outlive it."""
    reference = weakref.ref(app)

    def within() -> AbstractContextManager[Any]:
        living = reference()
        return living.app_context() if living is not None else nullcontext()

    return within


def require_app(app: Any, function: str) -> None:
    """Refuse what is no Flask app, on behalf of *function*."""
    if not isinstance(getattr(app, "extensions", None), dict):
        raise ConfigurationError(
            f"{function} was given a {type(app).__name__}, which keeps no state for extensions "
            "(app.extensions); nothing was mounted. Pass the Flask app."
        )


def _require_prefix(prefix: Any) -> str:
    """Return *prefix*, or refuse what no path can start with."""
    well_formed = isinstance(prefix, str) and prefix.startswith("/") and prefix.strip("/")
    if (
        not well_formed
        or prefix.endswith("/")
        or "//" in prefix
        or any(sign in prefix for sign in "<>?# \t\r\n")
    ):
        raise ConfigurationError(
            f"the prefix of the health routes is {prefix!r}; nothing was mounted. "
            "Pass a path that starts with a slash and does not end with one, as in '/_health'."
        )
    return str(prefix)
