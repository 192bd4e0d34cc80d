"""One small versioned document that all workers share: a forced state, maintenance."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .store import decoded, encoded

if TYPE_CHECKING:
    from .ledger import Json
    from .reporter import Reporter
    from .store import Store

__all__ = ["MAINTENANCE", "Document", "SharedDocument", "circuit_key", "order"]

MAINTENANCE = "maintenance"
"""The key of the document that says whether maintenance is on."""

_logger = logging.getLogger("flask_svc_infra.state")


def circuit_key(name: str) -> str:
    """Return the key of the document that says how a person overrules circuit *name*."""
    return f"circuit:{name}"


@dataclass(frozen=True, slots=True)
class Document:
    """What somebody ordered.

    Attributes:
        body: the order.
        actor: who gave it.
        remaining: seconds to its end; None when it has none.
    """

    body: Json
    actor: str
    remaining: float | None


def order(
    key: str, body: Json, *, what: str, reason: str | None, actor: str, duration: float | None = None
) -> Json:
    """Return the arguments of the store's ``put`` for a new order.

    Args:
        key: which document.
        body: the order.
        what: the order in a word, for the journal.
        reason: why, as the person said.
        actor: who gives it.
        duration: seconds to its end.
    """
    milliseconds = None if duration is None else math.ceil(duration * 1000)
    return {
        "key": key,
        "version": 0,
        "body": encoded(body),
        "duration": milliseconds,
        "restore": False,
        "what": what,
        "reason": reason,
        "actor": actor,
    }


class SharedDocument:
    """This process's copy of one document.

    The newest version wins. An order given while the store does not answer holds here at once and is put
    there when it answers; what a store that lost its data does not know any more is put back.

    Args:
        reporter: talks to the store.
        key: which document.
        apply: takes each order of others; called in the reporter's thread.
    """

    def __init__(self, reporter: Reporter, key: str, apply: Callable[[Document], None]) -> None:
        self._reporter = reporter
        self._key = key
        self._apply = apply
        self._version = 0
        self._known: tuple[Json, float] | None = None  # what version _version was put with, and its end
        self._unsent: Json | None = None

    def put(
        self, body: Json, *, what: str, reason: str | None, actor: str, duration: float | None = None
    ) -> None:
        """Give an order that already holds in this process."""
        args = order(self._key, body, what=what, reason=reason, actor=actor, duration=duration)
        self._unsent = args
        self._reporter.submit(lambda store: self._send(store, args))

    def _send(self, store: Store | None, args: Json) -> None:
        if store is None or self._unsent is not args:
            return  # sent when everything is learned anew, or overtaken by a later one
        found = store.act("put", {**args, "version": self._version})["document"]
        self._unsent = None
        self._know(found)

    def learn(self, found: Json | None) -> None:
        """Take what the store holds; None when it holds nothing."""
        unsent = self._unsent
        if unsent is not None:
            self._version = max(self._version, found["version"] if found else 0)
            self._reporter.submit(lambda store: self._send(store, unsent))
        elif found is None or found["version"] < self._version:
            self._put_back()
        elif found["version"] > self._version:
            body = decoded(found["body"])
            if not isinstance(body, dict):
                _logger.warning("the shared document '%s' cannot be read; it is ignored", self._key)
                return
            self._know(found)
            remaining = found["remaining"]
            self._apply(Document(body, found["actor"], None if remaining is None else remaining / 1000))

    def _know(self, found: Any) -> None:
        self._version = found["version"]
        remaining = found["remaining"]
        ends = math.inf if remaining is None else time.monotonic() + remaining / 1000
        self._known = (found, ends)

    def _put_back(self) -> None:
        if self._known is None:
            return
        found, ends = self._known
        left = ends - time.monotonic()
        if left <= 0:
            return
        args = {
            "key": self._key,
            "version": found["version"],
            "body": found["body"],
            "restore": True,
            "duration": None if ends == math.inf else math.ceil(left * 1000),
            "what": "restored",
            "reason": "the store had lost it",
            "actor": found["actor"],
        }

        def put_back(store: Store | None) -> None:
            if store is not None:
                store.act("put", args)

        self._reporter.submit(put_back)
