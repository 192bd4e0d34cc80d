"""Does Redis (or Valkey) answer PING?"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...errors import ConfigurationError
from ..forking import renew_in_children
from ..redaction import secrets_of
from .making import BuiltInCheck, Found, driver, healthy, not_configured, require_keep, unhealthy

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from ..model import HealthCheckFn

__all__ = ["check_redis", "look_at_redis"]

_SCHEMES = ("redis", "rediss", "unix")


def check_redis(
    url: str | None, *, timeout: float | None = None, keep_connection: bool = False
) -> HealthCheckFn:
    """Make a check that sends PING.

    Timeouts are short and retries off: the driver's defaults hang for a minute on a stopped server.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; None or empty is reported as "not configured".
        timeout: seconds for each step (connect, answer); None: the registered timeout.
        keep_connection: whether the connection stays open between runs. A connection the server closed
            meanwhile (a restart, an idle timeout) is opened anew in the same run.

    Raises:
        ConfigurationError: the URL is malformed; it is not shown, since it may hold a password.
        MissingDriverError: redis is not installed.
    """
    name = "redis"
    require_keep("check_redis", keep_connection)
    if not url:
        return not_configured(name, "Redis", timeout=timeout)
    look = look_at_redis(url, "check_redis", keep_connection=keep_connection)
    return BuiltInCheck(name, look, timeout=timeout, secrets=secrets_of(url))


def look_at_redis(url: str, factory: str, *, keep_connection: bool = False) -> Callable[[float], Found]:
    """Return what sends PING to *url* within so many seconds a step, on behalf of *factory*."""
    driver("redis", subject=f"{factory}()", extra="redis")
    if not _well_formed(
        url
    ):  # raised out here, so that the driver's error, which may repeat it, is not its context
        raise ConfigurationError(
            f"{factory} was given a malformed URL (not shown: it may hold a password); no check was made. "
            "Write redis://[user:password@]host[:port][/database], rediss:// for TLS, or unix:///path."
        )
    if keep_connection:
        return _Kept(url).ping

    def look(seconds: float) -> Found:
        client = _client(url, seconds)
        try:
            return _ping(client)
        finally:
            client.close()

    return look


def _client(url: str, seconds: float) -> Redis:
    from redis import from_url
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return from_url(
        url,
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        client_name="flask-svc-infra-check",
    )


def _ping(client: Redis) -> Found:
    return healthy() if client.ping() else unhealthy("PING returned False")


class _Kept:
    """One connection kept between runs; runs of one check never overlap, direct calls wait for each other."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._client: Redis | None = None
        self._seconds = 0.0
        renew_in_children(self)

    def ping(self, seconds: float) -> Found:
        from redis.exceptions import ConnectionError as RedisConnectionError
        from redis.exceptions import TimeoutError as RedisTimeoutError

        with self._lock:
            client = self._client if seconds == self._seconds else None
            fresh = client is None
            if client is None:
                client = self._open(seconds)
            try:
                return _ping(client)
            except RedisTimeoutError:
                client.close()
                raise
            except RedisConnectionError:
                client.close()
                if fresh:
                    raise
                return _ping(self._open(seconds))

    def renew(self) -> None:
        """Make a new lock in a forked child; the client itself opens a connection of the child's own."""
        self._lock = threading.Lock()

    def _open(self, seconds: float) -> Redis:
        if self._client is not None:
            self._client.close()
        self._client, self._seconds = _client(self._url, seconds), seconds
        return self._client


def _well_formed(url: Any) -> bool:
    from redis.connection import parse_url

    try:
        parts = urlsplit(url)
        parse_url(url)  # type: ignore[no-untyped-call]
        if parts.scheme == "unix":
            return bool(parts.path)
        database = parts.path.strip("/")
        return parts.scheme in _SCHEMES and parts.port != 0 and (not database or database.isdecimal())
    except (ValueError, TypeError, AttributeError):
        return False
