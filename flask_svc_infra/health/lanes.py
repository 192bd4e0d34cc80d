"""What the runner keeps: a lane for each check, the run in it, the report at its end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .deadline import running_lanes
from .hysteresis import Standing

if TYPE_CHECKING:
    from .model import HealthCheck, HealthCheckResult

__all__ = ["CalledOff", "Drive", "Lane", "Report", "Run", "Within"]

Drive = Callable[[Awaitable[Any], float], Any]
"""Brings an awaitable to its end within so many seconds; raises TimeoutError when that is too late."""

Within = Callable[[], contextlib.AbstractContextManager[Any]]
"""Makes the context a check's function is called in, as ``app.app_context``."""


@dataclass(frozen=True, slots=True)
class Report:
    """A result and what a probe may want to know beside it.

    Attributes:
        check: the check as it was registered.
        result: what it counts as.
        finished: when it came to its verdict, on the runner's clock.
        at: the same in seconds since the epoch.
        duration: seconds it took, up to its timeout.
        reused: whether it is an earlier run's, taken from the cache.
        unfinished: whether the caller gave up on the run before its deadline, so that there is no verdict.
    """

    check: HealthCheck
    result: HealthCheckResult
    finished: float
    at: float
    duration: float
    reused: bool = False
    unfinished: bool = False


class CalledOff(Exception):  # noqa: N818 - read as a word: except CalledOff
    """Raised by a drive whose run was called off: it ends without a verdict, and nothing is announced."""


class Lane:
    """One registered check, its run in flight, and what is known of it. Written under the runner's lock."""

    __slots__ = ("check", "last", "removed", "run", "standing", "tended", "threads")

    def __init__(self, check: HealthCheck) -> None:
        self.check = check
        self.run: Run | None = None
        self.last: Report | None = None
        self.standing = Standing()
        self.removed = False
        self.tended = False
        self.threads: list[threading.Thread] = []


class Run:
    """One run of a check, shared by all who ask while it is in flight."""

    __slots__ = (
        "askers",
        "began",
        "chain",
        "counted",
        "deadline",
        "done",
        "lane",
        "late",
        "report",
        "watchers",
    )

    def __init__(self, lane: Lane, began: float) -> None:
        self.lane = lane
        self.chain = (*running_lanes.get(), lane)
        self.began = began
        self.deadline = began + lane.check.timeout
        self.done = threading.Event()
        self.report: Report | None = None
        self.late = False  # the report says that the deadline passed
        self.counted = 0  # how many failures it has been counted for
        self.askers = 1
        self.watchers: list[Callable[[], object]] = []
