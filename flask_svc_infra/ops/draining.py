"""Draining: readiness says 503 while the process goes on serving, so that nobody sends it anything new.

All the processes of one gunicorn read a few numbers in a shared file, mapped into memory before the workers
are forked. The master writes there when it is told to stop, and so does ``flask svc-infra drain`` from
outside; a probe reads it without a system call. The file lies in a directory only its owner can enter.

Times are of the system's monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import math
import mmap
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..mounts import Hold, mounts_of

if TYPE_CHECKING:
    from flask import Flask

__all__ = [
    "Board",
    "add_draining",
    "begin_here",
    "board",
    "is_draining",
    "publish_board",
    "remove_board",
    "start_drain",
]

PART = "ops.draining"
_REASON = "the process is draining: it was told to stop"
_SINCE, _SECONDS, _RETIRED, _FIELDS = 0, 1, 2, 3
_WIDTH = 8


class Board:
    """The numbers that the processes of one service share; in this process alone until they are in a file.

    Each is one aligned machine word, so a reader never sees half a write.
    """

    __slots__ = ("_cells",)

    def __init__(self, buffer: Any = None) -> None:
        self._cells = memoryview(bytearray(_FIELDS * _WIDTH) if buffer is None else buffer).cast("d")

    @property
    def since(self) -> float | None:
        """When draining began, in monotonic seconds; None when it has not."""
        return self._cells[_SINCE] or None

    @property
    def seconds(self) -> float:
        """How long the workers go on serving from then on."""
        return float(self._cells[_SECONDS])

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._cells[_SECONDS] = seconds

    @property
    def retired(self) -> float:
        """How often the master has replaced or dismissed workers while the service goes on."""
        return float(self._cells[_RETIRED])

    def retire(self) -> None:
        """Note that the master is about to replace or dismiss workers; theirs is no reason to drain."""
        self._cells[_RETIRED] += 1

    def begin(self) -> float:
        """Begin to drain, unless that has begun, and return since when."""
        if not self._cells[_SINCE]:
            self._cells[_SINCE] = time.monotonic()
        return float(self._cells[_SINCE])

    def end(self) -> None:
        """Let nobody wait any more, whoever is told to stop from now on, workers yet to be born included."""
        self._cells[_SINCE] = -math.inf


_board = Board()
_here = Board()
"""This worker's own: it was told to stop, perhaps it alone."""


def board() -> Board:
    """Return the board of this process's service."""
    return _board


def is_draining() -> bool:
    """Tell whether this process's service, or this worker alone, is draining."""
    return _board.since is not None or _here.since is not None


def begin_here() -> float:
    """Let this worker drain, unless it does, and return since when; its service's beginning counts."""
    return _board.since or _here.begin()


def add_draining(app: Flask) -> None:
    """Let *app*'s readiness say 503 while the process is draining; a second call makes no difference."""
    mounts = mounts_of(app)
    if PART not in mounts.parts:
        mounts.parts[PART] = True
        mounts.holds += (Hold("draining", frozenset({"ready"}), _reason),)


def publish_board(pid: int) -> Path:
    """Put this process's board into the shared file of the service whose master is *pid*.

    Call it in the master, before it forks. What an earlier process of that id left is replaced.

    Raises:
        OSError: the file cannot be made; the board stays this process's own.
    """
    global _board  # noqa: PLW0603 - one service per process
    path = _folder(make=True) / f"{pid}.drain"
    fresh = path.with_suffix(f".{os.getpid()}.new")
    with fresh.open("wb+") as file:
        file.truncate(_FIELDS * _WIDTH)
        _board = Board(mmap.mmap(file.fileno(), _FIELDS * _WIDTH))
    fresh.replace(path)
    return path


def remove_board(pid: int) -> None:
    """Remove the shared file of the service whose master was *pid*; who mapped it goes on with it."""
    _folder(make=False).joinpath(f"{pid}.drain").unlink(missing_ok=True)


def start_drain(pid: int | None = None) -> dict[int, float]:
    """Tell a service on this machine to drain: its readiness says 503 from now on, and it goes on serving.

    For a command that runs before the stop signal is sent, such as a preStop hook in the same container.
    The time between counts: a stop signal that comes after the drain's seconds have passed stops the
    workers at once.

    Args:
        pid: the master's process id; None where this user runs one service here.

    Returns:
        For the master that was told, the seconds its workers drain.

    Raises:
        RuntimeError: no such service runs here, or several do and none is named.
    """
    found: dict[int, Path] = {}
    for path in sorted(_folder(make=False).glob("*.drain")):
        master = int(path.stem)
        if not _alive(master):
            path.unlink(missing_ok=True)
        elif pid in (None, master):
            found[master] = path
    if not found:
        subject = "no service of this user runs here" if pid is None else f"process {pid} is no service here"
        raise RuntimeError(
            f"{subject} that can be told to drain; nothing was changed. Start it with "
            "gunicorn -c python:flask_svc_infra.gunicorn, and run this as the same user with the same TMPDIR."
        )
    if len(found) > 1:
        raise RuntimeError(
            f"{len(found)} services of this user run here, processes {', '.join(map(str, found))}; "
            "nothing was changed. Name one: --pid, or start_drain(pid)."
        )
    ((master, path),) = found.items()
    with path.open("rb+") as file:
        shared = Board(mmap.mmap(file.fileno(), _FIELDS * _WIDTH))
    shared.begin()
    return {master: shared.seconds}


def _reason() -> str | None:
    return _REASON if is_draining() else None


def _folder(*, make: bool) -> Path:
    """Return the directory of the shared files, which only this user can enter.

    Raises:
        PermissionError: somebody else made it, and could write what our workers would obey.
    """
    path = Path(tempfile.gettempdir()) / f"flask-svc-infra-{os.geteuid()}-{_namespace()}"
    if make:
        path.mkdir(mode=0o700, exist_ok=True)
    try:
        found = path.lstat()
    except FileNotFoundError:
        return path
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(
            f"'{path}' is not a directory that only this user can write; it is not used. "
            "Remove it, or set TMPDIR."
        )
    return path


def _namespace() -> str:
    """Name the system in which a process id means a process: containers may share a temporary directory."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return "0"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
