"""Whose a multiprocess file is: read from its name, and from whether that process still lives.

    counter_123.db                  prometheus_client's own, of process 123
    counter_123-x1f3a.db            the same after it was set aside, because 123 had died
    counter_123-98765-process.db    ours: process 123 that started at 98765, for metrics of no app in
    particular gauge_livesum_123-98765-1a2b.db ours, for the app whose tag is 1a2b counter_merged-1a2b.db
    what dead processes left, merged; never dead itself

A process id comes back; a process id with its start time does not. So a file of ours has one owner for ever,
and a new process can never write into, or be taken for, the file of a dead one.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = [
    "MERGED",
    "PLAIN",
    "PROCESS_TAG",
    "FileName",
    "is_alive",
    "is_merged",
    "merged_name",
    "own_name",
    "parse_name",
    "start_of",
]

MERGED = "merged"
PROCESS_TAG = "process"
"""The tag of metrics that belong to the process and not to one app."""
PLAIN = ""
"""The tag of files that prometheus_client itself wrote."""

_NAME = re.compile(
    r"(?P<prefix>counter|histogram|summary|gauge_[a-z]+)"
    r"_(?:(?P<owner>\d+|merged)(?:-(?P<start>\d+|x[0-9a-f]+))?(?:-(?P<tag>[a-z0-9]+))?|(?P<named>.+))\.db"
)


@dataclass(frozen=True, slots=True)
class FileName:
    """What a file's name says.

    Attributes:
        path: the file.
        prefix: type of its metrics, and a gauge's mode, as in ``gauge_livesum``.
        pid: its owner's process id; None for what was merged, and for a process that goes by another name
            (prometheus_client's ``process_identifier``): whether that one lives cannot be told.
        start: when the owner started, in the kernel's ticks; None when the name does not say.
        tag: the app it belongs to, `PROCESS_TAG`, or `PLAIN`.
    """

    path: Path
    prefix: str
    pid: int | None
    start: str | None
    tag: str

    @property
    def group(self) -> tuple[str, str]:
        """Files of one group may be merged into one."""
        return self.prefix, self.tag


def parse_name(path: Path) -> FileName | None:
    """Read a file's name; None when it is not a multiprocess file's."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    owner, start, tag = match["owner"], match["start"], match["tag"] or PLAIN
    if owner is None or owner == MERGED:
        return FileName(path, match["prefix"], None, None, tag)
    return FileName(path, match["prefix"], int(owner), start, tag)


def is_merged(name: FileName) -> bool:
    """Tell whether the file holds what dead processes left."""
    return name.pid is None and f"_{MERGED}" in name.path.name


def own_name(prefix: str, tag: str) -> str:
    """Return the name of this process' file."""
    pid = os.getpid()
    return f"{prefix}_{pid}-{start_of(pid) or _fallback_start(pid)}-{tag}.db"


def merged_name(prefix: str, tag: str) -> str:
    """Return the name of the file that dead processes' values are merged into."""
    return f"{prefix}_{MERGED}-{tag}.db" if tag else f"{prefix}_{MERGED}.db"


def is_alive(name: FileName) -> bool:
    """Tell whether the process that owns the file lives; in doubt it does."""
    if name.pid is None:
        return True
    try:
        os.kill(name.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives under another user
    except OverflowError:
        return False  # no system gives out such a process id
    if name.start is None or not name.start.isdigit():
        return not _is_zombie(name.pid)
    started = start_of(name.pid)
    return started is None or (started == name.start and not _is_zombie(name.pid))


def start_of(pid: int) -> str | None:
    """Return when a process started, in ticks since boot; None where the system does not say (no /proc)."""
    fields = _stat(pid)
    return fields[19] if fields else None


def _is_zombie(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] in ("Z", "X")


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third (state) on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()


@cache
def _fallback_start(_pid: int) -> str:
    """Return a number for this process where the kernel gives none; no earlier process had it."""
    return str(time.time_ns())
