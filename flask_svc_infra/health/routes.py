"""The Flask edge of health: mount the probes, ask the registry, hand out the answers.

A probe is answered in two places, at the WSGI entry and by the blueprint's view, and both call the very function
that is mounted here as its :class:`~flask_svc_infra.mounts.Probe`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qs

from flask import Blueprint, Flask, Response, request
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from ..errors import ConfigurationError
from ..mounts import Answer, Mounts, Probe, ProbeKind, mounts_of, settings_of
from ..shortcut import install_shortcut
from .answers import Asked, Format, alive, check_answer, held_answer, not_found, ready_answer, startup_answer
from .model import HealthCheckFn
from .registry import HealthRegistry
from .runner import Report

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

_FORMATS: dict[str, Format] = {
    "application/json": "json",
    "application/health+json": "health+json",
    "text/plain": "text",
}


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

    ``live`` always says 200; ``ready`` runs every check of the group ``ready`` and ``startup`` the critical ones:
    200 when healthy or degraded, else 503; ``checks/<name>`` and ``groups/<name>`` ask one check or one group. A
    result up to ``SVC_INFRA_HEALTH_CACHE_TTL`` seconds old is used again. Sync checks run in the app's context.

    Args:
        app: the Flask app, before its first request.
        registry: the checks; one of ``flask_svc_infra.aio`` will do as well.
        prefix: where they live.
        include_in_schema: whether an OpenAPI extension that scans the app (APIFlask) shows them; elsewhere see
            :func:`~flask_svc_infra.health.openapi_paths`.
        detailed_on_failure: whether bodies name the checks and say why; False, here or as
            ``SVC_INFRA_DETAILED_ON_FAILURE``, leaves the status alone.

    Raises:
        ConfigurationError: the prefix is no path, or a ``SVC_INFRA_*`` setting is malformed.
        RuntimeError: something is mounted there already.
    """
    require_app(app, "add_health_routes")
    behind = sync_registry(registry)
    prefix = _require_prefix(prefix)
    settings = settings_of(app)
    mounts = mounts_of(app)
    place = f"the health routes at '{prefix}'"
    mounts.claim(place, "Call add_health_routes once for a prefix, or give the second another prefix.")
    detailed = detailed_on_failure and settings.detailed_on_failure
    probes = _Probes(mounts, behind, app.app_context, settings.health_cache_ttl, detailed)
    try:
        mounted = _mount(app, probes, prefix, include_in_schema=include_in_schema)
    except BaseException:
        mounts.release(place)
        raise
    for path, probe in mounted.items():
        (mounts.probe_prefixes if path.endswith("/") else mounts.probes)[path] = probe
    install_shortcut(app)
    mounts.parts.setdefault(REGISTRY, behind)
    behind._within = behind._within or app.app_context  # noqa: SLF001 - checks asked from Python see an app too


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


class _Probes:
    """The answers of one mount."""

    def __init__(
        self, mounts: Mounts, registry: HealthRegistry, within: Callable[[], Any], ttl: float, detailed: bool
    ) -> None:
        self._mounts = mounts
        self._registry = registry
        self._within = within
        self._ttl = ttl
        self._detailed = detailed

    def live(self, environ: Mapping[str, Any]) -> Answer:
        return alive(_form(environ))

    def ready(self, environ: Mapping[str, Any]) -> Answer:
        return self._held("ready", environ) or self._group("ready", environ)

    def startup(self, environ: Mapping[str, Any]) -> Answer:
        return self._held("startup", environ) or self._group("startup", environ)

    def check(self, environ: Mapping[str, Any]) -> Answer:
        held = self._held("check", environ)
        if held is not None:
            return held
        name = _last_segment(environ)
        try:
            reports = self._run([name])
        except KeyError:
            return not_found("health check", name)
        return check_answer(reports[0], self._asked(environ))

    def group(self, environ: Mapping[str, Any]) -> Answer:
        name = _last_segment(environ)
        kind: ProbeKind = "ready" if name == "ready" else "startup" if name == "startup" else "group"
        return self._held(kind, environ) or self._group(name, environ)

    def _group(self, group: str, environ: Mapping[str, Any]) -> Answer:
        asked = self._asked(environ)
        members = [check.name for check in self._registry.checks if check.belongs_to(group)]
        if not members and group not in ("ready", "startup"):
            return not_found("health group", group)
        try:
            reports = self._run([name for name in members if name not in asked.exclude])
        except KeyError:  # one was removed a moment ago
            return self._group(group, environ)
        asked = self._asked(environ)
        if group == "startup":
            return startup_answer(reports, asked, members=members)
        return ready_answer(reports, asked, members=members, subject=group)

    def _run(self, names: Iterable[str]) -> list[Report]:
        return self._registry._check(names, within=self._within, max_age=self._ttl)  # noqa: SLF001 - the way in

    def _asked(self, environ: Mapping[str, Any]) -> Asked:
        query = environ.get("QUERY_STRING")
        asked = parse_qs(query, keep_blank_values=True) if query else {}
        return Asked(
            form=_form(environ),
            verbose="verbose" in asked,
            exclude=frozenset(asked.get("exclude", ())),
            detailed=self._detailed,
            now=self._registry._runner.clock(),  # noqa: SLF001
        )

    def _held(self, kind: ProbeKind, environ: Mapping[str, Any]) -> Answer | None:
        reason = self._mounts.held(kind)
        return None if reason is None else held_answer(reason, self._asked(environ))


def _mount(app: Flask, probes: _Probes, prefix: str, *, include_in_schema: bool) -> dict[str, Probe]:
    name = "svc_infra_health" + ("" if prefix == "/_health" else prefix.replace("/", "_").replace(".", "_"))
    blueprint = Blueprint(name, __name__)
    blueprint.enable_openapi = include_in_schema  # type: ignore[attr-defined]  # what APIFlask asks a blueprint
    mounted: dict[str, Probe] = {}
    table: tuple[tuple[str, str, ProbeKind, Callable[[Mapping[str, Any]], Answer], str], ...] = (
        ("live", "/live", "live", probes.live, "Tell that the process is running."),
        ("ready", "/ready", "ready", probes.ready, "Tell whether the service can take requests."),
        (
            "startup",
            "/startup",
            "startup",
            probes.startup,
            "Tell whether the critical dependencies are there.",
        ),
        ("check", "/checks/<name>", "check", probes.check, "Tell how one dependency is."),
        ("group", "/groups/<name>", "group", probes.group, "Tell how a group of dependencies is."),
    )
    for endpoint, rule, kind, answer, doc in table:
        probe = Probe(prefix + rule, kind, answer)
        mounted[probe.rule.removesuffix("<name>")] = probe
        view = _view(answer)
        view.__name__, view.__doc__ = endpoint, doc
        blueprint.add_url_rule(rule, endpoint, view, methods=["GET"])
    app.register_blueprint(blueprint, url_prefix=prefix)
    return mounted


def _view(answer: Callable[[Mapping[str, Any]], Answer]) -> Callable[..., Response]:
    def view(**_: Any) -> Response:
        given = answer(request.environ)
        return Response(given.body, given.status, dict(given.headers), content_type=given.content_type)

    return view


def _form(environ: Mapping[str, Any]) -> Format:
    accept = environ.get("HTTP_ACCEPT")
    if not accept or accept == "*/*":
        return "json"
    best = parse_accept_header(accept, MIMEAccept).best_match(_FORMATS, default="application/json")
    return _FORMATS[best]


def _last_segment(environ: Mapping[str, Any]) -> str:
    path: str = environ.get("PATH_INFO", "")
    return path.rstrip("/").rpartition("/")[2].encode("latin-1", "replace").decode("utf-8", "replace")


def require_app(app: Any, function: str) -> None:
    if not isinstance(getattr(app, "extensions", None), dict):
        raise ConfigurationError(
            f"{function} was given a {type(app).__name__}, which keeps no state for extensions (app.extensions); "
            "nothing was mounted. Pass the Flask app."
        )


def _require_prefix(prefix: Any) -> str:
    """Return *prefix*, or refuse what no path can start with."""
    well_formed = isinstance(prefix, str) and prefix.startswith("/") and prefix.strip("/")
    if not well_formed or prefix.endswith("/") or "//" in prefix or any(sign in prefix for sign in "<>?# \t\r\n"):
        raise ConfigurationError(
            f"the prefix of the health routes is {prefix!r}; nothing was mounted. "
            "Pass a path that starts with a slash and does not end with one, as in '/_health'."
        )
    return str(prefix)
