"""Run what an async check returned to its end, in the thread of its run.

Each run has an event loop of its own, so that a check bound to no loop works in any server, and its
deadline is a real cancellation. One that ignores the cancellation keeps its thread, never the answer:
whoever asked waits for the deadline, not for the thread.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from .deadline import lane_threads

__all__ = ["drive", "outlast"]

P = ParamSpec("P")
T = TypeVar("T")


def drive(awaitable: Awaitable[Any], timeout: float) -> Any:
    """Return what *awaitable* returns, or raise what it raises.

    Args:
        awaitable: what the check's function returned.
        timeout: seconds until it is cancelled.

    Raises:
        TimeoutError: it was cancelled at its deadline, or threads of an earlier run were still going by then.
    """
    strays = lane_threads.get()
    if _patched_by_gevent():
        return _in_native_thread(_run, awaitable, timeout, strays)
    return _run(awaitable, timeout, strays)


def outlast(strays: list[threading.Thread], awaitable: Awaitable[Any], timeout: float) -> float:
    """Wait for the threads that an earlier run left; return the seconds that are left for *awaitable*.

    Raises:
        TimeoutError: they were still going after *timeout* seconds; *awaitable* is closed.
    """
    deadline = time.monotonic() + timeout
    for thread in strays:
        thread.join(max(0.0, deadline - time.monotonic()))
    strays[:] = [thread for thread in strays if thread.is_alive()]
    if strays:
        if isinstance(awaitable, Coroutine):
            awaitable.close()
        raise TimeoutError
    return max(0.0, deadline - time.monotonic())


def _run(awaitable: Awaitable[Any], timeout: float, strays: list[threading.Thread]) -> Any:
    timeout = outlast(strays, awaitable, timeout)

    async def bounded() -> Any:
        asyncio.get_running_loop().set_default_executor(_DaemonThreads(strays))
        async with asyncio.timeout(timeout):
            return await awaitable

    with asyncio.Runner() as runner:
        return runner.run(bounded())


class _DaemonThreads(ThreadPoolExecutor):
    """The loop's own threads (``asyncio.to_thread``, name look-ups); none may hold up the process's exit.

    The standard pool's threads are joined at exit, and so are those that close it. These are not. They are
    noted with the check's lane instead: its next run waits for them, so that what hangs is never started
    beside itself.
    """

    def __init__(self, started: list[threading.Thread]) -> None:
        super().__init__(max_workers=1)
        self._started = started

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = fn(*args, **kwargs)
                except BaseException as exc:
                    future.set_exception(exc)
                else:
                    future.set_result(result)

        thread = threading.Thread(target=work, name="svc-infra-check-executor", daemon=True)
        self._started.append(thread)
        thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: the threads end with what they do."""


def _patched_by_gevent() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _in_native_thread(fn: Callable[..., Any], *args: Any) -> Any:
    """Call *fn* in a real thread and wait for it as a greenlet does.

    asyncio keeps its running loop per thread, not per greenlet: two async checks in one thread would refuse
    each other.
    """
    from gevent.threadpool import ThreadPool

    pool = ThreadPool(1)
    try:
        return pool.apply(fn, args)
    finally:
        pool.kill()
