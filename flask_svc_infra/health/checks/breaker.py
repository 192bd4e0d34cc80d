"""Is a circuit open?"""

from __future__ import annotations

from typing import Any, Protocol

from ...errors import ConfigurationError
from ..model import HealthCheckFn, HealthStatus
from .making import BuiltInCheck, Found, healthy

__all__ = ["BreakerLike", "check_breaker"]


class BreakerLike(Protocol):
    """What is asked of a breaker; ``forced`` and ``remaining_timeout`` are read where there are any."""

    @property
    def name(self) -> str:
        """The breaker's name."""
        ...

    @property
    def state(self) -> Any:
        """``closed``, ``open`` or ``half_open``."""
        ...


def check_breaker(breaker: BreakerLike) -> HealthCheckFn:
    """Make a check that says how a circuit stands: open and half-open are degraded, since calls are refused.

    Degraded, never unhealthy: the service is still there, and sending its traffic to its equals, whose
    breakers see the same dependency, would help nobody. One forced open says so, with the reason given. A
    disabled one is healthy and says so too.

    Args:
        breaker: a :class:`~flask_svc_infra.resilience.CircuitBreaker`, or anything with a name and a state.

    Raises:
        ConfigurationError: it has none.
    """
    name = getattr(breaker, "name", None)
    if not isinstance(name, str) or not hasattr(breaker, "state"):
        raise ConfigurationError(
            f"check_breaker was given a {type(breaker).__name__}, which is no breaker; no check was made. "
            "Pass a CircuitBreaker."
        )
    return BuiltInCheck(name, lambda _: _look(name, breaker))


def _look(name: str, breaker: Any) -> Found:
    state = str(getattr(breaker.state, "value", breaker.state))
    forced = getattr(breaker, "forced", None)
    if state == "closed" and forced is None:
        return healthy(state=state)
    details: dict[str, Any] = {"state": state}
    message = f"circuit '{name}' is {state.replace('_', '-')}"
    if forced is not None:
        details["forced"] = kind = str(getattr(forced, "kind", "open"))
        reason = getattr(forced, "reason", None)
        by_hand = "disabled" if kind == "disabled" else "forced open"
        message = f"circuit '{name}' was {by_hand}" + (f": {reason}" if reason else "")
    remaining = getattr(breaker, "remaining_timeout", None)
    if isinstance(remaining, int | float):
        details["remaining_timeout"] = round(remaining, 3)
        message += f"; a trial is let through in {remaining:.1f}s"
    return Found(HealthStatus.HEALTHY if state == "closed" else HealthStatus.DEGRADED, message, details)
