"""Maintenance as one switch for all workers: orders given here reach the others, theirs hold here.

What is shared is the order by hand. Schedules are in the code and so in every worker already; the
environment's flag is each process's own.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..mounts import mounts_of
from ..state.document import MAINTENANCE, SharedDocument
from ..state.reporter import Reporter
from .windows import Mode, Window, as_mode, as_retry_after

if TYPE_CHECKING:
    from flask import Flask

    from ..resilience import Breakers
    from ..state.document import Document
    from ..state.ledger import Json
    from ..state.store import Store
    from .maintenance import Maintenance

__all__ = ["SharedMaintenance", "add_shared_state", "body_of", "share_state"]


_logger = logging.getLogger("flask_svc_infra.state")
_PATIENCE = 0.06
"""Seconds a process's first request waits to learn what holds; a store that hangs costs it no more."""


def share_state(store: Store, breakers: Breakers, maintenance: Maintenance) -> Reporter:
    """Make *breakers* and *maintenance* one with those of the other workers; return what keeps them so."""
    reporter = Reporter(store)
    breakers.share(reporter)
    SharedMaintenance(maintenance, reporter)
    return reporter


def add_shared_state(app: Flask, reporter: Reporter, breakers: Breakers) -> None:
    """Have each process of *app* learn what holds before its first request, which begins the polls."""
    parts = mounts_of(app).parts
    parts["state.reporter"] = reporter
    parts["resilience.breakers"] = breakers
    met = reporter.meet

    def meet_the_store() -> None:
        met(_PATIENCE)

    app.before_request(meet_the_store)
    hooks = app.before_request_funcs[None]
    hooks.insert(0, hooks.pop())


class SharedMaintenance:
    """Keeps *maintenance* in step with the store.

    Args:
        maintenance: the switch.
        reporter: talks to the store.
    """

    def __init__(self, maintenance: Maintenance, reporter: Reporter) -> None:
        self._maintenance = maintenance
        self._document = SharedDocument(reporter, MAINTENANCE, self._apply)
        maintenance.share(self._ordered)
        reporter.join(self)

    def _ordered(self) -> None:
        window = self._maintenance.ordered
        actor, reason = self._maintenance.lifted
        if window is not None:
            actor, reason = window.actor, window.reason
        self._document.put(
            body_of(window, reason),
            what=Mode.OFF.value if window is None else window.mode.value,
            reason=reason,
            actor=actor,
            duration=None if window is None else window.remaining(),
        )

    def _apply(self, document: Document) -> None:
        body = document.body
        reason = body.get("reason") if isinstance(body.get("reason"), str) else None
        remaining = document.remaining
        window = None
        if body.get("mode") != Mode.OFF and (remaining is None or remaining > 0):
            try:
                window = _window(body, document.actor, reason, remaining)
            except ConfigurationError:
                _logger.warning("maintenance is ordered in a way this version does not know; it is ignored")
                return
        self._maintenance.adopt(window, reason=reason, actor=document.actor)

    def reports(self) -> list[Json]:
        """Return nothing: orders are not counted."""
        return []

    def counted(self, store: Store, report: Json, tally: Json) -> None:
        """Do nothing."""

    def learn(self, records: Json, documents: Json) -> None:
        """Take the order there is."""
        del records
        self._document.learn(documents.get(MAINTENANCE))


def body_of(window: Window | None, reason: str | None) -> Json:
    """Return the document's body for *window*, ordered for *reason*; None is off."""
    mode = Mode.OFF if window is None else window.mode
    return {
        "mode": mode.value,
        "reason": reason,
        "retry_after": None if window is None else window.retry_after,
    }


def _window(body: Json, actor: str, reason: str | None, remaining: float | None) -> Window:
    retry_after: Any = body.get("retry_after")
    return Window(
        mode=as_mode(body["mode"] if isinstance(body.get("mode"), str) else ""),
        actor=actor,
        reason=reason,
        retry_after=as_retry_after(retry_after),
        ends=math.inf if remaining is None else time.monotonic() + remaining,
    )
