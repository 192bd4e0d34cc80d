"""Start processes so that none outlives the test run, and wait for what they do."""

from __future__ import annotations

import atexit
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from . import guardian

STANDARD_PORTS = frozenset({5432, 6379, 8000, 8080, 9090, 9093, 9100})
"""A machine may run its own servers there."""


def free_port() -> int:
    """Return a free TCP port of the loopback, outside the range the kernel takes client ports from."""
    choose = random.SystemRandom()
    while True:
        port = choose.randrange(15_000, 32_000)
        if port in STANDARD_PORTS:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def package_folder(name: str) -> Path:
    """Return the folder of an installed package without importing it: its launcher is not what we run."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:  # a folder of tests may bear its name
        cure = "pip install 'flask-svc-infra[test]'"
        raise ModuleNotFoundError(f"the tests need the package '{name}': {cure}", name=name)
    return Path(spec.origin).parent


def eventually(
    condition: Callable[[], Any],
    *,
    timeout: float = 10.0,
    interval: float = 0.02,
    message: str = "the condition did not come true",
) -> Any:
    """Ask *condition* until its answer is true, and return that; past *timeout* seconds an AssertionError.

    An ``OSError``, ``HTTPException`` or ``AssertionError`` from *condition* counts as "not yet", and is shown
    if time runs out.
    """
    deadline = time.monotonic() + timeout
    last: Any = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (OSError, HTTPException, AssertionError) as error:
            last = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"{message} within {timeout:g}s; last answer: {last!r}")
        time.sleep(interval)


class _Guard:
    """The guardian's end in this process: a pipe whose closing, by whatever means, kills what is listed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def tell(self, line: str) -> None:
        if self._process is None or self._owner != os.getpid():
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-E", guardian.__file__],
                stdin=subprocess.PIPE,
                start_new_session=True,
                cwd="/",
            )
            self._owner = os.getpid()
            atexit.register(self._close, self._process)
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _close(self, process: subprocess.Popen[bytes]) -> None:
        if self._owner == os.getpid() and process.stdin is not None:
            process.stdin.close()
            process.wait()


_guard = _Guard()


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path | IO[bytes],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start *argv* in a session of its own, output appended to *log*; it dies when this process does.

    Whoever spawns ends it with :func:`finish`.
    """
    output = log.open("ab") if isinstance(log, Path) else log
    try:
        process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            start_new_session=True,
        )
    finally:
        if isinstance(log, Path):
            output.close()
    _guard.tell(f"+{process.pid}")
    return process


def finish(process: subprocess.Popen[bytes], *, signum: int = signal.SIGKILL, timeout: float = 10.0) -> int:
    """End *process* and all under it: *signum* first, SIGKILL for what is left; return its exit code."""
    guardian.signal_tree(process.pid, signal.SIGCONT)
    if signum == signal.SIGKILL:
        guardian.signal_tree(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.send_signal(signum)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout)
    guardian.signal_tree(process.pid, signal.SIGKILL)
    code = process.wait()
    _guard.tell(f"-{process.pid}")
    return code


def freeze(process: subprocess.Popen[bytes]) -> None:
    """SIGSTOP *process* and everything under it: connections stay open, nothing answers."""
    guardian.signal_tree(process.pid, signal.SIGSTOP)


def thaw(process: subprocess.Popen[bytes]) -> None:
    """SIGCONT *process* and everything under it."""
    guardian.signal_tree(process.pid, signal.SIGCONT)


def children(pid: int) -> list[int]:
    """Return the living direct children of *pid*, oldest first."""
    return sorted(number for number, row in guardian.processes().items() if int(row[1]) == pid)


def alive(pid: int) -> bool:
    """Tell whether *pid* runs (a zombie does not)."""
    row = guardian.stat(pid)
    return row is not None and row[0] not in "ZX"


@contextmanager
def started(process: subprocess.Popen[bytes], log: Path) -> Iterator[None]:
    """Wrap the wait for a server's start: if that fails, end the server and show the end of its log."""
    try:
        yield
    except BaseException as error:
        finish(process)
        tail = log.read_text(encoding="utf-8", errors="replace")[-4000:]
        error.add_note(f"--- {log} ---\n{tail}")
        raise
