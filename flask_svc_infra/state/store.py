"""What a store is, and the store of one process.

A store does one operation of the ledger at a time, whole or not at all, by its own clock. It holds no opinion
and starts no thread: when it cannot answer it raises, and the caller goes on without it.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from typing import Any, Protocol

from .ledger import JOURNAL_LENGTH, Json, act

__all__ = ["MemoryStore", "Store", "StoreError", "decoded", "encoded"]


class StoreError(Exception):
    """The store did not do what it was asked: it is hung, dead, read-only, full, or not ours.

    The text names no credentials.
    """


class Store(Protocol):
    """Where the state that all workers share lives.

    Attributes:
        url: where it is, without credentials: for people.
        shared: whether anybody but this process can see it.
    """

    url: str
    shared: bool

    def act(self, operation: str, args: Json) -> Json:
        """Do one operation of :mod:`flask_svc_infra.state.ledger`.

        Raises:
            StoreError: it could not; whether it was done is not known.
        """
        ...

    def bell(self) -> int | None:
        """Return a file descriptor that becomes readable when another process has changed something.

        None where there is none: then polling must do. Asked before each wait.
        """
        ...

    def heard(self) -> None:
        """Take what made the bell readable, so that it can ring again.

        A bell that is gone is hung anew; whether the store answers, the next operation tells.
        """
        ...

    def forget(self) -> None:
        """In a forked child: leave the parent's connections alone and make new ones when needed."""
        ...

    def close(self) -> None:
        """Give back what it holds; the next operation opens it again."""
        ...


class MemoryStore:
    """The store of one process. Thread-safe."""

    url = "memory://"
    shared = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shelf = _Dictionaries()

    def act(self, operation: str, args: Json) -> Json:
        """Do one operation."""
        with self._lock:
            return act(self._shelf, int(time.monotonic() * 1000), operation, decoded(encoded(args)))

    def bell(self) -> None:
        """Return None: nobody else changes anything."""

    def heard(self) -> None:
        """Do nothing."""

    def forget(self) -> None:
        """Renew the lock: the parent's may have been held."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Do nothing."""


class _Dictionaries:
    """A shelf in memory. It keeps text, so that what is read is never what somebody else writes to."""

    def __init__(self) -> None:
        self._sections: dict[str, dict[str, str]] = {"records": {}, "tallies": {}, "documents": {}}
        self._revision = 0
        self._journal: deque[str] = deque(maxlen=JOURNAL_LENGTH)

    def get(self, section: str, name: str) -> Any:
        return decoded(self._sections[section].get(name))

    def put(self, section: str, name: str, value: Json) -> None:
        self._sections[section][name] = encoded(value)

    def names(self, section: str) -> list[str]:
        return list(self._sections[section])

    def revision(self) -> int:
        return self._revision

    def change(self, now: int, entry: Json, /) -> None:
        self._revision = (self._revision or now) + 1
        self._journal.appendleft(encoded({**entry, "at": int(time.time() * 1000)}))

    def journal(self, limit: int) -> list[Any]:
        return [decoded(text) for text in list(self._journal)[:limit]]


def encoded(value: Any) -> str:
    """Return *value* as JSON in UTF-8; what UTF-8 has no bytes for, half a surrogate pair, becomes ``?``."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode("utf-8")


def decoded(text: Any) -> Any:
    """Return what JSON *text* says, or None when it is none; bytes that are not UTF-8 become U+FFFD."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if not isinstance(text, str):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
