"""The states of a circuit, and the objects that stand for one incarnation of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from math import inf
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .shared import Grant
    from .tallies import Tally

__all__ = ["CircuitState", "Closed", "Forced", "Generation", "HalfOpen", "Open", "Outcome", "Pass", "Trial"]


class CircuitState(StrEnum):
    """The state of a circuit; the values are spelled so in labels, logs and bodies too."""

    CLOSED = "closed"
    """Calls pass."""
    OPEN = "open"
    """Calls are refused."""
    HALF_OPEN = "half_open"
    """A few trials pass, to see whether the dependency is back."""


class Outcome(Enum):
    """How a call ended, as far as its circuit is concerned."""

    SUCCESS = auto()
    FAILURE = auto()
    IGNORED = auto()
    """No verdict: the permit is given back and no counter of the trip rule moves."""


@dataclass(frozen=True, slots=True)
class Forced:
    """A person's decision that overrules the circuit's own until it is reset.

    Attributes:
        kind: ``open`` refuses every call, ``disabled`` lets every call pass unjudged.
        reason: why, as the person said; None when not said.
    """

    kind: Literal["open", "disabled"]
    reason: str | None = None


class Closed:
    """A closed generation, and the pass of every call that begins in it."""

    __slots__ = ("began", "folded", "forced", "rolls_at", "tally")
    state = CircuitState.CLOSED

    def __init__(self) -> None:
        self.forced: Forced | None = None
        self.tally: Tally
        self.began = 0
        """The machine's successes before it."""
        self.folded = 0
        """How many of the machine's successes the tally has seen."""
        self.rolls_at = inf
        """When the tally must hear of a success at once, because time moves on in its window."""


class Open:
    """An open generation: refuses until *until*, for ever when forced."""

    __slots__ = ("forced", "until")
    state = CircuitState.OPEN

    def __init__(self, until: float, forced: Forced | None = None) -> None:
        self.until = until
        self.forced = forced


class HalfOpen:
    """A half-open generation: the trials in flight, oldest first, and how many have succeeded."""

    __slots__ = ("successes", "trials")
    state = CircuitState.HALF_OPEN
    forced: Forced | None = None

    def __init__(self) -> None:
        self.trials: dict[Trial, float] = {}
        """Each trial's end of lease. All leases are equally long, so the first to come is the first to
        end."""
        self.successes = 0


class Trial:
    """The pass of one trial."""

    __slots__ = ("generation", "grant")

    def __init__(self, generation: HalfOpen) -> None:
        self.generation = generation
        self.grant: Grant | None = None
        """The fleet's permit, where the circuit is shared."""


Pass = Closed | Trial
Generation = Closed | Open | HalfOpen
