"""All shared circuits of one process, as the reporter sees them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from ..state.document import circuit_key
from .shared import SharedCircuit

if TYPE_CHECKING:
    from ..state.ledger import Json
    from ..state.reporter import Reporter
    from ..state.store import Store
    from .breaker import CircuitBreaker

__all__ = ["SharedCircuits"]


class SharedCircuits:
    """Keeps circuits in step with the store. Thread-safe.

    Args:
        reporter: talks to the store.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self._circuits: dict[str, SharedCircuit] = {}
        self._host = socket.gethostname()

    def add(self, breaker: CircuitBreaker) -> None:
        """Share *breaker*, once."""
        engine = breaker._engine  # noqa: SLF001 - a breaker is its engine's public face
        circuit = SharedCircuit(engine, self.reporter, quorum=breaker.quorum, host=self._host)
        self._circuits[breaker.name] = engine.share(circuit)
        self.reporter.relearn()

    def reports(self) -> list[Json]:
        """Return what each circuit has counted."""
        circuits = list(self._circuits.values())
        return [found for circuit in circuits if (found := circuit.report()) is not None]

    def counted(self, store: Store, report: Json, tally: Json) -> None:
        """Hand a tally to its circuit."""
        self._circuits[report["name"]].counted(store, tally)

    def learn(self, records: Json, documents: Json) -> None:
        """Hand each circuit what there is about it."""
        for name, circuit in list(self._circuits.items()):
            circuit.learn(records.get(name), documents.get(circuit_key(name)))
