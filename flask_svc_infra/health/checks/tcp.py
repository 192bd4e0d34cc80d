"""Is somebody listening on a port?"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from ...errors import ConfigurationError
from .making import BuiltInCheck, Found, healthy

if TYPE_CHECKING:
    from ..model import HealthCheckFn

__all__ = ["check_tcp"]

_LARGEST_PORT = 65_535


def check_tcp(host: str, port: int, *, timeout: float | None = None) -> HealthCheckFn:
    """Make a check that opens a TCP connection and closes it again.

    Every address of the host is tried in turn, all within the one timeout.

    Args:
        host: a name or an address.
        port: 1 to 65535.
        timeout: seconds; None: the registered timeout.

    Raises:
        ConfigurationError: an argument cannot work.
    """
    _require_address(host, port)
    return BuiltInCheck(f"{host}:{port}", lambda seconds: _connect(host, port, seconds), timeout=timeout)


def _require_address(host: Any, port: Any) -> None:
    if not isinstance(host, str) or not host.strip() or any(sign in host for sign in "/@ \t\r\n"):
        raise ConfigurationError(
            "check_tcp was given a host that is none; no check was made. Pass a host name or an address, "
            "without a scheme or a path."
        )
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= _LARGEST_PORT:
        raise ConfigurationError(
            f"check_tcp was given port {port!r} for '{host}'; no check was made. "
            "Pass a number from 1 to 65535."
        )


def _connect(host: str, port: int, timeout: float) -> Found:
    deadline = time.monotonic() + timeout
    error: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        with socket.socket(family, kind, protocol) as connection:
            connection.settimeout(remaining)
            try:
                connection.connect(address)
            except OSError as exc:
                error = exc
                continue
            return healthy()
    raise error or OSError(f"no address for '{host}'")
