"""Breakers in the states the hazards need, and threads that start together."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flask_svc_infra.resilience import CircuitBreaker, CircuitState, Outcome

if TYPE_CHECKING:
    from support.clock import FakeClock

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


class Down(Exception):
    """The dependency failed."""


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with suppress(Down), breaker:
            raise Down


def succeed(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with breaker:
            pass


def tripped(clock: FakeClock, **options: Any) -> CircuitBreaker:
    """A breaker opened by one failure, for ten seconds."""
    breaker = CircuitBreaker(
        "dep", **{"failure_threshold": 1, "recovery_timeout": 10.0, "clock": clock, **options}
    )
    breaker.admit().settle(Outcome.FAILURE)
    assert breaker.state is OPEN
    return breaker


def recovering(clock: FakeClock, **options: Any) -> CircuitBreaker:
    """A breaker whose next call is a trial."""
    breaker = tripped(clock, **options)
    clock.advance(10.0)
    return breaker


def together(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Run *act* in *count* threads that start at one moment; return what each returned or raised."""
    start = threading.Barrier(count, timeout=10)
    results: list[Any] = [None] * count

    def run(index: int) -> None:
        start.wait()
        try:
            results[index] = act(index)
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a thread hangs"
    return results


def run_python(script: str, *flags: str) -> str:
    """Run a script in an interpreter of its own; it fails the test by failing."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
