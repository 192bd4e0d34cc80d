"""What happened, as frozen records, and the signals they are published on.

A record is published after the fact, outside every lock. A listener is called in the thread in
which it happened, as ``listener(sender, event=record)``; what it raises is logged and goes no further.

Times are wall-clock seconds since the epoch: they are for people and journals. Nothing is decided by them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from blinker import Namespace

if TYPE_CHECKING:
    from blinker import NamedSignal

    from .health.model import HealthStatus
    from .resilience.generations import CircuitState

__all__ = [
    "Announcer",
    "CheckFinished",
    "HealthChanged",
    "MaintenanceChanged",
    "Retried",
    "StoreChanged",
    "Transition",
    "check_finished",
    "circuit_transition",
    "health_changed",
    "maintenance_changed",
    "publish",
    "retried",
    "store_changed",
]

T = TypeVar("T")

_logger = logging.getLogger("flask_svc_infra.events")
_signals = Namespace()

circuit_transition: NamedSignal = _signals.signal("circuit-transition")
retried: NamedSignal = _signals.signal("retried")
check_finished: NamedSignal = _signals.signal("check-finished")
health_changed: NamedSignal = _signals.signal("health-changed")
maintenance_changed: NamedSignal = _signals.signal("maintenance-changed")
store_changed: NamedSignal = _signals.signal("store-changed")


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a circuit's state. The sender is the breaker.

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
class Retried:
    """One attempt of a retried function failed. The sender is the function.

    Attributes:
        function: the function's qualified name.
        attempt: the number of the attempt that failed, from 1.
        error: the name of the exception's class.
        delay: seconds until the next attempt; None when it was the last and the call was given up.
        at: when, in seconds since the epoch.
    """

    function: str
    attempt: int
    error: str
    delay: float | None
    at: float


@dataclass(frozen=True, slots=True)
class CheckFinished:
    """One run of a check came to its end, or to its deadline. The sender is the registry.

    Attributes:
        name: the check's registered name.
        status: what the run said.
        critical: whether the check is critical.
        duration: how long the run took, in seconds; up to the deadline when it passed that.
        timed_out: whether the deadline passed first; the run itself may still be going on.
        at: when, in seconds since the epoch.
    """

    name: str
    status: HealthStatus
    critical: bool
    duration: float
    timed_out: bool
    at: float


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """One change of a check's status. The sender is the registry.

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
    """Maintenance was switched on, changed or switched off. The sender is the app's maintenance.

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


@dataclass(frozen=True, slots=True)
class StoreChanged:
    """The store of shared state answers this process, or does not any more. The sender is the reporter.

    Attributes:
        url: where it is, without credentials.
        up: whether it answers.
        at: when, in seconds since the epoch.
    """

    url: str
    up: bool
    at: float


class Announcer(Generic[T]):
    """Tells of what was noted, in that order: one thread tells at a time, the others leave theirs to it.

    Note under the lock that decides, which makes the order; announce without it.

    Args:
        tell: is given each thing that was noted.
    """

    __slots__ = ("_noted", "_speaking", "_tell")

    def __init__(self, tell: Callable[[T], None]) -> None:
        self._tell = tell
        self.renew()

    def note(self, event: T) -> None:
        """Put down something to tell."""
        self._noted.append(event)

    def announce(self) -> None:
        """Tell of everything that is noted, unless another thread is at it."""
        while self._noted:
            speaking = self._speaking
            if not speaking.acquire(blocking=False):
                return
            try:
                while self._noted:
                    self._tell(self._noted.popleft())
            finally:
                speaking.release()

    def renew(self) -> None:
        """Forget, in a forked child, who was speaking in its parent and what about."""
        self._noted: deque[T] = deque()
        self._speaking = Lock()


def publish(signal: NamedSignal, sender: object, event: object) -> None:
    """Tell every listener of *signal* about *event*, each of them whatever another raises.

    A listener is called as blinker's are: ``listener(sender, event=event)``. What it raises is logged.
    Thread-safe. Never called with a lock held.
    """
    if not signal.receivers:
        return
    for listener in signal.receivers_for(sender):
        try:
            listener(sender, event=event)
        except Exception:
            _logger.exception(
                "a listener of '%s' raised; the event stands and the others were told", signal.name
            )
