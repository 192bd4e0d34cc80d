"""The store of a fleet: Redis or Valkey, one script, the server's clock.

Timeouts are short and nothing is tried twice: the caller of this module is a thread that has nothing else to
do, and its next poll is the retry.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from .store import StoreError, decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from .ledger import Json

__all__ = ["RedisStore"]

TIMEOUT = 0.05
"""Seconds for one answer, and for connecting: a server that takes longer is treated as down. The URL may say
otherwise: ``?socket_timeout=0.2&socket_connect_timeout=0.5`` for one that is far away."""
_SENTINEL = "redis+sentinel"


class RedisStore:
    """One server, or the one that Sentinels name. Connects at the first operation.

    Operations are made by one thread at a time.

    Args:
        url: ``redis://``, ``rediss://`` (TLS), ``unix://``, each with what redis-py takes in it, or
            ``redis+sentinel://host:26379,host2:26379/service/0``.
        namespace: in every key, within braces, so that a cluster keeps them together.
    """

    shared = True

    def __init__(self, url: str, namespace: str) -> None:
        self.url = _public(url)
        self._connect = _connector(url)
        prefix = f"svc_infra:1:{{{namespace}}}"
        self._keys = [
            f"{prefix}:{part}" for part in ("revision", "records", "tallies", "documents", "journal")
        ]
        self._channel = f"{prefix}:bell"
        lua = files(__package__ or "flask_svc_infra.state").joinpath("redis.lua")
        self._script: str = lua.read_text(encoding="utf-8")
        self._client: redis.Redis | None = None
        self._act: Callable[..., Any] | None = None
        self._listener: Any = None

    def act(self, operation: str, args: Json) -> Json:
        """Do one operation.

        Raises:
            StoreError: no answer in time, or none of ours.
        """
        try:
            if self._act is None:
                self._client = self._connect()
                self._act = self._client.register_script(self._script)
            reply = decoded(self._act(keys=self._keys, args=[operation, encoded(args), self._channel]))
        except Exception as error:
            self.close()
            raise StoreError(_said(error)) from error
        if not isinstance(reply, dict):
            self.close()
            raise StoreError("the server's answer is not JSON of ours")
        return reply

    def bell(self) -> int | None:
        """Return the socket of a subscription; None while there is none to be had."""
        if self._client is None:
            return None
        try:
            if self._listener is None:
                listener: Any = self._client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
                listener.subscribe(self._channel)
                self._listener = listener
            # redis-py names no public way to wait for a subscription and for something else at once.
            sock = getattr(self._listener.connection, "_sock", None)
            number = -1 if sock is None else sock.fileno()
            return None if number < 0 else int(number)
        except Exception:
            self._listener = None  # the poll is the truth; the next wait tries again
            return None

    def heard(self) -> None:
        """Read what the subscription has to say.

        Raises:
            StoreError: it is cut.
        """
        listener = self._listener
        try:
            while listener is not None and listener.get_message(timeout=0) is not None:
                pass
        except Exception as error:
            self.close()
            raise StoreError(_said(error)) from error

    def forget(self) -> None:
        """Drop the parent's connections without a word to the server: they are the parent's too."""
        self._client = self._act = self._listener = None

    def close(self) -> None:
        """Close every connection; a server that failed over is looked up again."""
        client, listener = self._client, self._listener
        self._client = self._act = self._listener = None
        with suppress(Exception):
            if listener is not None:
                listener.close()
        with suppress(Exception):
            if client is not None:
                client.connection_pool.disconnect()
                client.close()


def _connector(url: str) -> Callable[[], redis.Redis]:
    """Return what makes the client.

    Raises:
        ImportError: redis-py is not installed.
        ValueError: the URL cannot be read.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    def options() -> dict[str, Any]:
        return {
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
        }

    parts = urlsplit(url)
    if parts.scheme != _SENTINEL:
        redis.ConnectionPool.from_url(url)  # refuses what it cannot read
        return lambda: redis.Redis.from_url(url, **options())
    hosts = [_host(each) for each in parts.netloc.rpartition("@")[2].split(",")]
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not (database or "0").isdigit():
        raise ValueError("a Sentinel URL ends in /service or /service/database")
    user, _, password = (unquote(part) for part in parts.netloc.rpartition("@")[0].partition(":"))

    def connect() -> redis.Redis:
        from redis.sentinel import Sentinel

        sentinel: Any = Sentinel(hosts, sentinel_kwargs=options())  # type: ignore[no-untyped-call]
        master: redis.Redis = sentinel.master_for(
            service, db=int(database or 0), username=user or None, password=password or None, **options()
        )
        return master

    return connect


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit("//" + text)
    if not parts.hostname:
        raise ValueError("a Sentinel has no host")
    return parts.hostname, parts.port or 26379


def _public(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _said(error: Exception) -> str:
    """Say what went wrong in the error's own words; redis-py puts no credentials into them."""
    return f"{type(error).__name__}: {error}"[:300]
