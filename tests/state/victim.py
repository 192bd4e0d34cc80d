"""A process that forks others, which do one thing with the store over and over until they are killed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path


class Victims:
    """Forks and kills; nothing of theirs is left in the test's own process.

    Attributes:
        url: the store.
    """

    def __init__(self):
        self.url = ""
        self.popen = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.read() == "up"

    def read(self):
        return json.loads(self.popen.stdout.readline())

    def kill(self, doing, after):
        """Have a process do *doing* and kill it *after* seconds from its first time on; return how many times
        it has come to. A negative *after* is when it says that it is where it must be killed."""
        self.popen.stdin.write(json.dumps([self.url, doing, after]) + "\n")
        self.popen.stdin.flush()
        return self.read()

    def begin(self, doing):
        """Have a process do *doing*, and wait till it is where it must be killed; :meth:`end` kills it."""
        return self.kill(doing, None)

    def end(self):
        return self.kill("", -1)

    def close(self):
        self.popen.stdin.close()
        self.popen.wait(10)
        self.popen.stdout.close()


def deed(store, doing, tell):
    """Return what a victim does over and over."""
    from state.conftest import acquire, open_, put, report, restore, settle, sync, window

    lease = {"lease": 150, "limit": 1}

    def number():
        return sync(store, seen=-1)["records"].get("payments", {"epoch": 0})["epoch"]

    def opened():
        return open_(store, epoch=number())["epoch"]

    def halt():
        tell()
        time.sleep(60)

    def within():
        """Halt when all is written and nothing committed."""
        from flask_svc_infra.state import sqlite

        change = sqlite._Table.change
        sqlite._Table.change = lambda *args: (change(*args), halt())

    def unread():
        """Halt when the server was asked and its answer not read."""
        from redis.connection import AbstractConnection

        # The server has long done it when this is called.
        AbstractConnection.read_response = lambda *_args, **_more: (time.sleep(0.05), halt())

    places = {"within": within, "unread": unread}
    act = store.act

    def act_or_halt(operation, args):
        if operation == name and place:
            places[place]()
        return act(operation, args)

    place, _, name = doing.rpartition(" ")
    store.act = act_or_halt

    counted = itertools.count()
    calls = {
        "sync": lambda n: sync(
            store, report(f"c{n % 7}", run=1, calls=2, windows=(window(1, last=50), window(1, span=9000)))
        ),
        "acquire": lambda n: acquire(store, f"{os.getpid()}-{n}", epoch=opened(), **lease),
        "settle": lambda n: (
            acquire(store, f"{os.getpid()}-{n}", epoch=opened(), **lease),
            settle(store, f"{os.getpid()}-{n}", ("failure", "success")[n % 2], epoch=number(), recovery=0),
        ),
        "open": lambda n: open_(store, epoch=number()) and restore(store, epoch=number() + 1, state="closed"),
        "restore": lambda n: restore(store, epoch=number() + 1, state=("open", "closed")[n % 2], recovery=0),
        "put": lambda n: put(store, body=str(n) * 500, what=str(n) * 500, duration=(None, 60_000)[n % 2]),
        "journal": lambda n: (put(store, body=str(n), what=str(n)), store.act("journal", {"limit": 1000})),
    }

    return lambda: calls[name](next(counted))


def serve():
    sys.path.insert(0, str(Path(__file__).parent.parent))
    import state.conftest  # noqa: F401 - here, so that no victim has to

    from flask_svc_infra.state.urls import open_store

    with suppress(ImportError):  # no redis-py: no test will ask for it
        for url in ("sqlite:////here.db", "redis://here"):
            open_store(url)  # imports the driver

    def victim(url, doing, tell):
        store = open_store(url)
        store.act("journal", {"limit": 1})
        do = deed(store, doing, tell)
        while True:
            do()
            if " " not in doing:
                tell()

    def kill(pid, reading):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        times = 0
        while found := os.read(reading, 65536):
            times += len(found)
        os.close(reading)
        return times

    waiting = None
    print('"up"', flush=True)  # noqa: T201
    for line in sys.stdin:
        url, doing, after = json.loads(line)
        if waiting is None:
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(reading)
                try:
                    victim(url, doing, lambda fd=writing: os.write(fd, b"."))
                finally:
                    os._exit(1)
            os.close(writing)
            assert os.read(reading, 1) == b"."
            waiting = pid, reading
        if after is not None:
            time.sleep(max(0, after))
            times, waiting = kill(*waiting), None
            print(times + 1, flush=True)  # noqa: T201
        else:
            print("0", flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
