"""The bulkhead: so many calls at once and no more, so that one slow dependency cannot take every thread."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, Self, TypeVar, cast, overload

from tenacity import AsyncRetrying, RetryError, retry_if_result, stop_after_delay, wait_random_exponential

from ..errors import BulkheadFullError
from . import checked
from .holding import Decorator, Hold, held
from .live import Live

__all__ = ["Bulkhead", "Place", "live_bulkheads"]

P = ParamSpec("P")
R = TypeVar("R")

_LOOK_AGAIN = 0.02
"""Seconds, at most, between two looks of a waiting coroutine for a free place."""


class Place:
    """One call's place in a bulkhead: taken on entry, given back once."""

    __slots__ = ("_bulkhead", "_held")

    def __init__(self, bulkhead: Bulkhead) -> None:
        self._bulkhead = bulkhead
        self._held = False

    def release(self) -> None:
        """Give the place back; once given back, do nothing."""
        if self._held:
            self._held = False
            self._bulkhead.__exit__(None, None, None)

    def __enter__(self) -> Self:
        self._bulkhead.__enter__()
        self._held = True
        return self

    async def __aenter__(self) -> Self:
        await self._bulkhead.__aenter__()
        self._held = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Bulkhead:
    """Lets at most *max_concurrent* calls run at once.

    Thread-safe; sync and async calls share its places. The waiting of a thread blocks that thread, the
    waiting of a coroutine nobody.

    Args:
        name: what it is called in labels and errors.
        max_concurrent: calls in flight at once.
        max_wait: seconds a call waits for a place before it is refused; 0 refuses at once, which is right
            where a queue in front of a slow dependency would only hide it.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    def __init__(self, name: str = "default", max_concurrent: int = 10, max_wait: float = 0.0) -> None:
        self.name = checked.name("Bulkhead(name)", name)
        self.max_concurrent = checked.count(f"bulkhead '{name}': max_concurrent", max_concurrent)
        self.max_wait = checked.seconds_or_zero(f"bulkhead '{name}': max_wait", max_wait)
        self._free = Condition()
        self._in_flight = 0
        self._rejected = 0
        _live.add(self)

    def __repr__(self) -> str:
        return f"<Bulkhead '{self.name}' {self._in_flight}/{self.max_concurrent}>"

    @property
    def in_flight(self) -> int:
        """How many calls hold a place now."""
        return self._in_flight

    @property
    def rejected(self) -> int:
        """How many calls were refused so far."""
        return self._rejected

    def guard(self) -> Place:
        """Return a place to hold for one call: ``with bulkhead.guard():``."""
        return Place(self)

    def admit(self) -> Place:
        """Take a place; the caller releases it.

        Raises:
            BulkheadFullError: none was free within *max_wait*.
        """
        return Place(self).__enter__()

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* holding a place; if it is a coroutine function, what it returns holds one while awaited.

        Raises:
            BulkheadFullError: none was free within *max_wait*.
        """
        return cast("R", self._wrap(fn, None)(*args, **kwargs))

    @overload
    def protect(self, fn: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def protect(self, fn: None = None, /, *, fallback: Callable[..., Any] | None = None) -> Decorator: ...
    def protect(
        self, fn: Callable[..., Any] | None = None, /, *, fallback: Callable[..., Any] | None = None
    ) -> Callable[..., Any]:
        """Hold a place during every call of a function, of any kind; a stream holds it to its end.

        Args:
            fn: the function.
            fallback: called with the same arguments, instead of raising, when a call is refused.
        """
        checked.callable_or_none(f"bulkhead '{self.name}': fallback", fallback)
        if fn is None:
            return lambda function: self._wrap(function, fallback)
        return self._wrap(fn, fallback)

    def _wrap(self, fn: Callable[..., Any], fallback: Callable[..., Any] | None) -> Callable[..., Any]:
        if not callable(fn):
            raise TypeError(
                f"bulkhead '{self.name}' cannot protect {fn!r}, which is not callable. Decorate a function."
            )
        return held(fn, Hold(self.guard, BulkheadFullError, fallback))

    def __enter__(self) -> Self:
        self._take()
        return self

    async def __aenter__(self) -> Self:
        await self._take_async()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_back()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_back()

    def _take(self) -> None:
        with self._free:
            if not self._free.wait_for(self._has_place, self.max_wait):
                self._refuse()
            self._in_flight += 1

    async def _take_async(self) -> None:
        if self._try():
            return
        if not self.max_wait:
            self._refuse()
        # A coroutine cannot wait on a thread's condition without an event loop of a known kind; tenacity
        # sleeps on any. So it looks again, at uneven intervals.
        looking = AsyncRetrying(
            retry=retry_if_result(lambda taken: not taken),
            stop=stop_after_delay(self.max_wait),
            wait=wait_random_exponential(multiplier=0.001, max=_LOOK_AGAIN),
        )
        try:
            await looking(self._try_async)
        except RetryError:
            self._refuse()

    async def _try_async(self) -> bool:
        return self._try()

    def _try(self) -> bool:
        with self._free:
            free = self._has_place()
            self._in_flight += free
            return free

    def _has_place(self) -> bool:
        return self._in_flight < self.max_concurrent

    def _refuse(self) -> NoReturn:
        with self._free:
            self._rejected += 1
        raise BulkheadFullError(self.name, max_concurrent=self.max_concurrent) from None

    def _give_back(self) -> None:
        with self._free:
            # Zero in a forked child, where the call that began in the parent ends: it holds no place here.
            self._in_flight = max(0, self._in_flight - 1)
            self._free.notify()

    def _after_fork(self) -> None:
        self._free = Condition()
        self._in_flight = 0


_live: Live[Bulkhead] = Live()


def live_bulkheads() -> list[Bulkhead]:
    """Return every bulkhead of this process that is still in use, oldest first."""
    return _live.list()
