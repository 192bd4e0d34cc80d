"""The table of a circuit's transitions: which event leads from which state to which."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from .generations import CircuitState

__all__ = ["COMMANDS", "TRANSITIONS", "Change", "Event"]


class Event(Enum):
    """What can change a circuit's state."""

    TRIPPED = auto()
    RECOVERY_DUE = auto()
    TRIAL_FAILED = auto()
    TRIALS_PASSED = auto()
    FORCED_OPEN = auto()
    DISABLED = auto()
    RESET = auto()


_CLOSED, _OPEN, _HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

TRANSITIONS: dict[tuple[CircuitState, Event], CircuitState] = {
    (_CLOSED, Event.TRIPPED): _OPEN,
    (_OPEN, Event.RECOVERY_DUE): _HALF_OPEN,
    (_HALF_OPEN, Event.TRIAL_FAILED): _OPEN,
    (_HALF_OPEN, Event.TRIALS_PASSED): _CLOSED,
    **{(state, Event.FORCED_OPEN): _OPEN for state in CircuitState},
    **{(state, Event.DISABLED): _CLOSED for state in CircuitState},
    **{(state, Event.RESET): _CLOSED for state in CircuitState},
}

COMMANDS = frozenset({Event.FORCED_OPEN, Event.DISABLED, Event.RESET})
"""What a person does; the rest the circuit does itself."""


@dataclass(frozen=True, slots=True)
class Change:
    """A generation was replaced: the states before and after, why, and whether a person did it."""

    old: CircuitState
    new: CircuitState
    reason: str
    forced: bool
