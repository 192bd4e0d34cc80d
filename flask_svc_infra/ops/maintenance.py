"""Maintenance: what was ordered, by code or by schedule, and what of it holds now.

Nothing here knows Flask or reads the environment: clocks are passed in. Nothing wakes up when a window begins
or ends: whoever looks next (a request, a scrape) notices.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar
from weakref import WeakSet

from ..errors import ConfigurationError
from .windows import Mode, Orders, Status, Window, as_duration, as_mode, as_retry_after, strictest

__all__ = ["Maintenance", "is_exempt"]

T = TypeVar("T")
Clock = Callable[[], float]

_EXEMPT = "_svc_infra_maintenance_exempt"
_lock = threading.Lock()
"""Held for a few assignments, never while anyone is told; renewed in a forked child."""


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603 - a child may have been forked while another thread held it
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class Watcher(Protocol):
    """Something that looks at the orders; told of every one."""

    def current(self) -> Window | None:
        """Look, and return the window in force."""


class Maintenance:
    """Switches maintenance on and off by code and by schedule, in this process.

    Of several windows in force the strictest holds, of equals the one ordered by hand. The environment's flag
    stands beside all of them: ``disable()`` does not lift it. Thread-safe.

    Args:
        clock: monotonic seconds, for durations.
        wall_clock: seconds since the epoch, for dates.
    """

    def __init__(self, *, clock: Clock = time.monotonic, wall_clock: Clock = time.time) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._orders = Orders()
        self._watches: WeakSet[Watcher] = WeakSet()
        self._share: Callable[[], None] | None = None

    def __repr__(self) -> str:
        orders = self._orders
        window = orders.in_force()
        text = "not ordered" if window is None else f"{window.mode} by '{window.actor}'"
        upcoming = orders.upcoming()
        return f"<Maintenance {text}" + (f", windows to come: {len(upcoming)}>" if upcoming else ">")

    def enable(
        self,
        *,
        mode: str = "read-only",
        reason: str | None = None,
        duration: float | None = None,
        retry_after: int | None = None,
        actor: str = "api",
    ) -> None:
        """Switch maintenance on, in place of what was switched on before.

        Args:
            mode: ``read-only`` lets GET, HEAD and OPTIONS pass, ``full`` lets nothing pass.
            reason: why; for the event, the log and a template of yours, never for the body.
            duration: seconds until it ends by itself; None: until ``disable()``.
            retry_after: seconds a refused client is told to wait; the app's default if None, cut at the end.
            actor: who or what does it, for the event and the log.

        Raises:
            ConfigurationError: an argument cannot work; what held before still holds.
        """
        now = self._clock()
        window = Window(
            mode=as_mode(mode),
            actor=actor,
            reason=reason,
            retry_after=as_retry_after(retry_after),
            clock=self._clock,
            starts=now,
            ends=math.inf if duration is None else now + as_duration(duration),
        )
        with _lock:
            old = self._orders
            self._orders = Orders(window, old.scheduled, old.lifted)
        self._tell()
        if self._share is not None:
            self._share()

    def disable(self, *, reason: str | None = None, actor: str = "api") -> None:
        """Lift what was switched on, and every scheduled window that has begun; those to come stay."""
        with _lock:
            self._orders = Orders(None, self._orders.upcoming(), (actor, reason))
        self._tell()
        if self._share is not None:
            self._share()

    def adopt(self, window: Window | None, *, reason: str | None, actor: str) -> None:
        """Take over what was ordered elsewhere: *window*, or None for what :meth:`disable` does."""
        with _lock:
            kept = self._orders.scheduled if window is not None else self._orders.upcoming()
            self._orders = Orders(window, kept, (actor, reason))
        self._tell()

    @property
    def ordered(self) -> Window | None:
        """What was switched on by hand and holds; the schedule is not looked at."""
        order = self._orders.order
        return None if order is None or order.over() else order

    def share(self, told: Callable[[], None]) -> None:
        """Have *told* called after each :meth:`enable` and :meth:`disable`."""
        self._share = told

    def schedule(
        self,
        starts: datetime,
        *,
        ends: datetime,
        mode: str = "read-only",
        reason: str | None = None,
        retry_after: int | None = None,
        actor: str = "schedule",
    ) -> Window:
        """Have maintenance from *starts* to *ends*, by the wall clock; return the window, for :meth:`cancel`.

        Raises:
            ConfigurationError: a date without a time zone, an end before its start or in the past, or an
                argument as in :meth:`enable` that cannot work. Nothing was scheduled.
        """
        for date in (starts, ends):
            if date.utcoffset() is None:
                raise ConfigurationError(
                    f"the maintenance window's date {date.isoformat()} has no time zone; nothing was "
                    "scheduled. Give an aware datetime, as in datetime.now(UTC)."
                )
        if ends <= starts or ends.timestamp() <= self._wall_clock():
            raise ConfigurationError(
                f"the maintenance window from {starts.isoformat()} to {ends.isoformat()} would never hold; "
                "nothing was scheduled. Let it end after its start and in the future."
            )
        window = Window(
            mode=as_mode(mode),
            actor=actor,
            reason=reason,
            retry_after=as_retry_after(retry_after),
            clock=self._wall_clock,
            starts=starts.timestamp(),
            ends=ends.timestamp(),
        )
        with _lock:
            old = self._orders
            scheduled = tuple(sorted((*old.scheduled, window), key=lambda w: w.starts))
            self._orders = Orders(old.order, scheduled, old.lifted)
        self._tell()
        return window

    def cancel(self, window: Window, *, reason: str | None = None, actor: str = "api") -> None:
        """Take a scheduled window away, begun or not; one that is over or cancelled makes no difference."""
        with _lock:
            old = self._orders
            kept = tuple(other for other in old.scheduled if other is not window)
            self._orders = Orders(old.order, kept, (actor, reason))
        self._tell()

    def exempt(self, target: T) -> T:
        """Let a view, or every view of a blueprint, pass during maintenance; returns what it was given.

        As a decorator it goes under the route: ``@app.post("/hooks")`` first, then this.
        """
        setattr(target, _EXEMPT, True)
        return target

    def status(self) -> Status:
        """Return what holds now, by order, by schedule or by the environment of an app it watches over."""
        found = [self.current(), *(watch.current() for watch in list(self._watches))]
        window = strictest(found)
        upcoming = self._orders.upcoming()
        if window is None:
            return Status(mode=Mode.OFF, scheduled=upcoming)
        return Status(
            mode=window.mode,
            reason=window.reason,
            actor=window.actor,
            remaining=window.remaining(),
            scheduled=upcoming,
        )

    def current(self) -> Window | None:
        """Return the strictest window in force, or None."""
        orders = self._orders
        if orders.order is None and not orders.scheduled:
            return None
        if any(window.over() for window in orders.all()):
            self._forget_past()
        return orders.in_force()

    @property
    def lifted(self) -> tuple[str, str | None]:
        """Who ended the last order by hand, and why."""
        return self._orders.lifted

    def watch(self, watch: Watcher) -> None:
        """Tell *watch*, for as long as it lives, of every order."""
        self._watches.add(watch)

    def _forget_past(self) -> None:
        with _lock:
            self._orders = self._orders.without_past()

    def _tell(self) -> None:
        for watch in list(self._watches):
            watch.current()


def is_exempt(target: object) -> bool:
    """Tell whether *target*, a view or a blueprint, was exempted."""
    if getattr(target, _EXEMPT, False) is True:
        return True
    return getattr(getattr(target, "view_class", None), _EXEMPT, False) is True
