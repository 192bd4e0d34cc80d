"""What the demo shows: a line of figures that moves on, and a line that stays for every change."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from support.web import request

QUIET_INTERVAL = 5
"""Where lines cannot be overwritten (a log file), every fifth second is enough."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What an operator sees of the shop: readiness, what is wrong, and the circuit."""

    ready: str
    ailing: tuple[str, ...]
    circuit: str

    def __str__(self) -> str:
        reason = f" ({', '.join(self.ailing)})" if self.ailing else ""
        return f"readiness {self.ready}{reason}, circuit {self.circuit}"


def look(url: str) -> Sight:
    """Ask the shop's readiness and metrics, as Kubernetes and Prometheus would."""
    try:
        health = request(f"{url}/_health/ready", timeout=5).json()
        ailing = [check["name"] for check in health["checks"] if check["status"] != "healthy"]
        return Sight(health["status"], tuple(sorted(ailing)), circuit_state(request(f"{url}/metrics").text))
    except OSError as error:
        return Sight(f"no answer ({type(error).__name__})", (), "?")


def circuit_state(exposition: str) -> str:
    """Return the worst state that any worker's ``payments`` circuit is in."""
    states = {
        sample.labels["state"]
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == "circuit_breaker_state" and sample.labels["name"] == "payments" and sample.value
    }
    return next((state for state in ("open", "half_open", "closed") if state in states), "unknown")


class Screen:
    """Prints to standard output."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._last: Sight | None = None
        self._count = 0
        self._shown_at = time.monotonic()
        self._overwrites = sys.stdout.isatty()

    def show(self, counts: Counter[str], unpaid: int, slow: float) -> None:
        """Print the *counts* since the last time, orders *unpaid*, and the 95th percentile *slow*, in s."""
        seconds, self._shown_at = time.monotonic() - self._shown_at, time.monotonic()
        sight = look(self._url)
        clock = time.strftime("%H:%M:%S")
        if sight != self._last:
            self._print(f"{clock}  {sight}", stays=True)
            self._last = sight
        rate = counts.pop("requests", 0) / seconds
        answers = "  ".join(f"{outcome}: {number}" for outcome, number in sorted(counts.items()))
        line = f"{clock}  {rate:3.0f} requests/s  [{answers}]  unpaid {unpaid}  p95 {slow * 1000:.0f} ms"
        if self._overwrites or self._count % QUIET_INTERVAL == 0:
            self._print(line, stays=not self._overwrites)
        self._count += 1

    def _print(self, line: str, *, stays: bool) -> None:
        start = "\r\x1b[K" if self._overwrites else ""
        print(start + line, end="\n" if stays else "", flush=True)
