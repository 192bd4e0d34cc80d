"""One small versioned document that all workers share: a forced state, maintenance."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakSet

from .store import decoded, encoded

if TYPE_CHECKING:
    from .ledger import Json
    from .reporter import Reporter
    from .store import Store

__all__ = ["MAINTENANCE", "Document", "SharedDocument", "circuit_key", "order"]

MAINTENANCE = "maintenance"
"""The key of the document that says whether maintenance is on."""

LONGEST = 1000 * 365 * 86_400_000
"""Milliseconds: a later end would be a number that no store can keep."""

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
        duration: seconds to its end; more than a thousand years are a thousand.
    """
    milliseconds = None if duration is None else min(LONGEST, math.ceil(duration * 1000))
    return {
        "key": key,
        "version": 0,
        "age": 0,
        "body": encoded(body),
        "duration": milliseconds,
        "restore": False,
        "what": what,
        "reason": reason,
        "actor": actor,
    }


class SharedDocument:
    """This process's copy of one document.

    The order that was given last holds, by the store's clock: one that reaches the store late says how long
    it was on its way. An order given while the store does not answer holds here at once and is put there when
    it answers, unless a later one is there; what a store that lost its data does not know is put back.

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
        self._known: _Order | None = None
        self._unsent: _Order | None = None
        self._ignored: str | None = None
        _documents.add(self)

    def put(
        self, body: Json, *, what: str, reason: str | None, actor: str, duration: float | None = None
    ) -> None:
        """Give an order that already holds in this process."""
        args = order(self._key, body, what=what, reason=reason, actor=actor, duration=duration)
        self._unsent = unsent = _Order(args, time.monotonic())
        self._reporter.submit(lambda store: self._send(store, unsent))

    def _send(self, store: Store | None, unsent: _Order) -> None:
        if store is None or self._unsent is not unsent:
            return  # sent when everything is learned anew, or overtaken by a later one
        sent = unsent.sent_now() | {"version": self._version}
        found = store.act("put", sent)["document"]
        if self._unsent is not unsent:
            return
        self._unsent = None
        if found["age"] < sent["age"]:
            self._take(found)  # somebody has given a later one
        else:
            self._know(found)

    def learn(self, found: Json | None) -> None:
        """Take what the store holds; None when it holds nothing."""
        unsent, known = self._unsent, self._known
        if unsent is not None:
            self._version = max(self._version, found["version"] if found else 0)
            self._reporter.submit(lambda store: self._send(store, unsent))
        elif found is None:
            self._put_back()
        elif known is None or found["version"] > self._version:
            self._take(found)
        elif not _same(found, known.said):  # the store has lost its data, or fell back to an old copy
            if found["age"] < known.age():
                self._take(found)
            else:
                self._put_back()

    def _take(self, found: Json) -> None:
        body = decoded(found["body"])
        if isinstance(body, dict):
            self._know(found)
            remaining = found["remaining"]
            self._apply(Document(body, found["actor"], None if remaining is None else remaining / 1000))
        elif found["body"] != self._ignored:
            self._ignored = found["body"]
            _logger.warning("the shared document '%s' cannot be read; it is ignored", self._key)

    def _know(self, found: Json) -> None:
        self._version = found["version"]
        said = {"body": found["body"], "actor": found["actor"], "duration": found["remaining"]}
        self._known = _Order(said, time.monotonic(), found["age"])

    def _put_back(self) -> None:
        known, version = self._known, self._version
        if known is None:
            return
        args = {
            "what": "restored",
            "reason": "the store had lost it",
            **known.sent_now(),
            "key": self._key,
            "version": version,
            "restore": True,
        }
        if args["duration"] == 0:
            return

        def put_back(store: Store | None) -> None:
            if store is not None and self._known is known:
                store.act("put", args)

        self._reporter.submit(put_back)

    def after_fork(self) -> None:
        """In a forked child: an order not sent yet is the parent's to give; here it is known."""
        unsent, self._unsent = self._unsent, None
        if unsent is not None:
            self._known, self._version = unsent, max(1, self._version)


@dataclass(frozen=True, slots=True)
class _Order:
    """An order, and when it was known here.

    Attributes:
        said: the order, with ``duration`` in milliseconds from then, None if it has no end.
        since: when that was, by this process's clock.
        older: how long before it was given, in milliseconds.
    """

    said: Json
    since: float
    older: int = 0

    def age(self) -> int:
        """Return the milliseconds since it was given."""
        return self.older + self._waited()

    def sent_now(self) -> Json:
        """Return it as the store's ``put`` takes it: with its age, and with what is left of its duration."""
        duration = self.said["duration"]
        left = None if duration is None else max(0, duration - self._waited())
        return self.said | {"age": self.age(), "duration": left}

    def _waited(self) -> int:
        return math.floor((time.monotonic() - self.since) * 1000)


def _same(found: Json, said: Json) -> bool:
    return bool(found["body"] == said["body"] and found["actor"] == said["actor"])


_documents: WeakSet[SharedDocument] = WeakSet()


def _after_fork() -> None:
    for document in list(_documents):
        document.after_fork()


os.register_at_fork(after_in_child=_after_fork)
