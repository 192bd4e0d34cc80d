"""Outgoing HTTP requests as metrics, for requests and httpx.

Each exchange with a server is one observation: a redirect that is followed is two. The host label is
bounded: past `MOST_HOSTS` hosts the others share one label, so that a crawler or a webhook sender cannot
flood Prometheus.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import MissingDriverError
from . import catalog, multiprocess
from .collectors import process_state
from .kept import kept
from .routes import method_label

if TYPE_CHECKING:
    import requests

    from .instruments import Instruments

__all__ = ["MOST_HOSTS", "OTHER_HOST", "instrument_httpx", "instrument_requests"]

MOST_HOSTS = 100
OTHER_HOST = "other"
FAILED = "error"
"""The status label of an exchange that brought no response."""
_hosts: set[str] = kept("client hosts", set)
_lock = threading.Lock()
_patches: dict[tuple[Any, str], _Patch] = kept("client patches", dict)


def instrument_requests(session: requests.Session | None = None) -> Callable[[], None]:
    """Count and time what ``requests`` sends, by method, host and status.

    Calling it twice measures once. A response is timed to its headers.

    Args:
        session: the session to measure; None measures every session of the process, those made before
        included.

    Returns:
        A callable that stops it; of several callers the last one to stop does.

    Raises:
        MissingDriverError: requests is not installed.
    """
    requests = _needs("requests", "instrument_requests()", extra="http")
    return _start(requests.Session if session is None else session, "get_adapter", _measured_adapters)


def instrument_httpx() -> Callable[[], None]:
    """Count and time what ``httpx`` sends, sync and async, by method, host and status.

    Calling it twice measures once. An exchange is timed until httpx has the response, with its body where
    that is not streamed; redirects that httpx follows itself are part of it.

    Returns:
        A callable that stops it; of several callers the last one to stop does.

    Raises:
        MissingDriverError: httpx is not installed.
    """
    httpx = _needs("httpx", "instrument_httpx()", extra=None)
    stops = [
        _start(httpx.Client, "send", _measured_send),
        _start(httpx.AsyncClient, "send", _measured_async_send),
    ]

    def stop() -> None:
        for one in stops:
            one()

    return stop


class _Patch:
    """One replaced method, and how many asked for it."""

    def __init__(self, owner: Any, name: str, wrap: Callable[[Any, _Patch], Any]) -> None:
        self.users = 0
        self.active = True
        self._owner = owner
        self._name = name
        self._of_class = isinstance(owner, type)
        self._original = getattr(owner, name)
        self._ours = functools.wraps(self._original)(wrap(self._original, self))
        setattr(owner, name, self._ours)

    def remove(self) -> None:
        """Put the original back; where someone has replaced ours since, ours stays and measures nothing."""
        self.active = False
        if vars(self._owner).get(self._name) is not self._ours:
            return
        if self._of_class:
            setattr(self._owner, self._name, self._original)
        else:
            delattr(self._owner, self._name)


def _start(owner: Any, name: str, wrap: Callable[[Any, _Patch], Any]) -> Callable[[], None]:
    key = (owner, name)
    with _lock:
        patch = _patches.get(key)
        if patch is None:
            patch = _patches[key] = _Patch(owner, name, wrap)
        patch.users += 1
    stopped = False

    def stop() -> None:
        nonlocal stopped
        with _lock:
            if stopped:
                return
            stopped = True
            patch.users -= 1
            if patch.users == 0:
                _patches.pop(key, None)
                patch.remove()

    return stop


class _Adapter:
    """A transport adapter of requests whose exchanges are measured."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
        """Send one request."""
        begun = perf_counter()
        status = FAILED
        try:
            response = self._adapter.send(request, *arguments, **options)
            status = str(response.status_code)
            return response
        finally:
            _observe(request.method or "", request.url or "", status, perf_counter() - begun)


def _measured_adapters(original: Callable[..., Any], patch: _Patch) -> Callable[..., Any]:
    def get_adapter(*arguments: Any, **options: Any) -> Any:
        adapter = original(*arguments, **options)
        return adapter if isinstance(adapter, _Adapter) or not patch.active else _Adapter(adapter)

    return get_adapter


def _measured_send(original: Callable[..., Any], patch: _Patch) -> Callable[..., Any]:
    def send(self: Any, request: Any, *arguments: Any, **options: Any) -> Any:
        if not patch.active:
            return original(self, request, *arguments, **options)
        begun = perf_counter()
        status = FAILED
        try:
            response = original(self, request, *arguments, **options)
            status = str(response.status_code)
            return response
        finally:
            _observe(request.method, str(request.url), status, perf_counter() - begun)

    return send


def _measured_async_send(
    original: Callable[..., Awaitable[Any]], patch: _Patch
) -> Callable[..., Awaitable[Any]]:
    async def send(self: Any, request: Any, *arguments: Any, **options: Any) -> Any:
        if not patch.active:
            return await original(self, request, *arguments, **options)
        begun = perf_counter()
        status = FAILED
        try:
            response = await original(self, request, *arguments, **options)
            status = str(response.status_code)
            return response
        finally:
            _observe(request.method, str(request.url), status, perf_counter() - begun)

    return send


def _observe(method: str, url: str, status: str, seconds: float) -> None:
    labels = (method_label(method), _host_label(url))
    instruments = _instruments(os.environ.get(multiprocess.VARIABLE) or None)
    instruments.inc(catalog.CLIENT_REQUESTS, (*labels, status))
    instruments.observe(catalog.CLIENT_DURATION, labels, seconds)


@functools.lru_cache(maxsize=8)
def _instruments(directory: str | None) -> Instruments:
    path = None if directory is None else Path(directory)
    return process_state(path).instruments


def _host_label(url: str) -> str:
    """Return host and, where it is given, port; one label for all hosts past the first `MOST_HOSTS`."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    except ValueError:
        host = ""
    host = host or "unknown"
    if host in _hosts:
        return host
    with _lock:
        if len(_hosts) >= MOST_HOSTS:
            return OTHER_HOST
        _hosts.add(host)
    return host


def _needs(module: str, subject: str, *, extra: str | None) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise MissingDriverError(subject, module=module, extra=extra) from None
