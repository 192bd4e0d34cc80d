"""One app's view of maintenance, and the one place that tells of its changes."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..events import MaintenanceChanged, maintenance_changed, publish
from .windows import STRICTNESS, Mode, Window, strictest

if TYPE_CHECKING:
    from .maintenance import Maintenance

__all__ = ["Watch"]

_logger = logging.getLogger("flask_svc_infra.ops")
_lock = threading.Lock()
"""Held for a few assignments, never while anyone is told; renewed in a forked child."""


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603 - a child may have been forked while another thread held it
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class Watch:
    """One app's view of maintenance: the orders, and a flag of its own environment.

    Args:
        maintenance: whose orders hold.
        flag: tells whether the environment wants maintenance; called at each look.
        variable: the flag's name, for the event and the log.
        beside: another watch of the same app; ``mode`` is the stricter of the two.
    """

    def __init__(
        self,
        maintenance: Maintenance,
        *,
        flag: Callable[[], bool],
        variable: str,
        beside: Watch | None = None,
    ) -> None:
        self._maintenance = maintenance
        self._flag = flag
        self._variable = variable
        self._beside = beside
        self._by_flag = Window(mode=Mode.READ_ONLY, actor="env", reason=f"{variable} is on")
        self._seen: Window | None = None
        maintenance.watch(self)

    @property
    def maintenance(self) -> Maintenance:
        """Whose orders it watches."""
        return self._maintenance

    @property
    def variable(self) -> str:
        """The name of the environment's flag."""
        return self._variable

    @property
    def flagged(self) -> bool:
        """Whether the environment's flag is on now."""
        return self._flag()

    def current(self) -> Window | None:
        """Return the window in force, or None; if it is not that of the last look, tell."""
        window = self._maintenance.current()
        if self._flag():
            window = strictest([window, self._by_flag])
        if window is not self._seen:
            self._notice(window)
        return window

    @property
    def mode(self) -> Mode:
        """How much is refused now."""
        window = self.current()
        mode = Mode.OFF if window is None else window.mode
        return mode if self._beside is None else max(mode, self._beside.mode, key=STRICTNESS.__getitem__)

    def _notice(self, window: Window | None) -> None:
        with _lock:
            before, self._seen = self._seen, window
        if before is window:  # another thread noticed first, and tells
            return
        mode, (actor, reason) = Mode.OFF, self._end_of(before)
        if window is not None:
            mode, actor, reason = window.mode, window.actor, window.reason
        _logger.warning("maintenance is now '%s' (by %s: %s)", mode.value, actor, reason or "no reason given")
        event = MaintenanceChanged(mode=mode.value, reason=reason, actor=actor, at=time.time())
        publish(maintenance_changed, self, event)

    def _end_of(self, window: Window | None) -> tuple[str, str | None]:
        if window is self._by_flag:
            return "env", f"{self._variable} is off"
        if window is not None and window.over():
            return window.actor, "the window ended"
        return self._maintenance.lifted
