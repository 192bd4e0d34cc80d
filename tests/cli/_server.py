"""Small real servers that answer, redirect, drip and hang."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Script = Callable[[socket.socket, int], None]


class Server:
    """A TCP server on the loopback that reads one request and runs a script on the connection."""

    def __init__(self, script: Script) -> None:
        self.requests: list[bytes] = []
        self.closed = threading.Event()
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/health"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                request = b""
                while b"\r\n\r\n" not in request:
                    chunk = connection.recv(65536)
                    request += chunk
                    if not request.startswith(b"GET"):
                        break
                self.requests.append(request)
                self._script(connection, len(self.requests))
            self.closed.set()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def reply(status: str = "200 OK", body: bytes = b'{"status": "ok"}', **headers: str) -> Script:
    """Answer every request alike."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return lambda connection, _: connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def report(value: object, status: str = "200 OK") -> Script:
    return reply(status, json.dumps(value).encode())


def drip(start: bytes) -> Script:
    """Send *start* and then one byte every 20 ms until the client goes away."""

    def script(connection: socket.socket, _: int) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    return script


def healthy_from(attempt: int) -> Script:
    """Say 503 until the request number *attempt*."""
    return lambda connection, n: (reply() if n >= attempt else reply("503 Service Unavailable"))(
        connection, n
    )


@contextmanager
def serving(script: Script) -> Iterator[Server]:
    server = Server(script)
    try:
        yield server
    finally:
        server.close()
