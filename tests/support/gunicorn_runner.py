"""Run an app under a real gunicorn, and end it whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .processes import alive, children, eventually, finish, free_port, package_folder, spawn, started
from .web import Reply, request

TESTS = Path(__file__).resolve().parent.parent
IMPORTED = """
import os as _os
open(f"imported-{_os.getpid()}", "w").close()
"""
"""Appended to an app's source: says in which processes it has been imported to its end."""


def switches() -> list[str]:
    """Return ``--no-control-socket`` where this gunicorn has one: its socket lies in the home directory."""
    package_folder("gunicorn")
    from gunicorn.config import KNOWN_SETTINGS

    known = {setting.name for setting in KNOWN_SETTINGS}
    return ["--no-control-socket"] if "control_socket_disable" in known else []


class Gunicorn:
    """One gunicorn: a master and its workers, on a port of its own.

    Attributes:
        url: ``http://127.0.0.1:PORT``.
        master_pid: the master's process id.
        folder: its working directory; gone after the test.
    """

    def __init__(
        self,
        app: str,
        folder: Path,
        *,
        workers: int = 1,
        worker_class: str = "sync",
        threads: int = 1,
        preload: bool = False,
        env: Mapping[str, str] | None = None,
        conf: str | Path | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "gunicorn.log"
        argv = [sys.executable, "-m", "gunicorn", *switches(), "--bind", f"127.0.0.1:{self.port}"]
        argv += ["--workers", str(workers), "--worker-class", worker_class, "--threads", str(threads)]
        argv += ["--pid", str(folder / "gunicorn.pid")]
        if preload:
            argv.append("--preload")
        if conf is not None:
            argv += ["--config", str(conf)]
        path = os.pathsep.join([str(folder), str(TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environ = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._process: subprocess.Popen[bytes] = spawn(
            [*argv, *arguments, app], log=self._log, env=environ, cwd=folder
        )
        self.master_pid = self._process.pid
        with started(self._process, self._log):
            eventually(
                lambda: self._booted(workers), timeout=30, message=f"gunicorn did not boot {workers} workers"
            )

    @property
    def log(self) -> str:
        """Everything the master and the workers wrote so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def pids(self) -> list[int]:
        """Return the workers' process ids, oldest first."""
        return children(self.master_pid)

    def request(
        self,
        path: str,
        method: str = "GET",
        *,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> Reply:
        """Send one request over a connection of its own; if gunicorn has died, say so and show its log."""
        try:
            return request(self.url + path, method, body=body, headers=headers, timeout=timeout)
        except OSError as error:
            if self._process.poll() is not None:
                error.add_note(f"gunicorn exited with {self._process.returncode}:\n{self.log[-4000:]}")
            raise

    def get(self, path: str, *, headers: Mapping[str, str] | None = None, timeout: float = 10.0) -> Reply:
        """GET *path*."""
        return self.request(path, headers=headers, timeout=timeout)

    def wait_ready(self, path: str = "/", *, status: int = 200, timeout: float = 20.0) -> Reply:
        """GET *path* until it answers *status*: the port opens before the workers have imported the app.

        Where the app came as ``source=``, every worker has imported it, else at least one.
        """

        def ready() -> Reply | None:
            if self._process.poll() is not None:
                raise RuntimeError(f"gunicorn exited with {self._process.returncode}:\n{self.log[-4000:]}")
            if not self._imported_everywhere():
                return None
            reply = self.get(path)
            return reply if reply.status == status else None

        reply: Reply = eventually(ready, timeout=timeout, message=f"{path} did not answer {status}")
        return reply

    def signal(self, signum: int) -> None:
        """Send *signum* to the master alone."""
        self._process.send_signal(signum)

    def wait(self, timeout: float = 15.0) -> int:
        """Wait for the master to exit; return its exit code."""
        return self._process.wait(timeout)

    def stop(self, *, timeout: float = 15.0) -> int:
        """SIGTERM the master, wait for it, kill what is left; return the master's exit code."""
        return finish(self._process, signum=signal.SIGTERM, timeout=timeout)

    def kill(self) -> None:
        """SIGKILL the master and every worker."""
        finish(self._process)

    def _imported_everywhere(self) -> bool:
        """Tell whether every worker, or with --preload the master, has imported an app that says so."""
        if not (self.folder / "served.py").exists():
            return True
        done = {int(mark.name.removeprefix("imported-")) for mark in self.folder.glob("imported-*")}
        return self.master_pid in done or done >= set(self.pids())

    def _booted(self, workers: int) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"gunicorn exited with {self._process.returncode} before it was up")
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            pass
        return sum(alive(pid) for pid in self.pids()) >= workers
