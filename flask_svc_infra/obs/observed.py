"""One request on its way through: its beginning, its answer, the end of its body."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..mounts import RULE_KEY
from .routes import LABELS, RouteSeries, method_label

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from .http import HttpMetrics

__all__ = ["Observed", "Stream", "watch_file"]

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class Observed:
    """One request on its way through."""

    __slots__ = (
        "begun",
        "complete",
        "environ",
        "exemplar",
        "http",
        "method",
        "progress",
        "series",
        "start_response",
        "status",
    )

    def __init__(self, http: HttpMetrics, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self.http = http
        self.environ = environ
        self.start_response = start_response
        method = environ["REQUEST_METHOD"]
        self.method = LABELS.get(method) or method_label(method)
        self.status: str | None = None
        self.series: RouteSeries | None = None
        self.complete = False
        self.exemplar: dict[str, str] | None = None
        self.progress = http.begin(self.method)
        self.begun = perf_counter()

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        """Take note of the status, and of the URL rule while Flask still knows it."""
        self.status = status[:3]
        self.complete = False
        for name, _ in headers:
            if name == "Content-Length" or name.lower() == "content-length":
                self.complete = True
                break
        if self.series is None:
            environ = self.environ
            # The short cut first: an outer layer, or the test client, may have left a request of its own
            # there.
            rule = environ.get(RULE_KEY) or getattr(environ.get("werkzeug.request"), "url_rule", None)
            if rule is not None and type(rule) is not str:
                rule = rule.rule
            self.series = self.http.routes.known.get((rule, self.method))
            if self.series is None:
                self.find(rule)
        if self.http.exemplar is not None:
            self.exemplar = self.http.exemplar()
        if exc_info is None:
            return self.start_response(status, headers)
        return self.start_response(status, headers, exc_info)

    def find(self, rule: str | None) -> None:
        """Look up the series of *rule*."""
        try:
            self.series = self.http.routes.series(rule, self.method)
        except OSError as error:
            self.http.complain(error)

    def end(self, status: str | None = None) -> None:
        """Record the request, once; *status* is for one that ended otherwise than it was answered."""
        now = perf_counter()
        begun, self.begun = self.begun, -1.0
        if begun < 0.0:
            return
        http, elapsed = self.http, now - begun
        if self.series is None:
            self.find(self.environ.get(RULE_KEY) or http.match(self.environ))
        bucket = http.record(self.series, status or self.status or "500", elapsed, self.progress)
        if self.exemplar is not None and bucket >= 0:
            http.keep_exemplar(self, bucket, elapsed)
        if now >= http.refresh_at:
            http.refresh_now(now)


class Stream:
    """A body that is still being made."""

    __slots__ = ("_body", "_next", "_seen")

    def __init__(self, body: Iterable[bytes], seen: Observed) -> None:
        self._seen = seen
        self._body = body
        self._next = iter(body).__next__

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return self._next()
        except StopIteration:
            self._seen.end()
            raise
        except BaseException:
            self._seen.end("500")
            raise

    def close(self) -> None:
        """Close the body and record the request."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._seen.end()

    def __del__(self) -> None:
        if self._seen.begun >= 0.0:
            self._seen.http.drop(self._seen.end)


def watch_file(body: Any, seen: Observed) -> None:
    """Record the request when the server closes the file; it must get the wrapper itself, for sendfile(2)."""
    close = getattr(body, "close", None)

    def close_and_record() -> None:
        try:
            if close is not None:
                close()
        finally:
            seen.end()

    try:
        body.close = close_and_record
    except AttributeError:  # a wrapper written in C: no watching it
        seen.end()
