"""Wait for blocking work without blocking the event loop, and leave nothing behind when cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..health.coroutines import outlast
from ..health.deadline import lane_threads, running_lanes
from ..health.runner import CalledOff

if TYPE_CHECKING:
    from ..health.runner import Lane, Run, Runner

__all__ = ["Call"]

T = TypeVar("T")

_LOOK = 1.0
"""Seconds after which a thread that waits for a coroutine looks whether the loop still exists."""


class Call:
    """One awaited call: the blocking work in a daemon thread, the coroutines it meets on the caller's loop.

    The thread is the call's own: on the loop's default executor the waiting would take the places that the
    checks themselves may need, and ``asyncio.run`` would wait for it at the end. Made inside a running loop.

    Args:
        runner: whose runs the call waits for or drives; None when it does neither.
    """

    def __init__(self, runner: Runner | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._runner = runner
        self._abandoned = threading.Event()
        self._driven: dict[Future[Any], Run | None] = {}

    async def result_of(self, work: Callable[[], T]) -> T:
        """Return what *work* returns, or raise what it raises.

        When the awaiting task is cancelled, the coroutines that *work* has on the loop are cancelled too,
        unless somebody else waits for the same run of a check.
        """
        done: Future[T] = Future()

        def run() -> None:
            try:
                result = work()
            except BaseException as error:
                self._tell(done.set_exception, error)
            else:
                self._tell(done.set_result, result)

        thread = threading.Thread(target=copy_context().run, args=(run,), name="svc-infra-await", daemon=True)
        # Inside a check this thread belongs to the check's lane: if it hangs, the check is not started again.
        lane_threads.get([]).append(thread)
        thread.start()
        try:
            return await asyncio.wrap_future(done)
        except asyncio.CancelledError:
            self._abandon()
            raise

    async def end_of(self, runs: Iterable[Run]) -> None:
        """Wait until each of *runs* has ended or is past its deadline.

        When the awaiting task is cancelled, so are their coroutines, as :meth:`result_of` has it.
        """
        try:
            for run in runs:
                await self._end_of(run)
        except asyncio.CancelledError:
            self._abandon()
            raise

    async def _end_of(self, run: Run) -> None:
        runner = cast("Runner", self._runner)
        ended = self._loop.create_future()

        def settle() -> None:
            if not ended.done():
                ended.set_result(None)

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to be told
                self._loop.call_soon_threadsafe(settle)

        runner.when_done(run, tell)
        alarm = self._loop.call_later(max(0.0, run.deadline - runner.clock()), settle)
        try:
            await ended
        finally:
            alarm.cancel()

    def drive(self, awaitable: Awaitable[T], timeout: float) -> T:
        """Bring *awaitable* to its end on the loop; called in the thread of a check's run.

        Raises:
            TimeoutError: it was cancelled after *timeout* seconds, or threads of an earlier run went on that
                long, or the loop was closed under it.
            CalledOff: it was cancelled because the call was.
        """
        bounded = _bounded(awaitable, outlast(lane_threads.get(), awaitable, timeout))
        try:
            future = asyncio.run_coroutine_threadsafe(bounded, self._loop)
        except RuntimeError:  # the loop is closed
            bounded.close()
            if asyncio.iscoroutine(awaitable):
                awaitable.close()
            raise
        self._driven[future] = cast("Lane", running_lanes.get()[-1]).run
        if self._abandoned.is_set():
            self._abandon()
        try:
            while True:  # and not one wait without end: a loop that is closed meanwhile never answers
                try:
                    return future.result(_LOOK)
                except TimeoutError:
                    if future.done() or self._loop.is_closed():
                        raise
                except CancelledError:
                    if self._abandoned.is_set():
                        raise CalledOff from None
                    raise
        finally:
            del self._driven[future]

    def sleep(self, seconds: float) -> None:
        """Sleep in the work's thread; end the work there when the call is abandoned."""
        if self._abandoned.wait(seconds):
            raise _Abandoned

    def _abandon(self) -> None:
        self._abandoned.set()
        for future, run in list(self._driven.items()):
            if run is not None and self._runner is not None and self._runner.call_off(run):
                future.cancel()

    def _tell(self, settle: Callable[[Any], None], outcome: object) -> None:
        if not self._loop.is_closed():
            with contextlib.suppress(InvalidStateError):  # cancelled: nobody is there to be told
                settle(outcome)


class _Abandoned(Exception):  # noqa: N818 - never leaves the thread it is raised in
    """Whoever asked was cancelled, so the work ends."""


async def _bounded(awaitable: Awaitable[T], seconds: float) -> T:
    async with asyncio.timeout(seconds):
        return await awaitable
