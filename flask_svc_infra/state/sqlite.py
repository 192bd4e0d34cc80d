"""The store of one host: an SQLite file that all its processes share.

WAL, so that readers and the writer do not wait for each other; a transaction takes the write lock at its
beginning and waits for it 50 ms at most. A process that is killed leaves no lock and no half transaction.
Nothing is flushed to disk at each change (``synchronous=NORMAL``): losing the last change in a power failure
is what the epochs are for.

Its clock counts from the machine's start, so that setting the wall clock moves nothing. A file that comes
from before the last start keeps its documents and its journal; what was counted by the old clock goes.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .ledger import JOURNAL_LENGTH, Json, act
from .store import StoreError, decoded, encoded

__all__ = ["SqliteStore"]

_PATIENCE = 0.05
_SCHEMA = """
CREATE TABLE IF NOT EXISTS svc_infra_state (
    namespace TEXT, section TEXT, name TEXT, value TEXT, PRIMARY KEY (namespace, section, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS svc_infra_journal (
    number INTEGER PRIMARY KEY, namespace TEXT, entry TEXT
);
"""
_GET = "SELECT value FROM svc_infra_state WHERE namespace = ? AND section = ? AND name = ?"
_PUT = "INSERT OR REPLACE INTO svc_infra_state VALUES (?, ?, ?, ?)"
_NAMES = "SELECT name FROM svc_infra_state WHERE namespace = ? AND section = ? ORDER BY name"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_inherited: list[sqlite3.Connection] = []
"""Connections of parents: a forked child must neither use nor close them."""


class SqliteStore:
    """One file. Thread-safe; each process opens it for itself, at its first operation.

    Args:
        path: the file; its directory must exist and be writable.
        namespace: whose state it is: services that share a file do not see each other's.
    """

    shared = True

    def __init__(self, path: str, namespace: str) -> None:
        self.url = f"sqlite:///{path}"
        self._path = path
        self._namespace = namespace
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def act(self, operation: str, args: Json) -> Json:
        """Do one operation in a transaction of its own.

        Raises:
            StoreError: the file cannot be written, or another process holds it.
        """
        with self._lock:
            try:
                connection = self._connection or self._open()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    reply = act(
                        _Table(connection, self._namespace), _now(), operation, decoded(encoded(args))
                    )
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as error:
                self._drop()
                raise StoreError(f"{type(error).__name__}: {error}") from error
            return reply

    def bell(self) -> None:
        """Return None: a file rings no bell."""

    def heard(self) -> None:
        """Do nothing."""

    def forget(self) -> None:
        """Leave the parent's connection alone, open: closing it would meddle with the parent's locks."""
        self._lock = threading.Lock()
        if self._connection is not None:
            _inherited.append(self._connection)
            self._connection = None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            self._begin_after_boot(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _begin_after_boot(self, connection: sqlite3.Connection) -> None:
        boot = _boot()
        connection.execute("BEGIN IMMEDIATE")
        found = connection.execute(_GET, (self._namespace, "meta", "boot")).fetchone()
        if found != (boot,):
            connection.execute(
                "DELETE FROM svc_infra_state WHERE namespace = ? AND section IN ('records', 'tallies')",
                (self._namespace,),
            )
            self._carry_over(connection)
            connection.execute(_PUT, (self._namespace, "meta", "boot", boot))
        connection.execute("COMMIT")

    def _carry_over(self, connection: sqlite3.Connection) -> None:
        """Let a document with an end last until it is lifted: its end was by the clock before."""
        table = _Table(connection, self._namespace)
        for key in table.names("documents"):
            found = table.get("documents", key)
            if isinstance(found, dict) and found.get("until"):
                table.put("documents", key, {**found, "until": 0})


class _Table:
    """A shelf in an open transaction."""

    def __init__(self, connection: sqlite3.Connection, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace

    def get(self, section: str, name: str) -> Any:
        row = self._connection.execute(_GET, (self._namespace, section, name)).fetchone()
        return None if row is None else decoded(row[0])

    def put(self, section: str, name: str, value: Json) -> None:
        self._connection.execute(_PUT, (self._namespace, section, name, encoded(value)))

    def names(self, section: str) -> list[str]:
        return [row[0] for row in self._connection.execute(_NAMES, (self._namespace, section))]

    def revision(self) -> int:
        value = self.get("meta", "revision")
        return value if isinstance(value, int) else 0

    def change(self, _now: int, entry: Json, /) -> None:
        wall = int(time.time() * 1000)
        # From the wall clock where it begins, so that a deleted file's numbers do not come again.
        self._connection.execute(
            _PUT, (self._namespace, "meta", "revision", str((self.revision() or wall) + 1))
        )
        self._connection.execute(
            "INSERT INTO svc_infra_journal (namespace, entry) VALUES (?, ?)",
            (self._namespace, encoded({**entry, "at": wall})),
        )
        self._connection.execute(
            "DELETE FROM svc_infra_journal WHERE namespace = ? AND number <= "
            "(SELECT number FROM svc_infra_journal WHERE namespace = ? "
            "ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (self._namespace, self._namespace, JOURNAL_LENGTH),
        )

    def journal(self, limit: int) -> list[Any]:
        rows = self._connection.execute(
            "SELECT entry FROM svc_infra_journal WHERE namespace = ? ORDER BY number DESC LIMIT ?",
            (self._namespace, limit),
        )
        return [decoded(row[0]) for row in rows]


def _now() -> int:
    return int(time.monotonic() * 1000)


def _boot() -> str:
    """Name this start of the machine: as Linux does, else by when it was, give or take."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return f"{os.uname().nodename} {round((time.time() - time.monotonic()) / 600)}"
