"""Kill what a test run started when the run ends, however it ends.

Run as ``python guardian.py``: reads ``+pid`` and ``-pid`` lines; at the end of its input (the test process
exited, or was killed) it kills every process still listed, with its children and its process group.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path


def stat(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/pid/stat`` after the command's name: state, parent, group, session, …"""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def processes() -> dict[int, list[str]]:
    """Return :func:`stat` of every process that lives; a zombie does not."""
    rows = {
        int(entry.name): stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()
    }
    return {number: fields for number, fields in rows.items() if fields and fields[0] not in "ZX"}


def tree(pid: int) -> list[int]:
    """Return *pid*'s living descendants and the members of its process group, *pid* itself first."""
    living = processes()
    found = [pid] if pid in living else []
    found += [number for number, fields in living.items() if int(fields[2]) == pid and number != pid]
    seen = {pid, *found}
    queue = [pid, *found]
    while queue:
        parent = queue.pop()
        for number, fields in living.items():
            if int(fields[1]) == parent and number not in seen:
                seen.add(number)
                found.append(number)
                queue.append(number)
    return found


def signal_tree(pid: int, signum: int) -> None:
    """Send *signum* to *pid*, its group and its descendants, until no new one turns up."""
    done: set[int] = set()
    while fresh := [number for number in tree(pid) if number not in done]:
        for number in fresh:
            with suppress(ProcessLookupError):
                os.kill(number, signum)
        done.update(fresh)


def main() -> None:
    """Follow the list on standard input; at its end kill what is left of it."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    listed: set[int] = set()
    for line in sys.stdin:
        pid = int(line[1:])
        (listed.add if line[0] == "+" else listed.discard)(pid)
    for pid in listed:
        signal_tree(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
