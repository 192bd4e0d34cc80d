"""The store of one host: an SQLite file that all its processes share.

WAL, so that a process that is killed leaves no lock and no half transaction; each operation is a transaction
that takes the write lock at its beginning and waits for it 50 ms at most. Nothing is flushed to disk at each
change (``synchronous=NORMAL``): losing the last change in a power failure is what the epochs are for.

Its clock counts from the machine's start, so that setting the wall clock moves nothing. A file that comes
from before the last start keeps its documents and its journal; what was counted by the old clock goes.

What befalls files: one that was deleted or replaced would leave each process with a file of its own, so each
operation looks whether the path still leads to what was opened. A disk that is full, or no longer written to,
is found out by a write each second, by whoever comes first.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from .ledger import JOURNAL_LENGTH, Json, act
from .store import StoreError, decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SqliteStore"]

_T = TypeVar("_T")

_PATIENCE, _RETRY = 0.05, (0.0005, 0.002)
"""Seconds an operation waits for its turn, and between two tries. SQLite's own wait sleeps up to 25 ms at a
time, so that under load some have no turn: 35 in 10,000 operations of eight busy processes, with ours one."""
_PATIENCE_TO_OPEN, _RETRY_TO_OPEN = 1.0, (0.005, 0.02)
"""The same for opening the file, when no caller waits: of 32 workers that begin at once on a new file each
must have its turn."""
_WRITTEN_EVERY = 1000
"""Milliseconds after which a poll writes, to find out whether it can."""
_MODE = 0o660
"""Reasons and names are the service's business, not every user's; the umask takes from this."""
_LONGEST_WAL = 8_000_000
"""Bytes a WAL is cut to that has grown because somebody read for long."""
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_SPOILT = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)
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

_inherited: list[sqlite3.Connection] = []
"""Connections of parents: a forked child must neither use nor close them."""


class SqliteStore:
    """One file. Thread-safe; each process opens it for itself, at its first operation.

    Args:
        path: the file, absolute; its directory must exist and be writable.
        namespace: whose state it is: services that share a file do not see each other's.
    """

    shared = True

    def __init__(self, path: str, namespace: str) -> None:
        self.url = f"sqlite:///{path}"
        self._path = path
        self._namespace = namespace
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._files: tuple[tuple[int, int] | None, ...] = ()
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
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code not in _BUSY:
                    self._drop()
                cure = "; delete it, or name another" if code in _SPOILT else ""
                raise StoreError(f"{type(error).__name__}: {error}{cure}") from error

    def _act(self, operation: str, args: Json) -> Json:
        connection = self._connection
        if connection is None:
            connection = _patiently(self._open, _PATIENCE_TO_OPEN, _RETRY_TO_OPEN)
        elif self._files != self._found():
            self._leave()
            raise OSError("the file was deleted or replaced; it is opened anew")
        _patiently(lambda: connection.execute("BEGIN IMMEDIATE"), _PATIENCE, _RETRY)
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
        refused: OSError | None = None
        try:
            os.mknod(self._path, _MODE)  # not os.open: closing a file drops all locks this process has on it
        except FileExistsError:
            pass
        except OSError as error:
            refused = error  # says why, or the file system has no mknod
        before = self._found()[0]
        try:
            connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise refused or error from None
        try:
            self._prepare(connection)
            self._files = self._settled(before)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        ours = tables >= _TABLES
        if tables and not ours:
            raise OSError("the file is another application's database; name one of its own")
        boot = (_boot(),)
        key = (self._namespace, "meta", "boot")
        ready = ours and connection.execute(_GET, key).fetchone() == boot
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise OSError("its file system cannot share memory between processes; use a local disk")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA journal_size_limit={_LONGEST_WAL}")
        if ready:
            return
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        if connection.execute(_GET, key).fetchone() != boot:
            connection.execute(
                "DELETE FROM svc_infra_state WHERE namespace = ? AND section IN ('records', 'tallies')",
                (self._namespace,),
            )
            self._carry_over(connection)
            connection.execute(_PUT, (*key, *boot))
        connection.execute("COMMIT")

    def _carry_over(self, connection: sqlite3.Connection) -> None:
        """Let a document with an end last until it is lifted: its end was by the clock before."""
        table = _Table(connection, self._namespace)
        for key in table.names("documents"):
            found = table.get("documents", key)
            if isinstance(found, dict) and found.get("until"):
                table.put("documents", key, {**found, "until": 0})

    def _found(self) -> tuple[tuple[int, int] | None, ...]:
        """Say which files the path leads to: the file, its WAL and the WAL's index."""
        return tuple(_identity(self._path + suffix) for suffix in ("", "-wal", "-shm"))

    def _settled(self, before: tuple[int, int] | None) -> tuple[tuple[int, int] | None, ...]:
        found = self._found()
        if before not in (None, found[0]):
            raise OSError("the file was replaced while it was opened")
        return found

    def _leave(self) -> None:
        """Go from a file that was deleted or replaced, and take its WAL away from the path.

        Whoever opens the new file would read the old one's WAL into it.
        """
        opened, found = self._files, self._found()
        self._drop()
        if opened[0] == found[0]:
            return
        for suffix, was, is_now in zip(("-wal", "-shm"), opened[1:], found[1:], strict=True):
            if was is not None and was == is_now:
                Path(self._path + suffix).unlink(missing_ok=True)


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


def _patiently(do: Callable[[], _T], patience: float, retry: tuple[float, float]) -> _T:
    """Do *do*, again while another process holds the file, for as long as the patience lasts."""
    until = time.monotonic() + patience
    while True:
        try:
            return do()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() >= until:
                raise
        time.sleep(random.uniform(*retry))  # noqa: S311 - spreads load, guards nothing


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


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
    """Close every file: a child inherits SQLite's memory of the parent's locks, held or not, but no lock."""
    _forking.acquire()
    for store in list(_stores):
        lock = store._lock  # noqa: SLF001 - one module
        if lock.acquire(timeout=_LONGEST_WAIT_TO_FORK):
            _held.append(lock)
            store._drop()  # noqa: SLF001


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
