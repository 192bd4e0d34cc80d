"""A fleet in one thread: its processes, its store and its clock do what they are told, when they are told."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import TYPE_CHECKING

from support.fleet import Worker

from flask_svc_infra.resilience import CircuitBreakerError, Outcome, shared
from flask_svc_infra.state import document, ledger
from flask_svc_infra.state.reporter import Reporter
from flask_svc_infra.state.store import StoreError, _Dictionaries, decoded, encoded

if TYPE_CHECKING:
    from support.clock import FakeClock


class Server:
    """What the store knows, by its own clock. It may forget, and it may fall back to an old copy."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.up = True
        self.empty()

    def empty(self) -> None:
        self._shelf = _Dictionaries()

    def copy(self) -> _Dictionaries:
        return copy.deepcopy(self._shelf)

    def fall_back(self, copied: _Dictionaries) -> None:
        self._shelf = copy.deepcopy(copied)

    def act(self, operation, args):
        now = int(self._clock() * 1000) + 1_000_000_000  # its own: nobody's else
        return decoded(encoded(ledger.act(self._shelf, now, operation, decoded(encoded(args)))))

    def record(self, name="payments"):
        return self.act("sync", {"seen": -1, "reports": [], "probe": False})["records"].get(name)


class Link:
    """One process's way to the server; a cut one asks nothing, a deaf one asks and hears no
    answer, a broken one fails once."""

    url, shared = "still://", True

    def __init__(self, server: Server) -> None:
        self._server = server
        self.cut = self.deaf = self.broken = False

    def act(self, operation, args):
        broken, self.broken = self.broken, False
        if broken or self.cut or not self._server.up:
            raise StoreError("cut")
        reply = self._server.act(operation, args)
        if self.deaf:
            raise StoreError("no answer in time")
        return reply

    def bell(self):
        return None

    def heard(self):
        pass

    def forget(self):
        pass

    def close(self):
        pass


class StillReporter(Reporter):
    """Takes a turn when it is told to, and at once when a caller waits, unless it is busy."""

    busy = False

    def _start(self):
        pass

    def submit(self, job):
        super().submit(job)
        if isinstance(job, shared._Ask) and not self.busy:
            self._guarded(self._do_jobs)

    def turn(self):
        """Do the jobs, and poll."""
        self._guarded(self._do_jobs)
        self._guarded(self._sync)
        if self.up:
            self._guarded(self._do_jobs)

    def _guarded(self, step):
        try:
            step()
        except StoreError as error:
            self._lose(error)


class StillWorker(Worker):
    """One process."""

    reporter_class = StillReporter

    def __init__(self, server: Server, host: str, clock: FakeClock, *, lease: float, **options) -> None:
        self.link = Link(server)
        super().__init__(self.link, host)
        self.host = host
        self.circuit_breaker = self.breaker("payments", clock=clock, **options)
        machine = self.circuit_breaker._machine
        machine.policy = machine.policy.__class__(
            **{name: getattr(machine.policy, name) for name in machine.policy.__slots__} | {"lease": lease}
        )
        self.circuit = self.circuit_breaker._engine.shared

    def call(self, outcome=Outcome.SUCCESS):
        """Make one whole call; say whether it was let through."""
        try:
            permit = self.circuit_breaker.admit()
        except CircuitBreakerError:
            return False
        permit.settle(outcome)
        return True


def stop_time(monkeypatch, clock: FakeClock) -> None:
    """Let those who read the machine's clock read *clock*, and a caller wait for nothing."""
    for module in (shared, document):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(shared, "PATIENCE", 0.0)
