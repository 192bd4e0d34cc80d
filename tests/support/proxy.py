"""A TCP proxy that misbehaves on demand, on real sockets."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

Fault = Literal["none", "delay", "hang", "reset", "half", "stall"]

_CHUNK = 65_536
_RST = struct.pack("ii", 1, 0)
"""SO_LINGER on with zero seconds: close() sends RST instead of FIN."""


@dataclass(eq=False)
class _Link:
    """One connection through the proxy; only the thread that serves it closes its two sockets."""

    client: socket.socket
    server: socket.socket
    aborted: bool = False

    def abort(self) -> None:
        """Make the close that follows a RST, and wake whoever reads."""
        self.aborted = True
        for side in (self.client, self.server):
            with suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
                side.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        self.client.close()
        self.server.close()


class FaultProxy:
    """Forwards connections to a server and breaks them the way networks do.

    Faults hold until :meth:`heal`; each may be set while connections are open. Safe to use from any thread.

    - :meth:`delay`: every chunk of a reply comes *seconds* late.
    - :meth:`hang`: connections open and stay open, no byte passes either way (until healed: then they do).
    - :meth:`stall`: half of the next chunk of a reply passes, the rest when healed.
    - :meth:`reset`: open connections and new ones get RST.
    - :meth:`half`: half of the next chunk of a reply passes, then the connection ends.
    - :meth:`refuse`: nobody listens: connection refused; open connections go on.
    - :meth:`cut`: open connections get RST once; new ones pass.
    """

    # May be changed while it runs: new connections go there.
    target: tuple[str, int]

    def __init__(self, host: str, port: int, *, url: str = "") -> None:
        self.target = (host, port)
        self._changed = threading.Condition()
        self._fault: Fault = "none"
        self._seconds = 0.0
        self._closed = False
        self._links: set[_Link] = set()
        self._listener: tuple[socket.socket, threading.Thread] | None = None
        self.accepted = 0
        self.host = "127.0.0.1"
        self.port = 0
        self._listen()
        self.url = url.replace(f"{host}:{port}", f"{self.host}:{self.port}")

    def delay(self, seconds: float) -> None:
        self._set("delay", seconds)

    def hang(self) -> None:
        self._set("hang")

    def half(self) -> None:
        self._set("half")

    def stall(self) -> None:
        self._set("stall")

    def reset(self) -> None:
        self._set("reset")
        self.cut()

    def refuse(self) -> None:
        with self._changed:
            listening, self._listener = self._listener, None
        if listening is not None:
            listener, thread = listening
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()

    def cut(self) -> None:
        with self._changed:
            for link in self._links:
                link.abort()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not any(link.aborted for link in self._links), timeout=5)

    def heal(self) -> None:
        """Pass everything on again; a refused port listens again."""
        self._set("none")
        if self._listener is None and not self._closed:
            self._listen()

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self._closed = True
        self.refuse()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _set(self, fault: Fault, seconds: float = 0.0) -> None:
        with self._changed:
            self._fault, self._seconds = fault, seconds
            self._changed.notify_all()

    def _listen(self) -> None:
        listener = socket.create_server((self.host, self.port), backlog=128)
        self.port = listener.getsockname()[1]
        thread = threading.Thread(target=self._accept, args=(listener,), name="fault-proxy", daemon=True)
        self._listener = (listener, thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                self.accepted += 1
                threading.Thread(target=self._serve, args=(client,), name="fault-proxy", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self.target, timeout=10)
            server.settimeout(None)
        except OSError:
            server = socket.socket()
        link = _Link(client, server)
        with self._changed:
            self._links.add(link)
            if self._fault == "reset" or self._closed or not _connected(server):
                link.abort()
        up = threading.Thread(target=self._pump, args=(link, False), name="fault-proxy", daemon=True)
        up.start()
        self._pump(link, True)
        up.join()
        link.close()
        with self._changed:
            self._links.discard(link)
            self._changed.notify_all()

    def _pump(self, link: _Link, is_reply: bool) -> None:
        source, sink = (link.server, link.client) if is_reply else (link.client, link.server)
        with suppress(OSError):
            while not link.aborted and (chunk := source.recv(_CHUNK)):
                fault = self._await_passage(link, is_reply)
                if link.aborted:
                    return
                if fault == "half" and is_reply:
                    sink.sendall(chunk[: len(chunk) // 2])
                    sink.shutdown(socket.SHUT_RDWR)
                    source.shutdown(socket.SHUT_RDWR)
                    return
                if fault == "stall" and is_reply:
                    sink.sendall(chunk[: len(chunk) // 2])
                    chunk = chunk[len(chunk) // 2 :]
                    self._await_end_of("stall", link)
                sink.sendall(chunk)
        if not link.aborted:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

    def _await_end_of(self, fault: Fault, link: _Link) -> None:
        with self._changed:
            self._changed.wait_for(lambda: link.aborted or self._fault != fault)

    def _await_passage(self, link: _Link, is_reply: bool) -> Fault:
        """Wait as long as the fault says; return the fault that then holds."""
        with self._changed:
            if self._fault == "delay" and is_reply:
                self._changed.wait_for(lambda: link.aborted or self._fault != "delay", timeout=self._seconds)
            self._changed.wait_for(lambda: link.aborted or self._fault != "hang")
            return self._fault


def _connected(connection: socket.socket) -> bool:
    try:
        connection.getpeername()
    except OSError:
        return False
    return True
