"""Small real servers for the checks, and checks that hang until told otherwise."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from flask_svc_infra.health import HealthStatus


class Listener:
    """A TCP server that does to each connection what it is told: nothing, or *talk(connection)*."""

    def __init__(self, talk: Callable[[socket.socket], object] | None = None) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.connections: list[socket.socket] = []
        self.talk = talk
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections.append(connection)
            if self.talk is not None:
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            assert self.talk is not None
            self.talk(connection)
        except OSError:
            pass  # the other side left, which is what these tests make it do

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    listeners: list[Listener] = []

    def make(talk: Callable[[socket.socket], object] | None = None) -> Listener:
        listeners.append(Listener(talk))
        return listeners[-1]

    yield make
    for listener in listeners:
        listener.close()


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Hanging:
    """A check that hangs until it is released, and counts how often it was started."""

    def __init__(self) -> None:
        self.started = 0
        self.entered = threading.Event()
        self.release = threading.Event()
        self.ended = threading.Event()

    def __call__(self) -> HealthStatus:
        self.started += 1
        self.entered.set()
        self.release.wait(30)
        self.ended.set()
        return HealthStatus.HEALTHY


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    check = Hanging()
    yield check
    check.release.set()
