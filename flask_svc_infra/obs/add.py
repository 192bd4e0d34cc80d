"""Wiring: put the metrics on an app, and take them off again."""

from __future__ import annotations

import hashlib
import itertools
import logging
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from ..config import require_path
from ..errors import ConfigurationError
from ..mounts import entry_of, mounts_of, settings_of
from . import catalog, multiprocess
from .collectors import AppState, Refresher, process_state
from .exposition import Authorize, Exposition, Families
from .http import HttpMetrics
from .instruments import Instruments
from .pools import measure_pools
from .routes import Classifier, Routes
from .scrape import AppCollector

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["add_observability"]

_logger = logging.getLogger("flask_svc_infra.obs")
PART = "obs"


def add_observability(
    app: Flask,
    *,
    db_engines: Iterable[Any] | None = None,
    metrics_path: str | None = None,
    skip_metric_paths: Iterable[str] | None = None,
    route_classifier: Classifier | None = None,
    authorize: Authorize | None = None,
) -> Callable[[], None]:
    """Count and time the app's requests and expose them, with everything else this package measures.

    Call it while the app is set up. Metric names are in :mod:`flask_svc_infra.obs.catalog`. The scrape also
    shows what is registered with prometheus_client's default registry.

    Args:
        app: the app.
        db_engines: SQLAlchemy engines whose connection pools are measured.
        metrics_path: where Prometheus scrapes; None takes ``SVC_INFRA_METRICS_PATH``, which is ``/metrics``.
        skip_metric_paths: paths that are not counted, with everything under them by whole segments; requests
            for the metrics path never are.
        route_classifier: called once per URL rule and method with both, gives a class that is appended to the
            path label as ``rule|class``.
        authorize: called with the request and ``"metrics"``; a scrape for which it is not true gets 403.
        None:
            everyone who reaches the port may scrape.

    Returns:
        A callable that takes everything off the app again; calling it twice makes no difference.

    Raises:
        ConfigurationError: a path that cannot work, or a setting, or ``PROMETHEUS_MULTIPROC_DIR`` names a
            directory that cannot be made; nothing was mounted.
        RuntimeError: the app is measured already, or serves something else at the metrics path.
    """
    settings = settings_of(app)
    path = settings.metrics_path if metrics_path is None else require_path("metrics_path", metrics_path)
    skip = _checked_all(skip_metric_paths)
    if route_classifier is not None and not callable(route_classifier):
        raise ConfigurationError(
            f"route_classifier is {route_classifier!r}, which cannot be called; nothing was mounted. "
            "Give a function that takes a URL rule and a method and returns a class."
        )
    if authorize is not None and not callable(authorize):
        raise ConfigurationError(
            f"authorize is {authorize!r}, which cannot be called; nothing was mounted. "
            "Give a function that takes a request and an action and returns whether it is allowed."
        )
    if not settings.metrics_enabled:
        return lambda: None
    directory = _directory()
    mounts = mounts_of(app)
    _refuse_taken(app, path)
    mounts.claim("observability", "Call add_observability once per app, or call what it returned first.")
    multiprocess.warn_if_late()

    tag, release_tag = _take_tag(app, path)
    specs = [spec for spec in catalog.CATALOG if spec.scope == "app"]
    own = Instruments(specs, buckets=settings.metrics_buckets, directory=directory, tag=tag)
    process = process_state(directory)
    state = AppState(own, mounts)
    routes = Routes(own, route_classifier)
    registry = CollectorRegistry(auto_describe=True)
    weak_app = weakref.ref(app)

    def rule_of(environ: dict[str, Any]) -> str | None:
        served = weak_app()
        return None if served is None else _match(served, environ)

    def collect() -> Families:
        served = weak_app()
        if served is not None:
            try:
                routes.prepare_errors(served.url_map.iter_rules(), http.is_skipped)
            except OSError as error:
                http.complain(error)
        return collector.scrape()

    exposition = Exposition(collect, authorize=authorize)
    http = HttpMetrics(own, routes, match=rule_of, answer=exposition, paths=(path,), skip=skip)
    collector = AppCollector(own, process, state, http, registry)
    registry.register(collector)
    if directory is not None:
        http.after = Refresher(collector.refresh)

    mounts.parts[PART] = collector
    mounts.parts["obs.registry"] = registry
    mounts.metrics_paths = (*mounts.metrics_paths, path)
    entry_of(app).observe(http.middleware)
    stop_pools = measure_pools(db_engines or (), process)
    undone = False

    def undo() -> None:
        nonlocal undone
        if undone:
            return
        undone = True
        entry_of(app).observe(None)
        mounts.metrics_paths = tuple(other for other in mounts.metrics_paths if other != path)
        mounts.parts.pop(PART, None)
        mounts.parts.pop("obs.registry", None)
        stop_pools()
        state.close()
        release_tag()
        mounts.release("observability")

    return undo


def _directory() -> Path | None:
    try:
        return multiprocess.directory_in_use()
    except OSError as error:
        raise ConfigurationError(
            f"PROMETHEUS_MULTIPROC_DIR is '{error.filename}', which cannot be made ({error.strerror}); "
            "nothing was mounted. Name a directory that every worker may write to."
        ) from error


def _match(app: Flask, environ: dict[str, Any]) -> str | None:
    """Match a request again whose context is gone, as after an exception that Flask let through."""
    try:
        adapter = app.create_url_adapter(app.request_class(environ, populate_request=False))
        if adapter is None:
            return None
        rule, _ = adapter.match(return_rule=True)
    except Exception:  # it matches nothing, for whatever reason: a hostile Host, a path that is not UTF-8
        return None
    return rule.rule


_tags: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def _take_tag(app: Flask, path: str) -> tuple[str, Callable[[], None]]:
    """Return what tells this app's files from another's, the same in every worker that builds the same apps.

    It is made of the app's import name and metrics path; apps that share both are numbered in the order in
    which they are set up, and a number is free again when its app is gone.
    """
    taken = set(_tags.values())
    for number in itertools.count():
        digest = hashlib.sha256(f"{app.import_name}\0{path}\0{number}".encode()).hexdigest()
        tag = f"a{digest[:12]}"  # it becomes part of a file name, where a number would be a time
        if tag not in taken:
            break
    _tags[app] = tag

    def release() -> None:
        _tags.pop(app, None)

    return tag, release


def _checked(path: Any, argument: str) -> str:
    if not isinstance(path, str) or not path.startswith("/") or any(c in path for c in "<>?# \t\r\n"):
        raise ConfigurationError(
            f"{argument} is {path!r}, which is no path; nothing was mounted. Give one that starts with a "
            "slash, as in '/metrics'."
        )
    return path


def _checked_all(paths: Iterable[str] | None) -> tuple[str, ...]:
    if isinstance(paths, str):
        raise ConfigurationError(
            f"skip_metric_paths is the string {paths!r}; nothing was mounted. "
            f"Give a list of paths: [{paths!r}]."
        )
    return tuple(_checked(path, "skip_metric_paths") for path in paths or ())


def _refuse_taken(app: Flask, path: str) -> None:
    for rule in app.url_map.iter_rules():
        if rule.rule == path:
            raise RuntimeError(
                f"'{path}' is served by the endpoint '{rule.endpoint}' already; nothing was mounted. Give "
                "the metrics another metrics_path, or take that route away (prometheus-flask-exporter: "
                "path=None)."
            )
