"""A port of their own for the metrics, answered by one process of the host.

Every worker would like to answer; binding the port decides who does. The others ask again every other
second, so that when the one that answers dies the next takes over, and no scrape goes unanswered for longer
than that.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import weakref
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from ..errors import ConfigurationError
from .kept import kept

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Listener", "parse_address"]

_logger = logging.getLogger("flask_svc_infra.obs")
_RETRY = 2.0
"""Seconds between two attempts at a port that another process has; less than the usual scrape interval."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking DNS for this host's name, which may take seconds."""
        # A scrape that has just ended must not keep the port from the next process (TIME_WAIT).
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing: a scrape is no news."""


class Listener:
    """Answers scrapes on a port of its own, or waits until it can.

    Args:
        address: host and port.
        application: answers; whatever the path.
    """

    def __init__(self, address: tuple[str, int], application: WSGIApplication) -> None:
        self._address = address
        self._kind = _Server6 if ":" in address[0] else _Server
        self._application = application
        self._server: _Server | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="svc-infra-metrics", daemon=True)
        self._thread.start()
        _listeners.add(self)

    def stop(self) -> None:
        """Answer no more."""
        self._stopped.set()
        server = self._server
        if server is not None:
            server.shutdown()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        said = False
        while not self._stopped.is_set():
            try:
                server = self._kind(self._address, _Handler)
            except OSError as error:
                if not said:
                    said = True
                    _logger.info(
                        "metrics port %s:%s: %s; another worker answers there, or another program. "
                        "Trying again every %s s.",
                        *self._address,
                        error.strerror or error,
                        _RETRY,
                    )
                self._stopped.wait(_RETRY)
                continue
            server.set_app(self._application)
            self._server = server
            with server:
                if not self._stopped.is_set():
                    server.serve_forever(poll_interval=0.2)
            self._server = None

    def after_fork(self) -> None:
        """In a child: the thread is gone, and the port must not stay open because of this copy of it."""
        server, self._server = self._server, None
        if server is not None:
            server.socket.close()


def parse_address(address: object) -> tuple[str, int]:
    """Read ``host:port``.

    Raises:
        ConfigurationError: it is none.
    """
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:  # noqa: PLR2004 - ports end there
        raise ConfigurationError(
            f"listen is {address!r}, which is no address; nothing was mounted. Give host and port, as in "
            "'0.0.0.0:9102'."
        )
    return host.strip("[]"), int(port)


_listeners: weakref.WeakSet[Listener] = kept("listeners", weakref.WeakSet)


def _after_fork() -> None:
    for listener in list(_listeners):
        listener.after_fork()


os.register_at_fork(after_in_child=_after_fork)
