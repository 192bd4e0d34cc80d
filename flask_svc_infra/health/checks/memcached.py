"""Does memcached answer? Spoken here, since its ``version`` command is one line out and one line back."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from .making import BuiltInCheck, Found, healthy, unhealthy
from .tcp import connect, require_address

if TYPE_CHECKING:
    from ..model import HealthCheckFn

__all__ = ["check_memcached"]

_PORT = 11_211
_LONGEST_LINE = 512


def check_memcached(host: str, port: int = _PORT, *, timeout: float | None = None) -> HealthCheckFn:
    """Make a check that asks memcached for its version. Needs no driver.

    Args:
        host: a name or an address.
        port: 1 to 65535.
        timeout: seconds for the whole run; None: the registered timeout.

    Raises:
        ConfigurationError: an argument cannot work.
    """
    require_address("check_memcached", host, port)
    return BuiltInCheck("memcached", lambda seconds: _version(host, port, seconds), timeout=timeout)


def _version(host: str, port: int, timeout: float) -> Found:
    deadline = time.monotonic() + timeout
    with connect(host, port, deadline) as connection:
        connection.sendall(b"version\r\n")
        line = _line(connection, deadline)
    word, _, version = line.decode("ascii", "replace").strip().partition(" ")
    if word == "VERSION":
        return healthy(version=version)
    return unhealthy(f"Expected VERSION, got {line[:80]!r}")


def _line(connection: socket.socket, deadline: float) -> bytes:
    """Read a line, all of it before *deadline*: a timeout for each read would let a drip go on for ever."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        chunk = connection.recv(_LONGEST_LINE)
        if not chunk:
            raise ConnectionError("the connection was closed before the answer came")
        line += chunk
    return line
