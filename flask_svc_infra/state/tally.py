"""What a fleet has counted of one circuit's calls, pure: failures in a row, and windows over the last calls.

``redis.lua`` says the same where the server counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .figures import LARGEST, whole

if TYPE_CHECKING:
    from .ledger import Json

__all__ = ["counted"]

BUCKETS = 60


def counted(found: Any, now: int, report: Json) -> tuple[Json, Json]:
    """Add one process's calls to the fleet's.

    Args:
        found: the tally as it is kept; what is none, or another epoch's, counts as nothing.
        now: the store's time in milliseconds.
        report: the calls.

    Returns:
        The tally to keep, and what it makes: ``run`` and the sums of each window.
    """
    tally = _read(found, report["epoch"])
    tally["run"] = report["run"] if report["succeeded"] else tally["run"] + report["run"]
    sums = []
    for window in report["windows"]:
        buckets, hits, total = _slide(tally["windows"].get(window["id"], []), now, window, report["calls"])
        tally["windows"][window["id"]] = buckets
        sums.append([hits, total])
    return tally, {"run": tally["run"], "windows": sums}


def _read(found: Any, epoch: int) -> Json:
    if (
        not isinstance(found, dict)
        or not whole(found.get("epoch"), epoch, epoch)
        or not whole(found.get("run"), 0, LARGEST)
        or not isinstance(found.get("windows"), dict)
    ):
        return {"epoch": epoch, "run": 0, "windows": {}}
    windows = {key: kept for key, value in found["windows"].items() if (kept := _buckets(value))}
    return {"epoch": epoch, "run": found["run"], "windows": windows}


def _buckets(value: Any) -> list[list[int]]:
    return [list(each) for each in value if _is_bucket(each)] if isinstance(value, list) else []


def _slide(kept: list[list[int]], now: int, window: Json, calls: int) -> tuple[list[list[int]], int, int]:
    """Move a window on: a list of at most some sixty ``[tick, hits, calls]``, and its sums.

    The last calls: a bucket takes at least one sixtieth of them, and the oldest goes as soon as the others
    hold them all. The last milliseconds: a bucket for each sixtieth.
    """
    buckets = kept
    last, span = window["last"], window["span"]
    tick = 0 if last else now * BUCKETS // span
    if calls > 0:
        full = bool(last) and bool(buckets) and buckets[-1][2] * BUCKETS >= last
        if buckets and not full and buckets[-1][0] == tick:
            buckets[-1][1] += window["hits"]
            buckets[-1][2] += calls
        else:
            buckets.append([tick, window["hits"], calls])
    total = sum(bucket[2] for bucket in buckets)
    while buckets and (total - buckets[0][2] >= last if last else buckets[0][0] <= tick - BUCKETS):
        total -= buckets.pop(0)[2]
    return buckets, sum(bucket[1] for bucket in buckets), total


def _is_bucket(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(whole(part, 0, LARGEST) for part in value)  # noqa: PLR2004
