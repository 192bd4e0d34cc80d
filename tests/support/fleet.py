"""Processes of a fleet, played by breakers in this one: each has a reporter and a store object of its own."""

from __future__ import annotations

from flask_svc_infra.resilience import Breakers, CircuitBreaker, Outcome
from flask_svc_infra.state.reporter import Reporter


class Worker:
    """What a process has: its circuits and its reporter; without *host*, the machine's name."""

    reporter_class = Reporter

    def __init__(self, store, host="a"):
        self.reporter = self.reporter_class(store)
        self.breakers = Breakers()
        self.breakers.share(self.reporter)
        if host:
            self.breakers._shared._host = host
        self.reporter.start()

    def breaker(self, name="payments", **options) -> CircuitBreaker:
        return self.breakers.get(name, **options)

    def fail(self, name="payments", times=1):
        for _ in range(times):
            self.breakers[name].admit().settle(Outcome.FAILURE)

    def succeed(self, name="payments", times=1):
        for _ in range(times):
            with self.breakers[name]:
                pass

    def epoch(self, name="payments") -> int:
        return self.breakers._shared._circuits[name]._epoch

    def state(self, name="payments") -> str:
        return str(self.breakers[name].state)
