"""The store of a fleet: Redis or Valkey, one script, the server's clock.

Timeouts are short and nothing is tried twice: the caller of this module is a thread that has nothing else to
do, and its next poll is the retry.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .redis_urls import client_maker
from .store import StoreError, decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from .ledger import Json

__all__ = ["RedisStore"]


class RedisStore:
    """One server, or the one that Sentinels name. Connects at the first operation.

    Operations are made by one thread at a time.

    Args:
        url: ``redis://``, ``rediss://`` (TLS), ``unix://``, ``redis+sentinel://`` or ``rediss+sentinel://``:
            see :mod:`flask_svc_infra.state.redis_urls`.
        namespace: in every key, within braces, so that a cluster keeps them together.
    """

    shared = True

    def __init__(self, url: str, namespace: str) -> None:
        self.url = _public(url)
        self._connect = client_maker(url)
        prefix = f"svc_infra:1:{{{namespace}}}"
        self._keys = [
            f"{prefix}:{part}" for part in ("revision", "records", "tallies", "documents", "journal")
        ]
        self._channel = f"{prefix}:bell"
        lua = files(__package__ or "flask_svc_infra.state").joinpath("redis.lua")
        self._script: str = lua.read_text(encoding="utf-8")
        self._clients: list[redis.Redis] = []  # of the server; behind it, those of the Sentinels
        self._act: Callable[..., Any] | None = None
        self._listener: Any = None
        self._cut = False

    def act(self, operation: str, args: Json) -> Json:
        """Do one operation.

        Raises:
            StoreError: no answer in time, or none of ours.
        """
        try:
            if self._act is None:
                self._clients = self._connect()
                self._act = self._clients[0].register_script(self._script)
            reply = decoded(self._act(keys=self._keys, args=[operation, encoded(args), self._channel]))
        except Exception as error:
            reason = self._reason(error)
            self.close()
            raise StoreError(reason) from error
        if not isinstance(reply, dict):
            self.close()
            raise StoreError("the server's answer is not JSON of ours")
        return reply

    def _reason(self, error: Exception) -> str:
        """Say what *error* says, or what a Sentinel does: redis-py does not say why it asked in vain."""
        from redis.sentinel import MasterNotFoundError

        if isinstance(error, MasterNotFoundError):
            for sentinel in self._clients[1:]:
                try:
                    sentinel.ping()
                except Exception as refusal:
                    return f"no Sentinel names the server; {_said(refusal)}"
        return _said(error)

    def bell(self) -> int | None:
        """Return the socket of a subscription; None while there is none, and once when it was cut."""
        if not self._clients:
            return None
        if self._cut:
            self._cut = False
            return None
        try:
            if self._listener is None:
                listener: Any = self._clients[0].pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
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

        One that is cut is made anew; the next operation tells whether the store itself answers.
        """
        listener = self._listener
        if listener is None:
            return
        try:
            while listener.get_message(timeout=0) is not None:
                pass
        except Exception:
            self._listener, self._cut = None, True
            with suppress(Exception):
                listener.close()

    def forget(self) -> None:
        """Drop the parent's connections without a word to the server: they are the parent's too."""
        self._clients, self._act, self._listener, self._cut = [], None, None, False

    def close(self) -> None:
        """Close every connection; a server that failed over is looked up again."""
        clients, listener = self._clients, self._listener
        self.forget()
        with suppress(Exception):
            if listener is not None:
                listener.close()
        for client in clients:
            with suppress(Exception):
                client.connection_pool.disconnect()
                client.close()


def _public(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _said(error: Exception) -> str:
    """Say what went wrong in the error's own words; redis-py puts no credentials into them."""
    return f"{type(error).__name__}: {error}"[:300]
