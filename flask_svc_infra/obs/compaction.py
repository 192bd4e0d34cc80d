"""Merging what dead processes left, so that a scrape costs what the living cost.

Under an exclusive lock (``flock`` on ``.lock`` in the directory, which the kernel lifts when its holder
dies) each group of dead files becomes one merged file. The merged file names, behind its values, the files
it has absorbed; it replaces the old one in one rename, and only then are those files deleted. Whoever is
killed in between leaves files that every reader knows to be absorbed: nothing is counted twice, nothing is
lost, no counter goes back.

Scrapes read under the shared lock. Nothing is logged while a lock is held.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from . import dbfile
from .kept import kept
from .owners import MERGED, PLAIN, FileName, is_alive, merged_name, parse_name

if TYPE_CHECKING:
    from .dbfile import Value

__all__ = ["combine", "compact", "count_damage", "db_files", "locked", "read", "skipped_files"]

_logger = logging.getLogger("flask_svc_infra.obs")
_KEPT_GAUGES = ("gauge_min", "gauge_max", "gauge_sum", "gauge_mostrecent")
"""Gauges that by definition count the dead in. The live ones must not; ``gauge_all`` names who is gone."""
_damaged: dict[Path, int] = kept("damaged files", dict)


def skipped_files(directory: Path | None) -> int:
    """Return how many damaged files of *directory* this process has found so far."""
    return 0 if directory is None else _damaged.get(directory, 0)


def count_damage(path: Path) -> None:
    """Count one more damaged file."""
    _damaged[path.parent] = _damaged.get(path.parent, 0) + 1


@contextlib.contextmanager
def locked(directory: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the directory's lock.

    Raises:
        OSError: the lock cannot be had on this file system.
    """
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def db_files(directory: Path) -> list[FileName]:
    """Return the directory's multiprocess files, in a stable order."""
    names = (parse_name(directory / entry) for entry in sorted(os.listdir(directory)))  # noqa: PTH208 - quicker
    return [name for name in names if name is not None]


def compact(directory: Path, *, dead_pid: int | None = None) -> None:
    """Merge the files of processes that are dead, and remove their live gauges.

    Costs one look at the directory when nobody has died. Safe to call from several processes at once.

    Args:
        directory: the multiprocess directory.
        dead_pid: a process that is known to be dead, though its id may still be taken (a zombie).

    Raises:
        OSError: the directory cannot be locked or written; nothing is lost.
    """

    def is_dead(name: FileName) -> bool:
        if name.tag == PLAIN and "uwsgi" in sys.modules:
            return False  # its workers number themselves from 1; the number in the name is no process id
        return name.pid is not None and (name.pid == dead_pid or not is_alive(name))

    if not any(is_dead(name) for name in db_files(directory)):
        return
    complaints: list[str] = []
    with locked(directory, exclusive=True):
        groups: dict[tuple[str, str], list[FileName]] = {}
        for name in db_files(directory):
            if is_dead(name):
                owned = _set_aside(name, is_dead)
                if owned is not None:
                    groups.setdefault(owned.group, []).append(owned)
        for (prefix, tag), dead in groups.items():
            if prefix.startswith("gauge_") and prefix not in _KEPT_GAUGES:
                _unlink(name.path for name in dead)
            else:
                complaints += _merge(directory / merged_name(prefix, tag), prefix, dead)
    for complaint in complaints:
        _logger.warning("%s", complaint)


def _set_aside(name: FileName, is_dead: Callable[[FileName], bool]) -> FileName | None:
    """Give prometheus_client's file of a dead process a name that no new process can open.

    A process with the same id may have opened it just before: then the file is left to that one.
    """
    if name.start is not None:
        return name
    aside = name.path.with_name(f"{name.path.stem}-x{secrets.token_hex(8)}.db")
    try:
        name.path.rename(aside)
    except FileNotFoundError:
        return None
    owned = parse_name(aside)
    return owned if owned is not None and is_dead(owned) else None


def _merge(merged: Path, prefix: str, dead: list[FileName]) -> list[str]:
    values: dict[bytes, Value] = {}
    absorbed: set[str] = set()
    complaints = []
    if merged.exists():
        values, absorbed, damage = read(merged)
        if damage:
            complaints.append(_put_away(merged, damage))
            count_damage(merged)
    # Someone was killed before he deleted these; they must be gone before the list that names them is.
    _unlink(name.path for name in dead if name.path.name in absorbed)
    taken = []
    for name in dead:
        if name.path.name in absorbed:
            continue
        found, _, damage = read(name.path)
        combine(values, found, prefix)
        if damage:
            complaints.append(_put_away(name.path, damage))
            count_damage(name.path)
        taken.append(name.path)
    if taken:
        body = dbfile.build(values)
        draft = merged.with_name(f".{merged.name}.new")
        draft.write_bytes(body + "\n".join(path.name for path in taken).encode())
        draft.replace(merged)
        _unlink(taken)
        os.truncate(merged, len(body))  # the names have served: a scrape need not read them
    return complaints


def read(path: Path) -> tuple[dict[bytes, Value], set[str], str | None]:
    """Read a file: its values, the files it has absorbed, and what is wrong with it (None: nothing).

    What stands before a damage is kept: leaving it out would make counters go back.
    """
    values: dict[bytes, Value] = {}
    try:
        data = path.read_bytes()
        for raw, value in dbfile.entries(data):
            if raw not in values:
                dbfile.parse_key(raw)
            values[raw] = value
    except FileNotFoundError:
        return values, set(), None
    except dbfile.CorruptFileError as damage:
        return values, set(), str(damage)
    except OSError as error:
        return values, set(), f"it cannot be read ({error.strerror})"
    return values, _absorbed(data) if f"_{MERGED}" in path.name else set(), None


def _absorbed(data: bytes) -> set[str]:
    return {line for line in dbfile.tail(data).decode("ascii", "replace").split("\n") if line.endswith(".db")}


def combine(into: dict[bytes, Value], values: dict[bytes, Value], prefix: str) -> None:
    """Add one process' values to those of others, as their type wants it."""
    if not into:
        into.update(values)
        return
    for key, (value, at) in values.items():
        before = into.get(key)
        if before is None or math.isnan(before[0]):  # a gauge that was taken back
            into[key] = (value, at)
        elif math.isnan(value):
            continue
        elif prefix in ("gauge_min", "gauge_livemin"):
            into[key] = (min(before[0], value), 0.0)
        elif prefix in ("gauge_max", "gauge_livemax"):
            into[key] = (max(before[0], value), 0.0)
        elif prefix in ("gauge_mostrecent", "gauge_livemostrecent"):
            into[key] = (value, at) if at > before[1] else before
        else:
            into[key] = (before[0] + value, 0.0)


def _put_away(path: Path, damage: str) -> str:
    aside = path.with_name(path.name + ".corrupt")
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
    return (
        f"metric file '{path.name}' is damaged: {damage}; what stood before the damage still counts, "
        f"the rest is lost. It is kept as '{aside.name}'; remove it when you have looked at it."
    )


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
