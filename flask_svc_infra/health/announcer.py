"""Tell listeners and the log how runs ended."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable

from ..events import Announcer, CheckFinished, HealthChanged, check_finished, health_changed, publish
from .aggregation import passes
from .model import HealthStatus

__all__ = ["HealthAnnouncer", "OnChange"]

OnChange = Callable[[HealthChanged], object]

_logger = logging.getLogger("flask_svc_infra.health")


class HealthAnnouncer:
    """Between the runner's decisions, which many threads make, and the outside."""

    def __init__(self, sender: object, on_change: OnChange | None) -> None:
        self._sender = weakref.ref(sender)  # a run, or the refresher, must not keep a registry alive
        self._on_change = on_change
        self._announcer: Announcer[CheckFinished | HealthChanged] = Announcer(self._tell)
        self.announce = self._announcer.announce
        self.renew = self._announcer.renew

    def note(self, event: CheckFinished, old: HealthStatus, message: str | None) -> None:
        """Put down that a run ended. Called with the runner's lock held, which makes the order."""
        self._announcer.note(event)
        if event.status is not old:
            self._announcer.note(HealthChanged(event.name, old, event.status, message, event.at))

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
