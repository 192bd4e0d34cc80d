"""An SQLite file that many processes share: how it is opened, waited for, and left.

One that was deleted or replaced would leave each process with a file of its own, so whoever uses it asks
first whether the path still leads to what was opened (:meth:`SharedFile.moved`). And SQLite must not be
carried through a fork: the child inherits its memory of the parent's locks, but none of the locks. With those
it would wait for ever for a transaction of the parent's, or have its WAL deleted by the next process that
takes itself for the last one. So a file is closed before a fork.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BUSY", "SharedFile", "code_of"]

BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
"""What SQLite says when it is another process's turn."""
_PATIENCE, _RETRY = 0.05, (0.0005, 0.002)
"""Seconds an operation waits for its turn, and between two tries. SQLite's own wait sleeps up to 25 ms at a
time: of the operations of eight processes without a pause 35 in 10,000 had no turn, with ours one."""
_PATIENCE_TO_OPEN, _RETRY_TO_OPEN = 1.0, (0.005, 0.02)
"""The same for opening the file, when no caller waits: of 32 workers that begin at once on a new file each
must have its turn."""
_MODE = 0o660
"""Reasons and names are the service's business, not every user's; the umask takes from this."""
_LONGEST_WAL = 8_000_000
"""Bytes a WAL is cut to that has grown because somebody read for long."""

_T = TypeVar("_T")
_Identity = tuple[int, int] | None

_inherited: list[sqlite3.Connection] = []
"""Connections of parents: a forked child must neither use nor close them."""


class SharedFile:
    """One file as this process sees it. Not thread-safe.

    Args:
        path: the file, absolute.
        prepare: looks at what was opened before anything is changed in it; raises what speaks against using
            it, and says whether it can be used as it is.
        fill: makes it so, in a transaction.

    Attributes:
        connection: to the file; None while it is closed.
    """

    def __init__(
        self,
        path: str,
        prepare: Callable[[sqlite3.Connection], bool],
        fill: Callable[[sqlite3.Connection], None],
    ) -> None:
        self._path = path
        self._prepare = prepare
        self._fill = fill
        self._opened: tuple[_Identity, ...] = ()
        self.connection: sqlite3.Connection | None = None

    def open(self) -> sqlite3.Connection:
        """Open the file, and make it where there is none.

        Raises:
            sqlite3.Error, OSError: it cannot be opened or written, or cannot be shared.
        """
        return _patiently(self._open, _PATIENCE_TO_OPEN, _RETRY_TO_OPEN)

    def _open(self) -> sqlite3.Connection:
        refused: OSError | None = None
        try:
            os.mknod(self._path, _MODE)  # not os.open: closing a file drops all locks this process has on it
        except FileExistsError:
            pass
        except OSError as error:
            refused = error  # says why, or the file system has no mknod
        before = _identity(self._path)
        try:
            connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise refused or error from None
        try:
            self._set_up(connection)
            self._opened = self._settled(before)
        except BaseException:
            connection.close()
            raise
        self.connection = connection
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        ready = self._prepare(connection)
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise OSError("its file system cannot share memory between processes; use a local disk")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA journal_size_limit={_LONGEST_WAL}")
        if not ready:
            connection.execute("BEGIN IMMEDIATE")
            self._fill(connection)
            connection.execute("COMMIT")

    def _settled(self, before: _Identity) -> tuple[_Identity, ...]:
        found = self._found()
        if before not in (None, found[0]):
            raise OSError("the file was replaced while it was opened")
        return found

    def _found(self) -> tuple[_Identity, ...]:
        """Say which files the path leads to: the file, its WAL and the WAL's index."""
        return tuple(_identity(self._path + suffix) for suffix in ("", "-wal", "-shm"))

    def moved(self) -> bool:
        """Say whether the path leads elsewhere now: the file, or its WAL, was deleted or replaced."""
        return self._opened != self._found()

    def leave(self) -> None:
        """Close a file that has moved, and take its WAL away from the path.

        Whoever opens the new file would read the old one's WAL into it.
        """
        opened, found = self._opened, self._found()
        self.close()
        if opened[0] == found[0]:
            return
        for suffix, was, now in zip(("-wal", "-shm"), opened[1:], found[1:], strict=True):
            if was is not None and was == now:
                Path(self._path + suffix).unlink(missing_ok=True)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Take the lock for a transaction that writes; wait for it 50 ms at most.

        Raises:
            sqlite3.OperationalError: another process has it.
        """
        _patiently(lambda: connection.execute("BEGIN IMMEDIATE"), _PATIENCE, _RETRY)

    def close(self) -> None:
        """Close the file."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def forget(self) -> None:
        """In a forked child: leave the parent's connection alone, open: closing it meddles with its locks."""
        if self.connection is not None:
            _inherited.append(self.connection)
            self.connection = None


def code_of(error: BaseException) -> int:
    """Return SQLite's own code of *error*, without its extension; 0 when it is not SQLite's."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF if isinstance(code, int) else 0


def _patiently(do: Callable[[], _T], patience: float, retry: tuple[float, float]) -> _T:
    """Do *do*, again while another process holds the file, for as long as *patience* lasts."""
    until = time.monotonic() + patience
    while True:
        try:
            return do()
        except sqlite3.OperationalError as error:
            if code_of(error) not in BUSY or time.monotonic() >= until:
                raise
        time.sleep(random.uniform(*retry))  # noqa: S311 - spreads load, guards nothing


def _identity(path: str) -> _Identity:
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
