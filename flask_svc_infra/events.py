"""What happened, as frozen records, and the signals they are published on.

A record is published after the fact, outside every lock. A listener is called in the thread in which it
happened and with the record alone; what it raises is logged and goes no further.

Times are wall-clock seconds since the epoch: they are for people and journals. Nothing is decided by them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blinker import Namespace

if TYPE_CHECKING:
    from blinker import NamedSignal

    from .health.model import HealthStatus
    from .resilience.machine import CircuitState

__all__ = [
    "HealthChanged",
    "MaintenanceChanged",
    "Transition",
    "circuit_transition",
    "health_changed",
    "maintenance_changed",
    "publish",
]

_logger = logging.getLogger("flask_svc_infra.events")
_signals = Namespace()

circuit_transition: NamedSignal = _signals.signal("circuit-transition")
health_changed: NamedSignal = _signals.signal("health-changed")
maintenance_changed: NamedSignal = _signals.signal("maintenance-changed")


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a circuit's state.

    Attributes:
        name: the breaker's name.
        old: the state it left.
        new: the state it entered.
        reason: why, in words: the rule that tripped it, a person's reason, or ``recovery timeout elapsed``.
        forced: whether a person did it (``force_open``, ``disable``, ``reset``).
        at: when, in seconds since the epoch.
    """

    name: str
    old: CircuitState
    new: CircuitState
    reason: str
    forced: bool
    at: float


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """One change of a check's status.

    Attributes:
        name: the check's registered name.
        old: the status before, UNKNOWN before the first run.
        new: the status now.
        message: the redacted message of the run that changed it.
        at: when, in seconds since the epoch.
    """

    name: str
    old: HealthStatus
    new: HealthStatus
    message: str | None
    at: float


@dataclass(frozen=True, slots=True)
class MaintenanceChanged:
    """Maintenance was switched on, changed or switched off.

    Attributes:
        mode: ``off``, ``read-only`` or ``full``.
        reason: why, as the person said; None when not said.
        actor: who or what did it, as in ``env``, ``api``, ``cli``.
        at: when, in seconds since the epoch.
    """

    mode: str
    reason: str | None
    actor: str
    at: float


def publish(signal: NamedSignal, record: object) -> None:
    """Send *record* to every listener of *signal*, each of them whatever another raises.

    What a listener raises is logged. Thread-safe. Never called with a lock held.
    """
    for receiver in signal.receivers_for(None):
        try:
            receiver(record)
        except Exception:
            _logger.exception(
                "a listener of '%s' raised; the event stands and the others were told", signal.name
            )
