"""Gates and the error handler that stand for open circuits.

The breaker's own work happens in the view. What is here answers for it over HTTP: at the door, before work is
begun, or at the end, when the breaker's refusal was not handled.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from flask import current_app, request

from ..errors import BulkheadFullError, CircuitBreakerError, ConfigurationError
from ..mounts import mounts_of, require_unserved
from .flags import flag
from .refusals import bulkhead_full, circuit_open

if TYPE_CHECKING:
    from flask import Flask, Response

__all__ = [
    "Gate",
    "add_circuit_error_handler",
    "add_circuit_gate",
    "circuit_breaker_dependency",
    "circuit_gate",
]

P = ParamSpec("P")
R = TypeVar("R")

_is_on = flag("CIRCUIT_OPEN")


class Gate:
    """A gate that is a ``before_request`` hook and a view decorator at once.

    Called with nothing, as Flask calls its hooks, it returns the refusal or None. Called with a view, sync or
    async, it returns that view behind the gate. Probes and metrics are never refused.
    """

    __slots__ = ("_judge",)

    def __init__(self, judge: Callable[[], Response | None]) -> None:
        self._judge = judge

    @overload
    def __call__(self, /) -> Response | None: ...

    @overload
    def __call__(self, view: Callable[P, Awaitable[R]], /) -> Callable[P, Awaitable[R | Response]]: ...

    @overload
    def __call__(self, view: Callable[P, R], /) -> Callable[P, R | Response]: ...

    def __call__(self, view: Callable[..., Any] | None = None, /) -> Any:
        """Judge the current request, or put *view* behind the gate."""
        if view is None:
            return self._refusal()
        if inspect.iscoroutinefunction(view):
            return self._guard_async(view)
        return self._guard(view)

    def _refusal(self) -> Response | None:
        refusal = self._judge()
        if refusal is not None and mounts_of(current_app).serves(request.path):
            return None
        return refusal

    def _guard(self, view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            refusal = self._refusal()
            return view(*args, **kwargs) if refusal is None else refusal

        return guarded

    def _guard_async(self, view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            refusal = self._refusal()
            return await view(*args, **kwargs) if refusal is None else refusal

        return guarded


class Breaker(Protocol):
    """What :func:`circuit_gate` reads of a :class:`~flask_svc_infra.resilience.CircuitBreaker`."""

    @property
    def state(self) -> str: ...

    @property
    def remaining_timeout(self) -> float | None: ...


def circuit_breaker_dependency() -> Gate:
    """Return a gate that ``CIRCUIT_OPEN=1`` shuts: 503 ``{"detail": "circuit open"}`` with Retry-After.

    Use it on a view, sync or async, or on a blueprint; the variable is read at each request.

    Example:
        >>> @app.get("/api/data")
        ... @circuit_breaker_dependency()
        ... def data(): ...
        >>> bp.before_request(circuit_breaker_dependency())
    """
    return Gate(_by_variable)


def circuit_gate(breaker: Breaker) -> Gate:
    """Return a gate that refuses at the door while *breaker* is open, before any work is begun.

    It only looks: the gate takes no trial and never changes the breaker. From the moment a trial is due,
    requests are let through to the breaker in the view, which decides.

    Example:
        >>> bp.before_request(circuit_gate(payments))

    Raises:
        ConfigurationError: *breaker* is none.
    """
    if not hasattr(breaker, "state") or not hasattr(breaker, "remaining_timeout"):
        raise ConfigurationError(
            f"circuit_gate was given a {type(breaker).__name__}, which is no circuit breaker; no gate was "
            "made. Pass the CircuitBreaker itself."
        )

    def judge() -> Response | None:
        if breaker.state != "open":
            return None
        remaining = breaker.remaining_timeout
        if remaining is not None and remaining <= 0:
            return None
        return circuit_open(remaining)

    return Gate(judge)


def add_circuit_gate(app: Flask) -> None:
    """Put the whole app behind the gate that ``CIRCUIT_OPEN=1`` shuts, probes and metrics excepted.

    Raises:
        RuntimeError: the app already has it, or has served a request.
    """
    require_unserved(app, "the circuit gate")
    mounts_of(app).claim("the circuit gate", "Call add_circuit_gate once per app.")
    gate = Gate(_by_variable)

    def circuit_gate() -> Response | None:
        return gate() if _is_on() else None  # asked here first: Flask calls a plain function sooner

    app.before_request(circuit_gate)
    hooks = app.before_request_funcs[None]
    hooks.insert(0, hooks.pop())


def add_circuit_error_handler(app: Flask) -> None:
    """Answer a ``CircuitBreakerError`` or ``BulkheadFullError`` no view handled with 503 and Retry-After.

    Retry-After is the breaker's remaining timeout rounded up, at least 1, and 30 where it is not known; for a
    bulkhead it is 1, as a place comes back with the next call that ends. A handler the app registered for one
    of the two itself is left in place.

    Raises:
        RuntimeError: the app has served a request.
    """
    require_unserved(app, "the circuit error handler")
    registered = app.error_handler_spec[None][None]
    if CircuitBreakerError not in registered:
        app.register_error_handler(CircuitBreakerError, _answer_for)
    if BulkheadFullError not in registered:
        app.register_error_handler(BulkheadFullError, _answer_when_full)


def _answer_for(error: CircuitBreakerError) -> Response:
    return circuit_open(error.remaining_timeout)


def _answer_when_full(_error: BulkheadFullError) -> Response:
    return bulkhead_full()


def _by_variable() -> Response | None:
    return circuit_open(None) if _is_on() else None
