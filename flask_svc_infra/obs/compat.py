"""The names svc-infra's own middleware gives its metrics, next to ours, for dashboards that ask for them.

Requests and durations are ours under another name. What ours do not have (in-flight requests by route,
response sizes, exceptions) is measured by a layer of its own, which only an app that asks for it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flask import got_request_exception, request, request_started
from prometheus_client.core import Metric

from .catalog import (
    COMPAT_DURATION,
    COMPAT_EXCEPTIONS,
    COMPAT_IN_FLIGHT,
    COMPAT_REQUESTS,
    COMPAT_SIZE,
    HTTP_DURATION,
    HTTP_REQUESTS,
    MetricSpec,
)
from .routes import method_label

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Flask

    from .instruments import Instruments
    from .routes import Routes

__all__ = ["SvcInfraNames"]

_RENAMED = {"path": "route", "status": "code"}
_ROUTE = "flask_svc_infra.compat.route"


class SvcInfraNames:
    """One app's metrics under svc-infra's names.

    Args:
        app: the app.
        instruments: where they count.
        routes: gives the path labels.
    """

    def __init__(self, app: Flask, instruments: Instruments, routes: Routes) -> None:
        self._app = app
        self._instruments = instruments
        self._routes = routes
        request_started.connect(self._on_started, app)
        got_request_exception.connect(self._on_exception, app)

    def close(self) -> None:
        """Listen no more."""
        request_started.disconnect(self._on_started, self._app)
        got_request_exception.disconnect(self._on_exception, self._app)

    def middleware(self, inner: WSGIApplication) -> WSGIApplication:
        """Return *inner* with the size of its responses measured."""

        def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            size: list[int] = []

            def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
                size[:] = [int(value) for name, value in headers if name.lower() == "content-length"]
                return start_response(status, headers, *exc_info)

            try:
                body = inner(environ, start)
            except BaseException:
                self._finish(environ, 0)
                raise
            if size or isinstance(body, tuple | list):
                self._finish(environ, size[0] if size else sum(map(len, body)))
                return body
            return _Counted(body, lambda count: self._finish(environ, count))

        return call

    def families(self, own: Iterable[Metric]) -> list[Metric]:
        """Return ours under svc-infra's names."""
        found = {metric.name: metric for metric in own}
        pairs = ((HTTP_REQUESTS, COMPAT_REQUESTS), (HTTP_DURATION, COMPAT_DURATION))
        return [_renamed(found[ours.family], ours, theirs) for ours, theirs in pairs if ours.family in found]

    def _on_started(self, _app: Flask, **_: Any) -> None:
        route = self._route()
        request.environ[_ROUTE] = (route, method_label(request.method))
        self._instruments.inc(COMPAT_IN_FLIGHT, (route,))

    def _on_exception(self, _app: Flask, **_: Any) -> None:
        self._instruments.inc(COMPAT_EXCEPTIONS, (self._route(), method_label(request.method)))

    def _route(self) -> str:
        rule = request.url_rule
        return self._routes.path(None if rule is None else rule.rule, method_label(request.method))

    def _finish(self, environ: WSGIEnvironment, size: int) -> None:
        started = environ.pop(_ROUTE, None)
        if started is not None:
            route, method = started
            self._instruments.inc(COMPAT_IN_FLIGHT, (route,), -1.0)
            self._instruments.observe(COMPAT_SIZE, (route, method), float(size))


class _Counted:
    """A stream whose bytes are counted."""

    def __init__(self, body: Iterable[bytes], finish: Callable[[int], None]) -> None:
        self._body = body
        self._next = iter(body).__next__
        self._finish = finish
        self._count = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = self._next()
        self._count += len(chunk)
        return chunk

    def close(self) -> None:
        """Close the body."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._finish(self._count)


def _renamed(metric: Metric, ours: MetricSpec, theirs: MetricSpec) -> Metric:
    renamed = Metric(theirs.family, theirs.help, theirs.kind)
    for sample in metric.samples:
        labels = {_RENAMED.get(name, name): value for name, value in sample.labels.items()}
        name = theirs.family + sample.name.removeprefix(ours.family)
        renamed.samples.append(sample._replace(name=name, labels=labels))
    return renamed
