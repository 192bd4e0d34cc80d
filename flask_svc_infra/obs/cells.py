"""Where values live: rows of floats, in this process' memory or in a file that outlives it.

Both kinds offer ``values``, a row the request path indexes and adds to without a call, and ``new(key)``,
which gives the next place in it. A place never moves. Callers hold their own lock around read-modify-write.

The file is laid out as prometheus_client lays out its own (see :mod:`.dbfile`), so its collector can read it
too. A value there is one aligned eight-byte store into shared memory: it costs what the row in memory
costs, a reader never sees half of it, and it is in the file the moment it is made, so ``kill -9`` loses
nothing.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import weakref
from array import array
from collections.abc import Callable, MutableSequence
from pathlib import Path
from typing import Protocol, cast

from . import dbfile
from .kept import kept

__all__ = ["Cells", "MappedCells", "MemoryCells"]

_FIRST_SIZE = 16 * 1024
"""Bytes a file starts with; it doubles when full. Some 80 series."""


class Cells(Protocol):
    """A growing row of floats."""

    @property
    def values(self) -> MutableSequence[float] | None:
        """The row; None in a forked child until `reopen`, so that a stale write fails instead of lying."""

    def new(self, key: Callable[[], str]) -> int:
        """Return the place of a new value, 0.0 at first; *key* gives its name in a file."""
        ...

    def reopen(self) -> None:
        """Make the row usable in a forked child: the same places, every value 0.0."""


class MemoryCells:
    """A row in this process' memory."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: MutableSequence[float] | None = []

    def new(self, key: Callable[[], str]) -> int:  # noqa: ARG002 - a name is needed in a file only
        """Return the place of a new value."""
        values = self.values
        assert values is not None  # noqa: S101 - a forked child keeps its copy of the parent's memory
        values.append(0.0)
        return len(values) - 1

    def reopen(self) -> None:
        """Do nothing: a forked child has a copy of its own."""


class MappedCells:
    """A row in a file of this process, mapped into memory.

    The file is made at the first `new`. It is grown by mapping it again at twice the size; rows handed out
    before stay valid, for they are windows on the same pages. Space is allocated before it is mapped, so a
    full disk is an OSError here and not a SIGBUS in the middle of a request.

    Args:
        path: gives the file's path; called again in a forked child, which gets a file of its own.

    Raises:
        OSError: from `new` and `reopen`, when the file cannot be made or grown; nothing was changed.
    """

    __slots__ = ("__weakref__", "_map", "_path", "_places", "_size", "_used", "values")

    def __init__(self, path: Callable[[], Path]) -> None:
        self.values: MutableSequence[float] | None = None
        self._path = path
        self._map: mmap.mmap | None = None
        self._size = 0
        self._used = dbfile.HEADER_SIZE
        self._places = array("I")
        _mapped.add(self)

    def new(self, key: Callable[[], str]) -> int:
        """Return the place of a new value, which is in the file from now on."""
        if self.values is None:
            self.reopen()
        entry = dbfile.entry(key())
        self._grow(self._used + len(entry))
        assert self._map is not None  # noqa: S101 - _grow made it
        start, self._used = self._used, self._used + len(entry)
        # The entry before the length that makes it visible: a reader, or a kill, in between sees neither.
        self._map[start : self._used] = entry
        self._map[:4] = dbfile.pack_used(self._used)
        place = self._used // 8 - 2
        self._places.append(place)
        return place

    def reopen(self) -> None:
        """Open this process' file, with every place this row has had so far, each 0.0."""
        if self.values is not None:
            return
        inherited, used = self._map, self._used
        layout = bytearray(dbfile.HEADER_SIZE if inherited is None else inherited[:used])
        with memoryview(layout).cast("d") as row:
            for place in self._places:
                row[place] = 0.0
        layout[:4] = dbfile.pack_used(used)
        self._map, self._size = None, 0
        try:
            self._grow(used, content=bytes(layout))
        except OSError:
            self._map = inherited
            raise

    def _grow(self, needed: int, content: bytes = b"") -> None:
        if needed <= self._size:
            return
        size = max(self._size, _FIRST_SIZE)
        while size < needed:
            size *= 2
        path = self._path()
        descriptor = self._enlarge(path, size) if self._size else _create(path, size, content)
        try:
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._size = size
        self.values = cast("MutableSequence[float]", memoryview(self._map).cast("d"))

    def _enlarge(self, path: Path, size: int) -> int:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:  # somebody emptied the directory: what was counted goes into a new file
            assert self._map is not None  # noqa: S101 - a row that has a size has a map
            return _create(path, size, self._map[: self._used])
        try:
            _allocate(descriptor, self._size, size)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def forget(self) -> None:
        """In a forked child: leave the parent's file to the parent."""
        self.values = None


def _create(path: Path, size: int, content: bytes) -> int:
    """Make a whole file appear at once: nobody may find an empty one."""
    draft = path.with_name(f".{path.name}.new")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        _allocate(descriptor, 0, size)
        os.pwrite(descriptor, content, 0)
        draft.replace(path)
    except OSError:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    return descriptor


def _allocate(descriptor: int, start: int, end: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, end - start)
    else:  # macOS: sparse, so a full disk is found out later
        os.ftruncate(descriptor, end)


_mapped: weakref.WeakSet[MappedCells] = kept("mapped cells", weakref.WeakSet)


def _after_fork() -> None:
    for cells in list(_mapped):
        cells.forget()


os.register_at_fork(after_in_child=_after_fork)
