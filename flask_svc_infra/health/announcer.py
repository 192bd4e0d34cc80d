"""Tell listeners and the log how runs ended: in order, and never with a lock held.

Runs end in many threads. What happened is noted in the order in which it was decided; whoever comes first
announces, and goes on until nothing is left, so that two threads cannot overtake each other.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable

from ..events import CheckFinished, HealthChanged, check_finished, health_changed, publish
from .aggregation import passes
from .model import HealthStatus

__all__ = ["Announcer", "OnChange"]

OnChange = Callable[[HealthChanged], object]

_logger = logging.getLogger("flask_svc_infra.health")


class Announcer:
    """The queue between the runner's decisions and the outside."""

    def __init__(self, sender: object, on_change: OnChange | None) -> None:
        self._sender = weakref.ref(sender)  # a run, or the refresher, must not keep a registry alive
        self._on_change = on_change
        self._noted: deque[CheckFinished | HealthChanged] = deque()
        self._speaking = threading.Lock()

    def note(self, event: CheckFinished, old: HealthStatus, message: str | None) -> None:
        """Put down that a run ended. Called with the runner's lock held, which makes the order."""
        self._noted.append(event)
        if event.status is not old:
            self._noted.append(HealthChanged(event.name, old, event.status, message, event.at))

    def announce(self) -> None:
        """Announce what is noted, unless another thread is at it: that one will take this along."""
        while self._noted and self._speaking.acquire(blocking=False):
            try:
                while True:
                    try:
                        event = self._noted.popleft()
                    except IndexError:
                        break
                    self._tell(event)
            finally:
                self._speaking.release()

    def renew(self) -> None:
        """Forget, in a forked child, who was speaking in its parent and what about."""
        self._noted.clear()
        self._speaking = threading.Lock()

    def _tell(self, event: CheckFinished | HealthChanged) -> None:
        sender = self._sender()
        if sender is None:
            return
        if isinstance(event, CheckFinished):
            publish(check_finished, sender, event)
            return
        # As loud at its end as at its beginning: who was told of a failure is told of the recovery.
        failed_before = not passes(event.old) and event.old is not HealthStatus.UNKNOWN
        level = logging.WARNING if failed_before or not passes(event.new) else logging.INFO
        _logger.log(
            level,
            "check '%s' is %s, was %s%s",
            event.name,
            event.new,
            event.old,
            f": {' '.join(event.message.split())}" if event.message else "",  # one record, one line
            extra={"check": event.name, "old": str(event.old), "new": str(event.new)},
        )
        publish(health_changed, sender, event)
        if self._on_change is not None:
            try:
                self._on_change(event)
            except Exception:
                _logger.exception("on_change raised for check '%s'; the change stands", event.name)
