"""A process of a fleet, told what to do line by line; ``Process`` drives one from a test."""

from __future__ import annotations

import ctypes
import itertools
import json
import logging
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path


class Process:
    """A worker in a process of its own. Each command answers one JSON value.

    *host* is what it believes its host's name to be; with *hostname* it is a host of that name, with *netns*
    in that network namespace.
    """

    def __init__(self, url, *, host="a", **options):
        host = "" if "hostname" in options else host
        within = ["ip", "netns", "exec", options.pop("netns")] if "netns" in options else []
        self.popen = subprocess.Popen(
            [*within, sys.executable, __file__, url, host, json.dumps(options)],
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


def give_up_overriding_permissions():
    """Have files' permissions bind this process, root or not (capset(2): without CAP_DAC_OVERRIDE and
    CAP_DAC_READ_SEARCH)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] &= ~0b110
    assert libc.capset(header, sets) == 0


def log_of(name):
    """Return the list that what is logged under *name* will be added to."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger(name).addHandler(handler)
    return lines


def rename(name):
    """Give this process a host's name, the kernel's where it allows that, else a pretended one."""
    new_uts, new_user = 0x04000000, 0x10000000
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(new_uts | (new_user if os.geteuid() else 0)):
            raise OSError(ctypes.get_errno(), "unshare")
        socket.sethostname(name)
    except OSError:
        socket.gethostname = lambda: name


def serve(url, host, options):
    sys.path.insert(0, str(Path(__file__).parent.parent))
    if "hostname" in options:
        rename(options.pop("hostname"))
    from support.fleet import Worker
    from support.processes import eventually

    from flask_svc_infra.resilience import CircuitBreakerError, Outcome, rules
    from flask_svc_infra.state import redis_urls, reporter
    from flask_svc_infra.state.urls import open_store

    log = log_of("flask_svc_infra.state")
    if options.pop("bound", False):
        give_up_overriding_permissions()
    reporter.POLL = options.pop("poll", reporter.POLL)
    redis_urls.TIMEOUT = 0.15  # as in conftest.py: a busy machine is no finding
    met = "met" if options.pop("trouble", False) else "up"
    worker = Worker(open_store(url), host)
    lease = options.pop("lease", 30)
    if "trip" in options:
        options = {**options, "trip": eval(options["trip"], vars(rules)), "failure_threshold": 5}
    breaker = worker.breaker("payments", **options)
    breaker._machine.policy = replace(breaker._machine.policy, lease=lease)
    eventually(lambda: getattr(worker.reporter, met))
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

    def succeed(times):
        for _ in range(times):
            with breaker:
                pass

    def mixed(successes, failures):
        """Make the calls in four threads, successes and failures in turns."""

        def call():
            for number in range(max(successes, failures)):
                if number % 4 == 0:
                    time.sleep(0.001)
                for outcome, count in ((Outcome.SUCCESS, successes), (Outcome.FAILURE, failures)):
                    if next(turns[outcome]) < count:
                        breaker.admit().settle(outcome)

        turns = {outcome: itertools.count() for outcome in Outcome}
        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return True

    def longest(calls):
        """Say how long the longest of *calls* took, but for one in a hundred; each third one fails."""
        took = []
        for number in range(calls):
            began = time.perf_counter()
            with suppress(CircuitBreakerError):
                breaker.admit().settle(Outcome.SUCCESS if number % 3 else Outcome.FAILURE)
            took.append(time.perf_counter() - began)
            time.sleep(0.0003)
        return sorted(took)[int(calls * 0.99)]

    def room(size):
        """Let files grow to *size* bytes and no further, or as far as they like; writes past it fail."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return True

    commands = {
        "longest": longest,
        "room": room,
        "log": lambda: log,
        "attempts": attempts,
        "when": when,
        "fail": fail,
        "succeed": succeed,
        "mixed": mixed,
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
