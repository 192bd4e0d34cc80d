"""A process of a fleet, told what to do line by line; ``Process`` drives one from a test."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path


class Process:
    """A worker in a process of its own. Each command answers one JSON value."""

    def __init__(self, url, *, host="a", **options):
        self.popen = subprocess.Popen(
            [sys.executable, __file__, url, host, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.read() == "up"

    def send(self, *command):
        self.popen.stdin.write(json.dumps(command) + "\n")
        self.popen.stdin.flush()

    def read(self):
        return json.loads(self.popen.stdout.readline())

    def ask(self, *command):
        self.send(*command)
        return self.read()

    def kill(self):
        self.popen.kill()
        self.popen.wait()
        self.popen.stdin.close()
        self.popen.stdout.close()


def serve(url, host, options):
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from support.fleet import Worker
    from support.processes import eventually

    from flask_svc_infra.resilience import CircuitBreakerError, Outcome
    from flask_svc_infra.state.urls import open_store

    worker = Worker(open_store(url), host)
    lease = options.pop("lease", 30)
    breaker = worker.breaker("payments", **options)
    breaker._machine.policy = replace(breaker._machine.policy, lease=lease)
    eventually(lambda: worker.reporter.up)
    held = []

    def attempts(count, pause):
        passed = 0
        for _ in range(count):
            try:
                held.append(breaker.admit())
                passed += 1
            except CircuitBreakerError:
                pass
            time.sleep(pause)
        return passed

    def when(state, since, limit):
        """Say how long after *since* (the machine's monotonic clock) the circuit was seen in *state*."""
        while breaker.state != state and time.monotonic() < since + limit:
            time.sleep(0.0005)
        return time.monotonic() - since if breaker.state == state else None

    def fail(times):
        now = time.monotonic()
        for _ in range(times):
            with suppress(CircuitBreakerError):
                breaker.admit().settle(Outcome.FAILURE)
        return now

    commands = {
        "attempts": attempts,
        "when": when,
        "fail": fail,
        "settle": lambda outcome: len([held.pop().settle(Outcome[outcome]) for _ in range(len(held))]),
        "state": lambda: str(breaker.state),
        "up": lambda: worker.reporter.up,
        "reset": breaker.reset,
    }
    print('"up"', flush=True)  # noqa: T201
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(commands[name](*arguments)), flush=True)  # noqa: T201


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
