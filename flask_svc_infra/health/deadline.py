"""What a run tells the code inside it: how long it may take, and what it belongs to.

ContextVars, not arguments, so that they reach a driver through user code that knows nothing of them: they
survive ``asyncio.to_thread``, tasks and decorators.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar

from .model import DEFAULT_TIMEOUT

__all__ = ["driver_timeout", "lane_threads", "registered_timeout", "running_lanes"]

registered_timeout: ContextVar[float | None] = ContextVar("flask_svc_infra_registered_timeout", default=None)
"""Seconds; set by the runner around each run, None outside of one."""

running_lanes: ContextVar[tuple[object, ...]] = ContextVar("flask_svc_infra_running_lanes", default=())
"""The lanes this code runs in, outermost first: a check that asks for one of them would wait for itself."""

lane_threads: ContextVar[list[threading.Thread]] = ContextVar("flask_svc_infra_lane_threads")
"""Threads that runs of this lane have started and left; the runner sets it around each run."""


def driver_timeout(explicit: float | None) -> float:
    """Return the seconds a driver may take: *explicit*, else the registered timeout, else 5.0."""
    if explicit is not None:
        return explicit
    registered = registered_timeout.get()
    return DEFAULT_TIMEOUT if registered is None else registered
