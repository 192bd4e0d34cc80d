"""What the page's forms ask for: read, and refused at the door when it cannot be done. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigurationError
from ..ops.windows import as_duration, as_mode

__all__ = ["ACTIONS", "CIRCUIT_ACTIONS", "MAINTENANCE_ACTIONS", "Order", "order_of"]

CIRCUIT_ACTIONS = ("breaker.force_open", "breaker.disable", "breaker.reset")
MAINTENANCE_ACTIONS = ("maintenance.enable", "maintenance.disable")
ACTIONS = frozenset({*CIRCUIT_ACTIONS, *MAINTENANCE_ACTIONS})
"""What ``authorize`` is asked about, and what a form may ask for."""

_MAY_BE_SILENT = frozenset({"breaker.reset", "maintenance.disable"})
"""What puts things back needs no reason; what takes something away from customers does."""
_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody wants every worker to do.

    Attributes:
        action: one of :data:`ACTIONS`.
        circuit: the circuit's name; empty for maintenance.
        reason: why.
        mode: maintenance's mode.
        duration: seconds until maintenance ends by itself.
    """

    action: str
    circuit: str
    reason: str | None
    mode: str
    duration: float | None


def order_of(form: Mapping[str, str]) -> Order:
    """Read a form whose action is known.

    Raises:
        ConfigurationError: it asks for what cannot be; nothing was changed.
    """
    action = form["action"]
    reason = _reason(action, form.get("reason", ""))
    mode, duration = "off", None
    if action == "maintenance.enable":
        mode = as_mode(form.get("mode", "")).value
        duration = _duration(form.get("minutes", "").strip())
    return Order(action=action, circuit=form.get("circuit", ""), reason=reason, mode=mode, duration=duration)


def _reason(action: str, text: str) -> str | None:
    # On one line: it goes into logs and terminals.
    reason = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(reason) > _LONGEST_REASON:
        raise ConfigurationError(
            f"the reason has {len(reason)} characters; nothing was changed. Use {_LONGEST_REASON} at most."
        )
    if not reason and action not in _MAY_BE_SILENT:
        raise ConfigurationError(
            "there is no reason; nothing was changed. Say why: it goes into the journal, and whoever is "
            "paged next reads it."
        )
    return reason or None


def _duration(minutes: str) -> float | None:
    if not minutes:
        return None
    try:
        seconds = float(minutes) * 60
    except ValueError:
        raise ConfigurationError(
            f"a maintenance of {minutes[:40]!r} minutes cannot be; nothing was changed. Give a number, or "
            "nothing for one without an end."
        ) from None
    return as_duration(seconds)
