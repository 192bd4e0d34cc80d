"""Metrics of several worker processes in one directory: make it, keep it, clear up after the dead.

``PROMETHEUS_MULTIPROC_DIR`` names the directory. prometheus_client decides by it at import, once, how it
keeps values; :func:`prepare` therefore has to run before anything imports prometheus_client, and importing
this module does not. This package's own metrics decide when an app is set up.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

from . import compaction
from .owners import is_alive, parse_name, start_of

__all__ = ["VARIABLE", "directory_in_use", "prepare", "warn_if_late", "worker_exited"]

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_logger = logging.getLogger("flask_svc_infra.obs")
_OURS = ".made-by-flask-svc-infra"
"""Marks a directory that was made here, and so is removed at the end."""
_warned: set[str] = set()


def prepare(directory: str | os.PathLike[str] | None = None) -> str:
    """Make the directory ready for a new set of workers and point ``PROMETHEUS_MULTIPROC_DIR`` at it.

    Call it in the process that will fork the workers, before prometheus_client is imported (a gunicorn conf
    file is the place). Files of processes that live are left alone, so that a second master may take over
    from a first one; everything dead is removed, which starts the counters of a fresh service at zero.

    Args:
        directory: the directory; None takes the environment's, and where that has none makes one (in
            /dev/shm where it can be written: these files need no disk) that is removed when this process
            exits.

    Returns:
        The directory.

    Raises:
        OSError: the directory cannot be made or written.
    """
    chosen = directory or os.environ.get(VARIABLE)
    path = Path(chosen) if chosen else _make()
    path.mkdir(parents=True, exist_ok=True)
    _empty(path)
    if (path / _OURS).exists():
        atexit.register(_remove, path, os.getpid())
    os.environ[VARIABLE] = str(path)
    warn_if_late()
    return str(path)


def worker_exited(pid: int) -> None:
    """Clear up after a worker that has exited: its gauges go, its counters are merged into one file.

    Call it from gunicorn's ``child_exit``. Never raises: a scrape does the same later.
    """
    path = directory_in_use()
    if path is None:
        return
    try:
        compaction.compact(path, dead_pid=pid)
        if compaction.skipped_files(path):  # this process answers no scrape: it has to write the count down
            from .collectors import process_state

            process_state(path).refresh()
    except OSError:
        _logger.exception(
            "the metric files of worker %s could not be merged; the next scrape tries again", pid
        )


def directory_in_use() -> Path | None:
    """Return the directory the environment names, made if it is missing; None outside multiprocess mode.

    Raises:
        OSError: it cannot be made.
    """
    named = os.environ.get(VARIABLE) or os.environ.get(VARIABLE.lower())
    if not named:
        return None
    path = Path(named)
    path.mkdir(parents=True, exist_ok=True)
    return path


def warn_if_late() -> bool:
    """Tell whether prometheus_client was imported before the variable was set, and log the cure once."""
    values = sys.modules.get("prometheus_client.values")
    if values is None or not os.environ.get(VARIABLE) or values.ValueClass._multiprocess:  # noqa: SLF001
        return False
    if "late" not in _warned:
        _warned.add("late")
        _logger.warning(
            "%s was set after prometheus_client was imported; metrics made with prometheus_client itself "
            "stay within each worker, and a scrape shows one worker's. Set it before Python starts, or use "
            "gunicorn -c python:flask_svc_infra.gunicorn without importing the app in the conf file.",
            VARIABLE,
        )
    return True


def _make() -> Path:
    shared = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    parent = shared if os.access(shared, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    _sweep(parent)
    path = Path(tempfile.mkdtemp(prefix="prometheus-", dir=parent))
    (path / _OURS).write_text(" ".join(_identity(os.getpid())), encoding="ascii")
    return path


def _identity(pid: int) -> tuple[str, str, str]:
    """Say which process this is, for ever: its id, its start, and the namespace in which the id means it."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = "?"
    return str(pid), start_of(pid) or "?", namespace


def _sweep(parent: Path) -> None:
    """Remove the directories here that masters of this user left when they were killed."""
    for mark in parent.glob(f"prometheus-*/{_OURS}"):
        try:
            left_by = mark.read_text(encoding="ascii").split()
            ours = mark.stat().st_uid == os.geteuid()
        except (OSError, UnicodeDecodeError):
            continue
        if not ours or "?" in left_by or len(left_by) != len(_identity(0)):
            continue
        now = _identity(int(left_by[0]))
        if now[2] == left_by[2] and now[1] != left_by[1]:
            _remove_dead(mark.parent)


def _remove(path: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked worker inherits the atexit entry
        _remove_dead(path)


def _remove_dead(path: Path) -> None:
    names = (parse_name(child) for child in path.glob("*.db"))
    if not any(name and name.pid not in (None, os.getpid()) and is_alive(name) for name in names):
        shutil.rmtree(path, ignore_errors=True)  # else a second master has taken it over


def _empty(path: Path) -> None:
    names = [name for child in path.glob("*.db") if (name := parse_name(child))]
    if "prometheus_client" not in sys.modules:
        # In a container a restarted master has the process id of the one before: that one's are not its own.
        for name in names:
            if name.pid == os.getpid() and name.start is None:
                name.path.unlink(missing_ok=True)
        names = [name for name in names if name.path.exists()]
    living = any(name.pid is not None and is_alive(name) for name in names)
    for name in names:
        if not (living if name.pid is None else is_alive(name)):
            name.path.unlink(missing_ok=True)
    if not living:
        for leftover in (*path.glob("*.corrupt"), *path.glob(".*.new")):
            leftover.unlink(missing_ok=True)
