"""Functions of every kind, held by a context manager from their beginning to their end.

A generator begins with its first item and ends with its last, or when its reader stops.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, ExitStack
from functools import wraps
from types import CoroutineType
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

__all__ = ["Decorator", "Hold", "answer", "held", "is_kind"]

P = ParamSpec("P")
R = TypeVar("R")
Function = Callable[..., Any]


class Decorator(Protocol):
    """A decorator that keeps a function's signature."""

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """Wrap *function*."""
        ...


class Hold(NamedTuple):
    """What holds a call.

    Attributes:
        guard: makes the context manager of one call, sync and async in one.
        refused: what its entry raises when the call may not begin.
        fallback: what is called then, with the same arguments; None: the refusal comes out.
    """

    guard: Callable[[], Any]
    refused: type[Exception]
    fallback: Function | None

    def enter(self, stack: ExitStack) -> bool:
        """Enter the guard; False when it refuses and the fallback stands in."""
        try:
            stack.enter_context(self.guard())
        except self.refused:
            if self.fallback is None:
                raise
            return False
        return True

    async def enter_async(self, stack: AsyncExitStack) -> bool:
        """Enter the guard; False when it refuses and the fallback stands in."""
        try:
            await stack.enter_async_context(self.guard())
        except self.refused:
            if self.fallback is None:
                raise
            return False
        return True


def is_kind(kind: Callable[[Any], bool], fn: Function) -> bool:
    """Tell whether *fn*, or the ``__call__`` of an object, is a function of *kind*."""
    return kind(fn) or (not inspect.isclass(fn) and kind(getattr(fn, "__call__", None)))  # noqa: B004


def held(fn: Function, hold: Hold) -> Function:
    """Wrap *fn*, of whatever kind it is."""
    if is_kind(inspect.isasyncgenfunction, fn):
        made = _async_stream(fn, hold)
    elif is_kind(inspect.isgeneratorfunction, fn):
        made = _stream(fn, hold)
    elif is_kind(inspect.iscoroutinefunction, fn):
        made = _coroutine(fn, hold)
    else:
        made = _call(fn, hold)
    return wraps(fn)(made)


def _call(fn: Function, hold: Hold) -> Function:
    def call(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            entered = hold.enter(stack)
            source: Any = fn if entered else hold.fallback
            given = source(*args, **kwargs)
        if entered and type(given) is CoroutineType:
            return _later(hold, given, args, kwargs)
        return given

    return call


async def _later(hold: Hold, coroutine: CoroutineType[Any, Any, Any], args: Any, kwargs: Any) -> Any:
    """Hold a coroutine while it is awaited, where nothing had marked the function that gave it."""
    async with AsyncExitStack() as stack:
        stack.callback(coroutine.close)  # does nothing once it has ended
        if await hold.enter_async(stack):
            return await coroutine
        return await answer(hold.fallback, args, kwargs)


async def answer(source: Any, args: Any, kwargs: Any) -> Any:
    """Call *source*, and await what it gives if that is to be awaited."""
    given = source(*args, **kwargs)
    return await given if inspect.isawaitable(given) else given


def _coroutine(fn: Function, hold: Hold) -> Function:
    async def call(*args: Any, **kwargs: Any) -> Any:
        async with AsyncExitStack() as stack:
            source = fn if await hold.enter_async(stack) else hold.fallback
            return await answer(source, args, kwargs)

    return call


def _stream(fn: Function, hold: Hold) -> Function:
    def stream(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with ExitStack() as stack:
            source: Any = fn if hold.enter(stack) else hold.fallback
            return (yield from source(*args, **kwargs))

    return stream


def _async_stream(fn: Function, hold: Hold) -> Function:
    async def stream(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        async with AsyncExitStack() as stack:
            source: Any = fn if await hold.enter_async(stack) else hold.fallback
            items = source(*args, **kwargs)
            try:
                item = await anext(items)
                while True:
                    try:
                        sent = yield item
                    except GeneratorExit:
                        await items.aclose()
                        raise
                    except BaseException as error:
                        item = await items.athrow(error)
                    else:
                        item = await items.asend(sent)
            except StopAsyncIteration:
                return

    return stream
