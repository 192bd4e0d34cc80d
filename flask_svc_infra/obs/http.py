"""The WSGI layer that counts requests and times them to the end of their response.

It stands outside Flask, because nothing inside sees every request: a hook of another extension that refuses a
request skips ours, and ``teardown_request`` comes before a streamed body is sent.

A response whose body is complete when the app returns it is recorded then, and handed on as it is. A stream
is recorded when it is exhausted or closed, whichever comes first. A body the app fails to finish counts as
500; one the client does not wait for counts as what it was sent as.
"""

from __future__ import annotations

import logging
import math
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from time import time
from types import TracebackType
from typing import TYPE_CHECKING

from prometheus_client.samples import Exemplar

from ..mounts import under
from .bounds import bound_label
from .catalog import HTTP_DURATION, HTTP_IN_PROGRESS, HTTP_REQUESTS
from .observed import Observed, Stream, watch_file

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .instruments import Instruments
    from .routes import Routes, RouteSeries

__all__ = ["HttpMetrics"]

_REFRESH_INTERVAL = 1.0
"""Seconds: how old what one worker says of its circuits and checks may be when another is scraped."""
_logger = logging.getLogger("flask_svc_infra.obs")
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


def _nothing() -> None:
    """Do nothing."""


class HttpMetrics:
    """Counts one app's requests.

    Args:
        instruments: where they are counted.
        routes: the series of the app's routes.
        match: finds the URL rule of a request whose context is gone.
        answer: answers requests for a metrics path.
        paths: the metrics paths; requests for them are never counted.
        skip: paths that are not counted, and whatever lies under them.
    """

    def __init__(
        self,
        instruments: Instruments,
        routes: Routes,
        *,
        match: Callable[[WSGIEnvironment], str | None],
        answer: WSGIApplication,
        paths: tuple[str, ...],
        skip: tuple[str, ...] = (),
    ) -> None:
        self.instruments = instruments
        self.routes = routes
        self.match = match
        self.refresh_at = math.inf
        """When, on `perf_counter`, the end of a request is to call `refresh_now`."""
        self._refresh: Callable[[], None] = _nothing
        self.exemplar: Callable[[], dict[str, str] | None] | None = None
        """Gives the labels of an exemplar for the current request; None when tracing is off."""
        self._exemplars: dict[tuple[tuple[str, str], int], Exemplar] = {}
        self._answer = answer
        self._paths = paths
        self._skip = skip
        self._dropped: deque[Callable[[], None]] = deque()
        self._bounds = instruments.bounds(HTTP_DURATION)
        self._counts = instruments.row(HTTP_REQUESTS)
        self._durations = instruments.row(HTTP_DURATION)
        self._gauges = instruments.row(HTTP_IN_PROGRESS)
        self._in_progress = routes.in_progress
        self._complained = threading.Event()

    def is_skipped(self, path: str) -> bool:
        """Tell whether requests for *path* are left out."""
        return path in self._paths or any(under(path, prefix) for prefix in self._skip)

    def middleware(self, inner: WSGIApplication) -> WSGIApplication:
        """Return *inner* with its requests counted."""
        paths, skip, is_skipped, answer = self._paths, self._skip, self.is_skipped, self._answer

        def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path in paths:
                return answer(environ, start_response)
            if skip and is_skipped(path):
                return inner(environ, start_response)
            seen = Observed(self, environ, start_response)
            try:
                body = inner(environ, seen.start)
                if not (seen.complete or type(body) is tuple or type(body) is list):
                    return Stream(body, seen)
            except StopIteration:
                seen.end("101")  # how a WebSocket view tells gunicorn that it took the connection over
                raise
            except BaseException:
                seen.end("500")
                raise
            wrapper = environ.get("wsgi.file_wrapper")
            if isinstance(wrapper, type) and isinstance(body, wrapper):
                watch_file(body, seen)
            else:
                seen.end()
            return body

        return call

    def refresh_each_second(self, refresh: Callable[[], None]) -> None:
        """Have *refresh* called at the end of requests, at most once a second; it must not raise."""
        self._refresh = refresh
        self.refresh_at = 0.0

    def refresh_now(self, now: float) -> None:
        """Call what was asked for, and not again for a second from *now*."""
        self.refresh_at = now + _REFRESH_INTERVAL
        self._refresh()

    def begin(self, method: str) -> int:
        """Count a request in; returns the place to count it out at, -1 when it could not be."""
        try:
            place = self._in_progress[method]
            with self.instruments.lock:
                self._gauges.values[place] += 1.0  # type: ignore[index]
        except (KeyError, TypeError):
            return self._begin(method)
        return place

    def _begin(self, method: str) -> int:
        """Count in the first request of its method, or of a forked child."""
        try:
            # All three rows, or a child would count in one and find another still its parent's.
            self.instruments.reopen(HTTP_REQUESTS, HTTP_DURATION, HTTP_IN_PROGRESS)
            place = self.routes.progress(method)
        except OSError as error:
            self.complain(error)
            return -1
        with self.instruments.lock:
            self._gauges.values[place] += 1.0  # type: ignore[index]
        return place

    def record(self, series: RouteSeries | None, status: str, elapsed: float, progress: int) -> int:
        """Count a request out; returns its bucket's place, -1 when it could not be counted."""
        try:
            if series is None:
                place = bucket = -1
            else:
                place = series.statuses.get(status, -1)
                if place < 0:
                    place = self.routes.status(series, status)
                bucket = series.buckets[bisect_left(self._bounds, elapsed)]
            with self.instruments.lock:
                if progress >= 0:
                    self._gauges.values[progress] -= 1.0  # type: ignore[index]
                if series is not None:
                    self._counts.values[place] += 1.0  # type: ignore[index]
                    durations = self._durations.values
                    durations[bucket] += 1.0  # type: ignore[index]
                    durations[series.sum] += elapsed  # type: ignore[index]
        except TypeError:  # the process was forked in the middle of this request: it is its parent's to count
            return -1
        except OSError as error:
            self.complain(error)
            return -1
        return bucket

    def keep_exemplar(self, request: Observed, bucket: int, elapsed: float) -> None:
        """Keep the trace of a request as the example of its bucket."""
        if request.series is not None and request.exemplar is not None:
            exemplar = Exemplar(request.exemplar, elapsed, time())
            self._exemplars[request.series.labels, request.series.buckets.index(bucket)] = exemplar

    def exemplars_by_bucket(self) -> dict[tuple[str, str, str], Exemplar]:
        """Return the latest exemplar of each bucket, by method, path and upper bound."""
        bounds = [bound_label(bound) for bound in (*self._bounds, math.inf)]
        return {(*labels, bounds[index]): found for (labels, index), found in self._exemplars.copy().items()}

    def drop(self, end: Callable[[], None]) -> None:
        """Remember a stream that nobody closed; it is recorded at the next scrape.

        Called by the garbage collector, perhaps in the middle of `record`: so it takes no lock.
        """
        self._dropped.append(end)

    def settle_dropped(self) -> None:
        """Record the streams that nobody closed."""
        while self._dropped:
            self._dropped.popleft()()

    def complain(self, error: OSError) -> None:
        """Say once that requests cannot be counted."""
        if not self._complained.is_set():
            self._complained.set()
            _logger.error(
                "requests cannot be counted: %s; they are served all the same. Make room in, or give access "
                "to, the directory named by PROMETHEUS_MULTIPROC_DIR. This is said once.",
                error,
            )
