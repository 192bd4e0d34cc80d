"""The hand-off to OpenTelemetry: circuits on the current span, the trace in a histogram's exemplars.

Nothing here imports OpenTelemetry. An app that traces has imported it; one that does not pays nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from ..events import Transition, circuit_transition
from ..resilience.engine import Engine

__all__ = ["exemplar_source", "follow_circuits", "unfollow_circuits"]

_API = "opentelemetry.trace"
_refuse = getattr(Engine._refuse, "__wrapped__", Engine._refuse)  # noqa: SLF001 - see follow_circuits


def exemplar_source() -> Callable[[], dict[str, str] | None] | None:
    """Return what gives the current span's ids, if it is sampled; None where nothing traces."""
    api = sys.modules.get(_API)
    if api is None:
        return None
    current: Callable[[], Any] = api.get_current_span

    def exemplar() -> dict[str, str] | None:
        context = current().get_span_context()
        if not (context.is_valid and context.trace_flags.sampled):
            return None
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    return exemplar


def follow_circuits() -> None:
    """Make transitions and rejections events of the current span, from when OpenTelemetry is imported.

    Rejections are the one thing a breaker does often, so they have no signal to listen to: the method that
    makes the exception is replaced, only now and only where there is a span to tell. Safe to call again.
    """
    if _API not in sys.modules or Engine._refuse is _refuse_and_tell:  # noqa: SLF001
        return
    circuit_transition.connect(_on_transition)
    Engine._refuse = _refuse_and_tell  # type: ignore[method-assign]  # noqa: SLF001


def unfollow_circuits() -> None:
    """Leave the circuits alone again."""
    circuit_transition.disconnect(_on_transition)
    Engine._refuse = _refuse  # type: ignore[method-assign]  # noqa: SLF001


def _on_transition(_sender: object, event: Transition) -> None:
    _add_event(
        "circuit_breaker.transition",
        {
            "circuit_breaker.name": event.name,
            "circuit_breaker.old_state": str(event.old),
            "circuit_breaker.state": str(event.new),
            "circuit_breaker.reason": event.reason,
            "circuit_breaker.forced": event.forced,
        },
    )


@wraps(_refuse)
def _refuse_and_tell(self: Engine, generation: Any, now: float) -> Any:
    error = _refuse(self, generation, now)
    attributes: dict[str, Any] = {
        "circuit_breaker.name": error.name,
        "circuit_breaker.state": str(error.state),
    }
    if error.remaining_timeout is not None:
        attributes["circuit_breaker.remaining_timeout"] = error.remaining_timeout
    _add_event("circuit_breaker.rejection", attributes)
    return error


def _add_event(name: str, attributes: dict[str, Any]) -> None:
    api = sys.modules.get(_API)
    if api is not None:
        span = api.get_current_span()
        if span.is_recording():
            span.add_event(name, attributes)
