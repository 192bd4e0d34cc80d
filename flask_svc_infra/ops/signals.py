"""SIGTERM under gunicorn: the master begins the drain, the workers wait for its end.

Handlers run between any two instructions of the main thread: nothing here may block, lock or log.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import draining

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["chain_master", "chain_worker", "leave_within", "repeat_early"]

_told_early = False
"""Whether this worker was told to stop before gunicorn had given it a handler of its own."""


def chain_master(server: Any) -> None:
    """The first SIGTERM begins the drain before gunicorn queues it; a second one makes the workers quit.

    gunicorn's master looks at no SIGTERM while it waits for its workers, so the second is turned into
    SIGQUIT. A worker inherits this handler until it has its own; a signal it gets until then would be lost,
    and is noted.
    """
    board = draining.board()
    theirs = signal.getsignal(signal.SIGTERM)
    master = os.getpid()
    seen = False

    def on_term(signum: int, frame: FrameType | None) -> None:
        global _told_early  # noqa: PLW0603 - read in the child that inherited this handler
        nonlocal seen
        _told_early = os.getpid() != master
        if not _told_early and board.seconds > 0:
            if seen:
                board.end()
                for pid in list(server.WORKERS):
                    _kill(pid, signal.SIGQUIT)
                signum = signal.SIGQUIT
            else:
                board.begin()
            seen = True
        theirs(signum, frame)  # type: ignore[operator,misc]

    signal.signal(signal.SIGTERM, on_term)


def chain_worker(seconds: float) -> None:
    """Let SIGTERM come through to gunicorn's worker only when the drain is over.

    Nothing here may block, lock or log: it runs between any two instructions. The time is waited for in a
    thread of the operating system (under gevent too, where a patched thread's start is not safe here),
    which sends the signal again. Repeated signals meanwhile change nothing: init systems send them to the
    whole group.
    """
    board = draining.board()
    theirs = signal.getsignal(signal.SIGTERM)
    start_thread = _native("_thread", "start_new_thread")
    sleep = _native("time", "sleep")
    monotonic = _native("time", "monotonic")
    born = board.retired
    waiting = False

    def remind(delay: float) -> None:
        nonlocal waiting
        sleep(delay)
        # Told before its master, this worker counts from the master's beginning now: it waits again.
        waiting = False
        _kill(os.getpid(), signal.SIGTERM)

    def on_term(signum: int, frame: FrameType | None) -> None:
        nonlocal waiting
        left = 0.0
        if board.since is not None or board.retired == born:  # else replaced or dismissed: others serve on
            left = draining.begin_here() + seconds - monotonic()
        if left > 0:
            if waiting:
                return
            waiting = True
            try:
                start_thread(remind, (left,))
            except RuntimeError:  # no thread to be had: better to stop than never to
                waiting = False
            else:
                return
        theirs(signum, frame)  # type: ignore[operator,misc]

    signal.signal(signal.SIGTERM, on_term)
    signal.siginterrupt(signal.SIGTERM, False)  # as gunicorn has it: system calls of requests go on


def repeat_early() -> None:
    """Tell this worker to stop if it was told before it could hear."""
    if _told_early:
        _kill(os.getpid(), signal.SIGTERM)


def leave_within(seconds: float) -> None:
    """End this process after *seconds* at the latest: Python itself waits for requests in threads."""
    sleep = _native("time", "sleep")

    def leave() -> None:
        sleep(seconds)
        os._exit(0)

    _native("_thread", "start_new_thread")(leave, ())


def _native(module: str, name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return getattr(import_module(module), name)
    return monkey.get_original(module, name)


def _kill(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return
