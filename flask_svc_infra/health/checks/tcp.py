"""Is somebody listening on a port?"""

from __future__ import annotations

import ipaddress
import socket
import time
from typing import TYPE_CHECKING, Any

from ...errors import ConfigurationError
from .making import BuiltInCheck, Found, healthy

if TYPE_CHECKING:
    from ..model import HealthCheckFn

__all__ = ["check_tcp", "connect", "require_address"]

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
    require_address("check_tcp", host, port)

    def look(seconds: float) -> Found:
        connect(host, port, time.monotonic() + seconds).close()
        return healthy()

    return BuiltInCheck(f"{host}:{port}", look, timeout=timeout)


def connect(host: str, port: int, deadline: float) -> socket.socket:
    """Return a connection to the first address of *host* that takes one before *deadline* (monotonic)."""
    error: OSError | None = None
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        try:
            return socket.create_connection((str(address[0]), port), timeout=left)
        except OSError as exc:
            error = exc
    raise error or OSError(f"no address for '{host}'")


def require_address(factory: str, host: Any, port: Any) -> None:
    """Refuse, on behalf of *factory*, what is no host and no port."""
    if not isinstance(host, str) or not _is_host(host):
        raise ConfigurationError(
            f"{factory} was given a host that is none; no check was made. Pass a host name or an address, "
            "without a scheme, a port or a path."
        )
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= _LARGEST_PORT:
        raise ConfigurationError(
            f"{factory} was given port {port!r} for '{host}'; no check was made. "
            "Pass a number from 1 to 65535."
        )


def _is_host(host: str) -> bool:
    if ":" in host:  # an IPv6 address, or a port that belongs into an argument of its own
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            return False
    return bool(host.strip()) and not any(sign in host for sign in "/@ \t\r\n")
