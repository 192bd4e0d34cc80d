"""Protected functions: one wrapper for each kind of function, all of them admit, call, settle.

The plain wrappers read ``machine.quiet`` before and after the call and, when it is the same closed generation
both times, add one to ``machine.successes``: that is the whole price of a closed circuit. The measured ones
also take the time, and look at the result if the breaker was told to.

What all four do before the call is written out in each, because to call a function for it would cost as much
as the rest; and ``**kwargs`` are passed on only where there are some: Python copies even an empty dict.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Awaitable, Callable
from functools import wraps
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ..errors import CircuitBreakerError
from .generations import CircuitState, Outcome, Trial
from .holding import Hold, answer, held, is_kind

if TYPE_CHECKING:
    from .engine import Engine
    from .generations import Pass

__all__ = ["call_guarded", "protect"]

Function = Callable[..., Any]

OPEN = CircuitState.OPEN
refusal = CircuitBreakerError.__new__


def protect(
    breaker: object, engine: Engine, guard: Callable[[], Any], fn: Function, fallback: Function | None
) -> Function:
    """Wrap *fn*; the wrapper keeps *breaker* alive.

    Raises:
        TypeError: *fn* is not callable.
    """
    if not callable(fn):
        raise TypeError(
            f"circuit '{engine.name}' cannot protect {fn!r}, which is not callable; nothing was wrapped. "
            "Decorate a function; with @classmethod or @property, put protect underneath."
        )
    made: Any = wraps(fn)(_wrapper(engine, guard, fn, fallback))
    made.circuit_breaker = breaker
    return made  # type: ignore[no-any-return]


def _wrapper(engine: Engine, guard: Callable[[], Any], fn: Function, fallback: Function | None) -> Function:
    if is_kind(inspect.isasyncgenfunction, fn) or is_kind(inspect.isgeneratorfunction, fn):
        return held(fn, Hold(guard, CircuitBreakerError, fallback))
    measured = engine.timed or engine.failure_result is not None
    if is_kind(inspect.iscoroutinefunction, fn):
        return (_measured_async if measured else _plain_async)(engine, fn, fallback)
    return (_measured if measured else _plain)(engine, fn, fallback)


def _plain(engine: Engine, fn: Function, fallback: Function | None) -> Function:
    machine = engine.machine

    def protected(*args: Any, **kwargs: Any) -> Any:
        pass_: Any = machine.quiet
        if pass_ is None:
            refusing = machine.refusing
            if refusing is not None and fallback is None:
                remaining = refusing.until - engine.clock()
                if remaining > 0:
                    machine.rejected += 1
                    raise refusal(CircuitBreakerError, engine.name, OPEN, remaining, None)
            pass_ = engine.admit() if fallback is None else engine.admits()
            if pass_ is None:
                return fallback(*args, **kwargs)  # type: ignore[misc]
        try:
            result = fn(*args, **kwargs) if kwargs else fn(*args)
        except BaseException as error:
            engine.raised(pass_, error)
            raise
        if type(result) is CoroutineType:
            return _awaited(engine, pass_, result, engine.clock())
        if machine.quiet is pass_:
            machine.successes += 1
        else:
            engine.settle(pass_, Outcome.SUCCESS)
        return result

    return protected


def _plain_async(engine: Engine, fn: Function, fallback: Function | None) -> Function:
    machine = engine.machine

    async def protected(*args: Any, **kwargs: Any) -> Any:
        pass_: Any = machine.quiet
        if pass_ is None:
            refusing = machine.refusing
            if refusing is not None and fallback is None:
                remaining = refusing.until - engine.clock()
                if remaining > 0:
                    machine.rejected += 1
                    raise refusal(CircuitBreakerError, engine.name, OPEN, remaining, None)
            pass_ = engine.admit() if fallback is None else engine.admits()
            if pass_ is None:
                return await answer(fallback, args, kwargs)
        try:
            result = await (fn(*args, **kwargs) if kwargs else fn(*args))
        except BaseException as error:
            engine.raised(pass_, error)
            raise
        if machine.quiet is pass_:
            machine.successes += 1
        else:
            engine.settle(pass_, Outcome.SUCCESS)
        return result

    return protected


def _measured(engine: Engine, fn: Function, fallback: Function | None) -> Function:
    machine, clock, failure_result = engine.machine, engine.clock, engine.failure_result
    slower_than = engine.slower_than

    def protected(*args: Any, **kwargs: Any) -> Any:
        pass_: Any = machine.quiet
        if pass_ is None:
            refusing = machine.refusing
            if refusing is not None and fallback is None:
                remaining = refusing.until - engine.clock()
                if remaining > 0:
                    machine.rejected += 1
                    raise refusal(CircuitBreakerError, engine.name, OPEN, remaining, None)
            pass_ = engine.admit() if fallback is None else engine.admits()
            if pass_ is None:
                return fallback(*args, **kwargs)  # type: ignore[misc]
        started = clock()
        try:
            result = fn(*args, **kwargs) if kwargs else fn(*args)
        except BaseException as error:
            engine.raised(pass_, error, clock() - started)
            raise
        if type(result) is CoroutineType:
            return _awaited(engine, pass_, result, started)
        ended = clock()
        if (
            failure_result is None
            and machine.quiet is pass_
            and ended - started <= slower_than
            and ended < pass_.rolls_at  # type: ignore[union-attr]
        ):
            machine.successes += 1
        else:
            engine.returned(pass_, result, ended - started)
        return result

    return protected


def _measured_async(engine: Engine, fn: Function, fallback: Function | None) -> Function:
    machine, clock, failure_result = engine.machine, engine.clock, engine.failure_result
    slower_than = engine.slower_than

    async def protected(*args: Any, **kwargs: Any) -> Any:
        pass_: Any = machine.quiet
        if pass_ is None:
            refusing = machine.refusing
            if refusing is not None and fallback is None:
                remaining = refusing.until - engine.clock()
                if remaining > 0:
                    machine.rejected += 1
                    raise refusal(CircuitBreakerError, engine.name, OPEN, remaining, None)
            pass_ = engine.admit() if fallback is None else engine.admits()
            if pass_ is None:
                return await answer(fallback, args, kwargs)
        started = clock()
        try:
            result = await (fn(*args, **kwargs) if kwargs else fn(*args))
        except BaseException as error:
            engine.raised(pass_, error, clock() - started)
            raise
        ended = clock()
        if (
            failure_result is None
            and machine.quiet is pass_
            and ended - started <= slower_than
            and ended < pass_.rolls_at  # type: ignore[union-attr]
        ):
            machine.successes += 1
        else:
            engine.returned(pass_, result, ended - started)
        return result

    return protected


def _awaited(engine: Engine, pass_: Pass, coroutine: Awaitable[Any], started: float) -> Awaitable[Any]:
    """Go on guarding a call that gave a coroutine, though nothing had marked the function as asynchronous."""
    place = [pass_]
    awaited = _await(engine, place, coroutine, started)
    if isinstance(pass_, Trial):
        # Of a coroutine that is closed or cancelled before it begins not a line is run.
        weakref.finalize(awaited, _give_back, engine, place).atexit = False
    return awaited


def _give_back(engine: Engine, place: list[Pass]) -> None:
    while place:
        engine.settle(place.pop(), Outcome.IGNORED)


async def _await(engine: Engine, place: list[Pass], coroutine: Awaitable[Any], started: float) -> Any:
    pass_ = place.pop()
    clock = engine.clock
    try:
        result = await coroutine
    except BaseException as error:
        engine.raised(pass_, error, clock() - started)
        raise
    engine.returned(pass_, result, clock() - started)
    return result


def call_guarded(engine: Engine, fn: Function, args: Any, kwargs: Any) -> Any:
    """Call *fn* once under *engine*; an awaitable it gives is guarded until it has been awaited."""
    pass_ = engine.admit()
    clock = engine.clock
    started = clock()
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:
        engine.raised(pass_, error, clock() - started)
        raise
    if inspect.isawaitable(result):
        return _awaited(engine, pass_, result, started)
    engine.returned(pass_, result, clock() - started)
    return result
