"""Can the broker of a task queue (Celery, kombu) be reached?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...errors import ConfigurationError
from ..redaction import secrets_of
from .making import BuiltInCheck, Found, driver, healthy, not_configured
from .redis import look_at_redis

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..model import HealthCheckFn

__all__ = ["check_broker"]


def check_broker(url: str | None, *, timeout: float | None = None) -> HealthCheckFn:
    """Make a check that opens a connection and a channel, as a producer of tasks would.

    ``redis://`` and ``rediss://`` are asked as :func:`check_redis` asks them, since the broker's own client
    retries for a minute on a stopped server. Alternatives (``amqp://a;amqp://b``) are tried in turn.

    Args:
        url: what Celery calls ``broker_url``; None or empty is reported as "not configured".
        timeout: seconds for each step; None: the registered timeout.

    Raises:
        ConfigurationError: the URL is malformed or names no transport; it is not shown, since it may hold a
            password.
        MissingDriverError: kombu (or redis, for a Redis URL) is not installed.
    """
    name = "broker"
    if not url:
        return not_configured(name, "broker", timeout=timeout)
    return BuiltInCheck(name, _look_at(url), timeout=timeout, secrets=_secrets(url))


def _look_at(url: str) -> Callable[[float], Found]:
    if _scheme(url) in ("redis", "rediss"):
        return look_at_redis(url, "check_broker")
    driver("kombu", subject="check_broker()", extra="broker")
    if not _well_formed(
        url
    ):  # raised out here, so that the driver's error, which may repeat it, is not its context
        raise ConfigurationError(
            "check_broker was given a malformed URL or one of an unknown transport (not shown: it may hold a "
            "password); no check was made. Write it as Celery's broker_url: amqp://user:password@host:port//."
        )
    return lambda seconds: _open_channel(url, seconds)


def _open_channel(url: str, seconds: float) -> Found:
    from kombu.connection import Connection

    limits = {"read_timeout": seconds, "write_timeout": seconds} if _scheme(url) in _AMQP else {}
    opened: Any = Connection  # kombu is not typed
    with opened(url, connect_timeout=seconds, heartbeat=0, transport_options=limits) as connection:
        # No pause between its two tries: the next run is the retry.
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=seconds)
        connection.channel().close()
    return healthy()


_AMQP = ("amqp", "amqps", "pyamqp")


def _well_formed(url: Any) -> bool:
    from kombu.transport import resolve_transport

    try:
        for each in url.split(";"):
            scheme, parts = _scheme(each), urlsplit(each)
            if not scheme or parts.port == 0 or resolve_transport(scheme) is None:
                return False
    except (ValueError, TypeError, AttributeError, KeyError, ImportError):
        return False
    return True


def _scheme(url: Any) -> str:
    return url.partition("://")[0].casefold() if isinstance(url, str) and "://" in url else ""


def _secrets(url: str) -> list[str]:
    return [secret for each in url.split(";") for secret in secrets_of(each)]
