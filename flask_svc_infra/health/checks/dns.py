"""Can a host name be resolved?"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from ...errors import ConfigurationError
from .making import BuiltInCheck, Found, healthy

if TYPE_CHECKING:
    from ..model import HealthCheckFn

__all__ = ["check_dns"]

_LONGEST_NAME = 253


def check_dns(hostname: str) -> HealthCheckFn:
    """Make a check that resolves a host name as the program itself would: hosts file, search domains and all.

    The system's resolver takes no timeout; the registered one bounds the answer.

    Args:
        hostname: the name to resolve.

    Raises:
        ConfigurationError: it is no host name.
    """
    _require_name(hostname)

    def look(_: float) -> Found:
        found = socket.getaddrinfo(hostname, None, type=socket.SOCK_STREAM)
        return healthy(addresses=sorted({str(address[0]) for *_, address in found}))

    return BuiltInCheck(hostname, look)


def _require_name(hostname: Any) -> None:
    well_formed = isinstance(hostname, str) and 0 < len(hostname) <= _LONGEST_NAME
    if not well_formed or any(not (sign.isalnum() or sign in "-._") for sign in hostname):
        raise ConfigurationError(
            "check_dns was given a host name that is none; no check was made. "
            "Pass a name without a scheme, a port or a path, as in 'db.internal'."
        )
