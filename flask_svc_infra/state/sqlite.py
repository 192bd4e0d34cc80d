"""The store of one host: an SQLite file that all its processes share.

WAL, so that a process that is killed leaves no lock and no half transaction; each operation is a transaction
that takes the write lock at its beginning and waits for it 50 ms at most. Nothing is flushed to disk at each
change (``synchronous=NORMAL``): losing the last change in a power failure is what the epochs are for.

Its clock counts from the machine's start, so that setting the wall clock moves nothing. A file that comes
from before the last start keeps its documents and its journal; what was counted by the old clock goes.

A disk that is full, or no longer written to, is found out by a write each second, by whoever comes first.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

from .ledger import JOURNAL_LENGTH, Json, act
from .sqlite_file import BUSY, SharedFile, code_of
from .store import StoreError, decoded, encoded

__all__ = ["SqliteStore"]

_WRITTEN_EVERY = 1000
"""Milliseconds after which a poll writes, to find out whether it can."""
_SPOILT = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR})
"""Garbage, or tables that are not ours."""
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS svc_infra_state (
        namespace TEXT, section TEXT, name TEXT, value TEXT, PRIMARY KEY (namespace, section, name)
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS svc_infra_journal (number INTEGER PRIMARY KEY, namespace TEXT, entry TEXT)",
)
_TABLES = {"svc_infra_state", "svc_infra_journal"}
_GET = "SELECT value FROM svc_infra_state WHERE namespace = ? AND section = ? AND name = ?"
_PUT = "INSERT OR REPLACE INTO svc_infra_state VALUES (?, ?, ?, ?)"
_NAMES = "SELECT CAST(name AS TEXT) FROM svc_infra_state WHERE namespace = ? AND section = ? ORDER BY name"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SqliteStore:
    """One file. Thread-safe; each process opens it for itself, at its first operation.

    Args:
        path: the file, absolute; its directory must exist and be writable.
        namespace: whose state it is: services that share a file do not see each other's.
    """

    shared = True

    def __init__(self, path: str, namespace: str) -> None:
        self.url = f"sqlite:///{path}"
        self._namespace = namespace
        self._lock = threading.Lock()
        self._file = SharedFile(path, self._prepare, self._fill)
        _stores.add(self)

    def act(self, operation: str, args: Json) -> Json:
        """Do one operation in a transaction of its own.

        Raises:
            StoreError: the file cannot be written, is not ours or has gone, or another process holds it.
        """
        with self._lock:
            try:
                return self._act(operation, args)
            except (sqlite3.Error, OSError) as error:
                code = code_of(error)
                if code not in BUSY:
                    self._file.close()
                cure = "; delete it, or name another" if code in _SPOILT else ""
                raise StoreError(f"{type(error).__name__}: {error}{cure}") from error

    def _act(self, operation: str, args: Json) -> Json:
        connection = self._file.connection
        if connection is None:
            connection = self._file.open()
        elif self._file.moved():
            self._file.leave()
            raise OSError("the file was deleted or replaced; it is opened anew")
        self._file.begin(connection)
        try:
            table, now, before = _Table(connection, self._namespace), _now(), connection.total_changes
            reply = act(table, now, operation, decoded(encoded(args)))
            if operation == "sync" and connection.total_changes == before:
                table.write_if_due(now)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return reply

    def bell(self) -> None:
        """Return None: a file rings no bell."""

    def heard(self) -> None:
        """Do nothing."""

    def forget(self) -> None:
        """Leave the parent's connection to the parent."""
        self._lock = threading.Lock()
        self._file.forget()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def _prepare(self, connection: sqlite3.Connection) -> bool:
        """Say whether the file is ours and of this start of the machine."""
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        ours = tables >= _TABLES
        if tables and not ours:
            raise OSError("the file is another application's database; name one of its own")
        return ours and self._boot_of(connection) == _boot()

    def _fill(self, connection: sqlite3.Connection) -> None:
        for statement in _SCHEMA:
            connection.execute(statement)
        if self._boot_of(connection) == _boot():
            return  # another process came first
        connection.execute(
            "DELETE FROM svc_infra_state WHERE namespace = ? AND section IN ('records', 'tallies')",
            (self._namespace,),
        )
        self._carry_over(connection)
        connection.execute(_PUT, (self._namespace, "meta", "boot", _boot()))

    def _boot_of(self, connection: sqlite3.Connection) -> str | None:
        found = connection.execute(_GET, (self._namespace, "meta", "boot")).fetchone()
        return None if found is None else str(found[0])

    def _carry_over(self, connection: sqlite3.Connection) -> None:
        """Make each order an old one, and let one with an end last until it is lifted.

        Both were told by the clock before.
        """
        table = _Table(connection, self._namespace)
        for key in table.names("documents"):
            found = table.get("documents", key)
            if isinstance(found, dict):
                table.put("documents", key, {**found, "until": 0, "at": 0})


class _Table:
    """A shelf in an open transaction."""

    def __init__(self, connection: sqlite3.Connection, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace

    def get(self, section: str, name: str) -> Any:
        row = self._connection.execute(_GET, (self._namespace, section, name)).fetchone()
        return None if row is None else decoded(row[0])

    def put(self, section: str, name: str, value: Json | int) -> None:
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

    def write_if_due(self, now: int) -> None:
        """Write if nobody has for a second: a store that cannot write is not up."""
        last = self.get("meta", "written")
        if not isinstance(last, int) or not 0 <= now - last < _WRITTEN_EVERY:
            self.put("meta", "written", now)

    def journal(self, limit: int) -> list[Any]:
        rows = self._connection.execute(
            "SELECT entry FROM svc_infra_journal WHERE namespace = ? ORDER BY number DESC LIMIT ?",
            (self._namespace, limit),
        )
        entries = [decoded(row[0]) for row in rows]
        return [entry for entry in entries if isinstance(entry, dict)]


def _now() -> int:
    return int(time.monotonic() * 1000)


def _boot() -> str:
    """Name this start of the machine: as Linux does, else by when it was, give or take."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return f"{os.uname().nodename} {round((time.time() - time.monotonic()) / 600)}"


_stores: WeakSet[SqliteStore] = WeakSet()
_forking = threading.Lock()
_held: list[threading.Lock] = []
_LONGEST_WAIT_TO_FORK = 1.0


def _before_fork() -> None:
    """Close every file; one whose disk hangs is left to :meth:`SqliteStore.forget`."""
    _forking.acquire()
    for store in list(_stores):
        lock = store._lock  # noqa: SLF001 - one module
        if lock.acquire(timeout=_LONGEST_WAIT_TO_FORK):
            _held.append(lock)
            store._file.close()  # noqa: SLF001


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().release()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking  # noqa: PLW0603 - the parent's may be waited for by threads that are not here
    _held.clear()
    _forking = threading.Lock()
    for store in list(_stores):
        store.forget()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
