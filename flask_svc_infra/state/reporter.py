"""The one thread of a process that talks to its store.

Nobody else waits for the store: callers append to a bounded queue and ring. A round does the queued jobs,
then, when something is due, one ``sync``: it reports what was counted and, if the revision has changed,
learns all there is. Due is: the poll (a second, jittered), the store's bell, or a report that cannot wait;
the last two at most every 10 ms, so that a storm costs a hundred commands a second and not thousands.

While the store does not answer, jobs are told so at once and the poll is the only try. When it answers again
everything is learned anew: the polls' jitter is what keeps a fleet from doing so at one moment.

The thread begins at the first job or ring, never at import, and again in a forked child. Under gevent's
patches it is a greenlet. It ends, and the store is closed, when the app that it served is gone.
"""

from __future__ import annotations

import logging
import os
import random
import selectors
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from ..events import StoreChanged, publish, store_changed
from .store import StoreError

if TYPE_CHECKING:
    from .ledger import Json
    from .store import Store

__all__ = ["Job", "Member", "Reporter"]

POLL = (1.0, 1.1)
"""Seconds between two polls, at least and at most."""
PACE = 0.01
LONGEST_QUEUE = 1024
"""Jobs are rare (a trip, a trial, a person's order): as many at once are a store that hangs."""

_logger = logging.getLogger("flask_svc_infra.state")

Job = Callable[["Store | None"], None]
"""Something to do with the store; given None when the store does not answer, or did not answer this job."""


class Member(Protocol):
    """Someone who shares state. Its methods are called in the reporter's thread."""

    def reports(self) -> list[Json]:
        """Return what was counted since the last time."""
        ...

    def counted(self, store: Store, report: Json, tally: Json) -> None:
        """Take what a report of :meth:`reports` has made of the fleet's count."""
        ...

    def learn(self, records: Json, documents: Json) -> None:
        """Take all there is in the store: it has changed, or was not known."""
        ...


class Reporter:
    """Talks to *store* for this process. Thread-safe.

    Args:
        store: the store.

    Attributes:
        store: the store.
        up: whether it answered the last time; False until it has answered once.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._members: tuple[Member, ...] = ()
        self._ignored: frozenset[str] = frozenset()
        self._begin()
        _reporters.add(self)

    def _begin(self) -> None:
        self.up = False
        self._down_since: float | None = None
        self._seen = -1
        self._jobs: deque[Job] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ears: tuple[socket.socket, socket.socket] | None = None
        self._met = threading.Event()
        self._rung = False
        self._due = True
        self._belled = False
        self._stopped = False
        self._next_poll = self._last_sync = 0.0

    # For everybody

    def join(self, member: Member) -> None:
        """Let *member* share state, for good."""
        with self._lock:
            self._members = (*self._members, member)
        self.relearn()

    def submit(self, job: Job) -> None:
        """Have *job* done; when the queue is full it is told at once that the store does not answer."""
        if self._stopped or len(self._jobs) >= LONGEST_QUEUE:
            job(None)
            return
        self._jobs.append(job)
        self._wake()

    def ring(self) -> None:
        """Have a sync made soon: there is something to report."""
        self._due = True
        self._wake()

    @property
    def met(self) -> bool:
        """Whether it is known of the store whether it answers."""
        return self._met.is_set()

    @property
    def down_for(self) -> float | None:
        """Seconds since the store was first found not to answer; None while it answers."""
        since = self._down_since
        return None if since is None else time.monotonic() - since

    def relearn(self) -> None:
        """Have everything told again, soon: there is someone who has not heard it."""
        self.unlearn()
        if self._thread is not None:
            self.ring()

    def unlearn(self) -> None:
        """Have everything told again by the next sync; for members, while they report."""
        self._seen = -1

    def start(self) -> None:
        """Begin to poll, if that has not begun."""
        if self._thread is None:
            self._wake()

    def meet(self, timeout: float) -> None:
        """Begin, and wait for the first contact, once a process and *timeout* seconds at most."""
        met = self._met
        if not met.is_set():
            self.start()
            met.wait(timeout)
            met.set()

    def stop(self) -> None:
        """End the thread and close the store, for good: from now on the process goes by what it knows."""
        self._stopped = True
        thread = self._thread
        if thread is not None:
            self._wake()
            thread.join(5)
        self.up = False
        self.store.close()

    def _wake(self) -> None:
        if self._thread is None:
            self._start()
        if not self._rung:
            self._rung = True
            ears = self._ears
            if ears is not None:
                with suppress(OSError):  # full: it rings already; closed: it has stopped
                    ears[1].send(b"\0")

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._stopped:
                self._ears = socket.socketpair()
                for ear in self._ears:
                    ear.setblocking(False)
                args = (weakref.ref(self), self.store, self._ears)
                self._thread = threading.Thread(target=_run, args=args, name="svc-infra-state", daemon=True)
                self._thread.start()

    # The thread

    def round(self) -> tuple[int | None, float] | None:
        """Do what there is to do; return the bell and the seconds to wait for it, None when it is over."""
        if self._stopped:
            return None
        self._rung = False
        try:
            self._do_jobs()
            self._sync_if_due()
        except StoreError as error:
            self._lose(error)
        except Exception:
            _logger.exception("the state store's thread met an error of its own; it goes on")
            self._due = False
            self._next_poll = time.monotonic() + POLL[1]
            time.sleep(PACE)
        return self._listening()

    def _do_jobs(self) -> None:
        while self._jobs:
            if not self.up and self._down_since is None:
                self._sync()  # the first contact
            job = self._jobs.popleft()
            if not self.up:
                job(None)
                continue
            try:
                job(self.store)
            except StoreError:
                job(None)
                raise

    def _sync_if_due(self) -> None:
        now = time.monotonic()
        polling = now >= self._next_poll
        if polling or (self.up and self._due and now >= self._last_sync + PACE):
            self._sync()

    def _sync(self) -> None:
        self._due = False
        self._last_sync = now = time.monotonic()
        self._next_poll = now + random.uniform(*POLL)  # noqa: S311 - spreads load, guards nothing
        told = [(member, report) for member in self._members for report in member.reports()]
        args = {"seen": self._seen, "reports": [report for _, report in told], "probe": not self.up}
        reply = self.store.act("sync", args)
        self._find()
        tallies = reply.get("tallies") or []
        for (member, report), tally in zip(told, tallies, strict=False):
            member.counted(self.store, report, tally)
        if "records" in reply:
            self._seen = reply["revision"]
            self._mention(frozenset(reply.get("ignored") or ()))
            for member in self._members:
                member.learn(reply["records"] or {}, reply["documents"] or {})
        self._met.set()

    def _listening(self) -> tuple[int | None, float]:
        bell = self.store.bell() if self.up else None
        if bell is not None and not self._belled:
            self._due = True  # what changed before the subscription rang no bell here
        self._belled = bell is not None
        until = self._last_sync + PACE if self._due and self.up else self._next_poll
        return bell, 0.0 if self._jobs else max(0.0, until - time.monotonic())

    def heard(self) -> None:
        """Take what made the bell ring."""
        self.store.heard()
        self._due = True

    # Up and down

    def _lose(self, error: StoreError) -> None:
        self._seen = -1
        self.up = False
        self._met.set()
        if self._down_since is None:
            self._tell()
            self._down_since = time.monotonic()
            _logger.warning(
                "the state store '%s' does not answer (%s); this process goes on by what it knows, and asks "
                "again each second",
                self.store.url,
                error,
                extra={"store": self.store.url},
            )

    def _tell(self) -> None:
        publish(store_changed, self, StoreChanged(self.store.url, self.up, time.time()))

    def _find(self) -> None:
        if self.up:
            return
        self.up = True
        self._tell()
        since, self._down_since = self._down_since, None
        if since is not None:
            _logger.warning(
                "the state store '%s' answers again after %.1fs; everything is learned anew",
                self.store.url,
                time.monotonic() - since,
                extra={"store": self.store.url},
            )

    def _mention(self, ignored: frozenset[str]) -> None:
        new = ignored - self._ignored
        self._ignored = ignored
        if new:
            names = ", ".join(repr(name[:80]) for name in sorted(new)[:10])
            _logger.warning(
                "the state store '%s' holds what this version cannot read under %s; it is ignored and will "
                "be written over",
                self.store.url,
                names,
            )

    def after_fork(self) -> None:
        """In a forked child: leave the parent's thread, queue and connections to the parent."""
        ears = self._ears
        self.store.forget()
        self._begin()
        for ear in ears or ():
            ear.close()


def _run(known: weakref.ref[Reporter], store: Store, ears: tuple[socket.socket, socket.socket]) -> None:
    """Go round until the reporter is stopped, or gone with the app it served."""
    ear = ears[0]
    while (reporter := known()) is not None and (waiting := reporter.round()) is not None:
        del reporter  # nobody is kept alive by being waited for
        bell, seconds = waiting
        with selectors.DefaultSelector() as selector:
            selector.register(ear, selectors.EVENT_READ)
            if bell is not None:
                selector.register(bell, selectors.EVENT_READ, data="bell")
            ready = selector.select(seconds)
        with suppress(BlockingIOError):
            ear.recv(4096)
        if any(key.data == "bell" for key, _ in ready) and (reporter := known()) is not None:
            reporter.heard()
    for each in ears:
        each.close()
    if known() is None:
        store.close()


_reporters: weakref.WeakSet[Reporter] = weakref.WeakSet()


def _after_fork() -> None:
    for reporter in list(_reporters):
        reporter.after_fork()


os.register_at_fork(after_in_child=_after_fork)
