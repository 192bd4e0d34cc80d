"""Wiring: put the metrics on an app, and take them off again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..access import Access
from ..config import require_path
from ..errors import ConfigurationError
from ..mounts import mounts_of, settings_of
from . import multiprocess
from .listener import parse_address
from .mounting import Mounted, Wishes
from .pools import require_engines

if TYPE_CHECKING:
    from flask import Flask
    from prometheus_client import CollectorRegistry

    from ..access import Authorize
    from .routes import Classifier

__all__ = ["add_observability"]

_SVC_INFRA = "svc-infra"


def add_observability(
    app: Flask,
    *,
    db_engines: Iterable[Any] | None = None,
    metrics_path: str | None = None,
    skip_metric_paths: Iterable[str] | None = None,
    route_classifier: Classifier | None = None,
    authorize: Authorize | None = None,
    listen: str | None = None,
    compat: Literal["svc-infra"] | None = None,
    registries: Sequence[CollectorRegistry] = (),
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
        authorize: called with the request and ``"metrics"``; a scrape for which it is not true gets 403, or
            the HTTP exception that it raises, as of ``abort(401)``.
        None:
            everyone who reaches the port may scrape.
        listen: ``host:port`` on which the metrics are answered too, whatever the path, by one process of
            the host. None: on the app's own port alone.
        compat: ``"svc-infra"`` shows requests under that library's ``http_server_*`` names as well.
        registries: of users' metrics, shown beside those of prometheus_client's default registry. What is
            appended later is shown too.

    Returns:
        A callable that takes everything off the app again; calling it twice makes no difference.

    Raises:
        ConfigurationError: a path, a callable, an engine or a setting that is none, or
            ``PROMETHEUS_MULTIPROC_DIR`` names a directory that cannot be made; nothing was mounted.
        RuntimeError: the app is measured already, or serves something else at the metrics path.
    """
    settings = settings_of(app)
    _require_callable("route_classifier", route_classifier, "a URL rule and a method and returns a class")
    if compat not in (None, _SVC_INFRA):
        raise ConfigurationError(
            f"compat is {compat!r}, which is unknown; nothing was mounted. Give '{_SVC_INFRA}', or None."
        )
    wishes = Wishes(
        path=settings.metrics_path if metrics_path is None else require_path("metrics_path", metrics_path),
        skip=_checked_all(skip_metric_paths),
        engines=require_engines(db_engines or ()),
        classifier=route_classifier,
        access=None if authorize is None else Access(authorize),
        listen=None if listen is None else parse_address(listen),
        compat=compat is not None,
        registries=registries,
    )
    if not settings.metrics_enabled:
        return lambda: None
    directory = _directory()
    mounts = mounts_of(app)
    _refuse_taken(app, wishes.path)
    mounts.claim("observability", "Call add_observability once per app, or call what it returned first.")
    multiprocess.warn_if_late()
    mounted: list[Mounted] = [Mounted(app, wishes, directory)]

    def undo() -> None:
        while mounted:
            mounted.pop().remove()
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


def _checked(path: Any, argument: str) -> str:
    if not isinstance(path, str) or not path.startswith("/") or any(c in path for c in "<>?# \t\r\n"):
        raise ConfigurationError(
            f"{argument} is {path!r}, which is no path; nothing was mounted. Give one that starts with a "
            "slash, as in '/metrics'."
        )
    return path


def _require_callable(argument: str, value: Any, takes: str) -> None:
    if value is not None and not callable(value):
        raise ConfigurationError(
            f"{argument} is {value!r}, which cannot be called; nothing was mounted. "
            f"Give a function that takes {takes}."
        )


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
