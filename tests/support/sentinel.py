"""A primary, its replica and three Sentinels that fail over within seconds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import redis

from .processes import eventually, finish, free_port, spawn, started
from .valkey import ValkeyServer

HASTE = "info-period 200 ping-period 300 ask-period 100 publish-period 200 election-timeout 500"
"""What ``SENTINEL DEBUG`` makes quicker than a Sentinel's own seconds."""


class Failover:
    """The servers of one service, ``main``.

    Args:
        folder: for the Sentinels' files.
        password: the servers', when they have one.
        sentinel_password: the Sentinels' own.

    Attributes:
        primary: the server that begins as the primary.
        replica: the one that begins as its replica.
        ports: the Sentinels'.
    """

    def __init__(self, folder: Path, *, password: str = "", sentinel_password: str = "") -> None:
        secret = ["--requirepass", password, "--masterauth", password] if password else []
        self._password, self._sentinel_password = password, sentinel_password
        self._sentinels: list[subprocess.Popen[bytes]] = []
        self._servers: list[ValkeyServer] = []
        try:
            self.primary = self._server(*secret, "--repl-diskless-sync-delay", "0")
            self.replica = self._server(*secret, "--replicaof", f"127.0.0.1 {self.primary.port}")
            self.ports = [self._sentinel(folder / f"sentinel-{number}") for number in range(3)]
            eventually(self._complete, timeout=20, message="the Sentinels do not know all there is")
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The service's URL, without the Sentinels' password."""
        user = f":{self._password}@" if self._password else ""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{user}{hosts}/main/0"

    def primary_port(self, sentinel: int = 0) -> int:
        """Return the port of the primary as a Sentinel knows it."""
        with self.client(self.ports[sentinel], self._sentinel_password) as client:
            return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])

    def role(self, server: ValkeyServer) -> str:
        """Return ``master`` or ``slave``."""
        with self.client(server.port, self._password) as client:
            return str(client.info("replication")["role"])

    def fail_over(self) -> None:
        """Have the Sentinels promote the replica though the primary is well."""
        with self.client(self.ports[0], self._sentinel_password) as client:
            client.execute_command("SENTINEL", "FAILOVER", "main")

    def close(self) -> None:
        for sentinel in self._sentinels:
            finish(sentinel)
        for server in self._servers:
            server.close()

    @staticmethod
    def client(port: int, password: str) -> redis.Redis:
        return redis.Redis(port=port, password=password or None, decode_responses=True)

    def _server(self, *arguments: str) -> ValkeyServer:
        self._servers.append(ValkeyServer(*arguments))
        return self._servers[-1]

    def _sentinel(self, folder: Path) -> int:
        folder.mkdir()
        port, conf = free_port(), folder / "conf"
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"sentinel monitor main 127.0.0.1 {self.primary.port} 2",
            "sentinel down-after-milliseconds main 400",
            "sentinel failover-timeout main 1000",
        ]
        if self._password:
            lines.append(f"sentinel auth-pass main {self._password}")
        if self._sentinel_password:
            lines += [
                f"requirepass {self._sentinel_password}",
                f"sentinel sentinel-pass {self._sentinel_password}",
            ]
        conf.write_text("\n".join(lines) + "\n", encoding="utf-8")
        log = folder / "log"
        process = spawn([ValkeyServer.binary(), conf, "--sentinel"], log=log, cwd=folder)
        self._sentinels.append(process)
        with started(process, log):
            eventually(lambda: self._hasten(port), timeout=20)
        return port

    def _hasten(self, port: int) -> bool:
        try:
            with self.client(port, self._sentinel_password) as client:
                client.execute_command("SENTINEL", "DEBUG", *HASTE.split())
        except redis.ConnectionError as error:
            raise ConnectionError(str(error)) from error
        return True

    def _complete(self) -> bool:
        """Tell whether each Sentinel knows the replica and both others."""
        for port in self.ports:
            with self.client(port, self._sentinel_password) as client:
                state = client.sentinel_masters()["main"]
            if (state["num-slaves"], state["num-other-sentinels"], state["flags"]) != (1, 2, "master"):
                return False
        return True
