"""TLS in front of a server that has none, with certificates made for the test."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from .proxy import FaultProxy

_CHUNK = 65_536
_HELLO = b"\x16"
"""How a TLS handshake begins."""


class Certificates:
    """A certificate authority and what it has signed, as files.

    Attributes:
        ca: the authority's certificate.
        other_ca: that of an authority which has signed nothing here.
        server: key and certificate of ``127.0.0.1`` and ``localhost``.
        client_key: a client's key.
        client_certificate: its certificate.
    """

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.ca, self.other_ca, self.server = folder / "ca.pem", folder / "other.pem", folder / "server.pem"
        self.client_key, self.client_certificate = folder / "client.key", folder / "client.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        trustme.CA(key_type=trustme.KeyType.ECDSA).cert_pem.write_to_path(str(self.other_ca))
        served = authority.issue_cert("127.0.0.1", "localhost", key_type=trustme.KeyType.ECDSA)
        served.private_key_and_cert_chain_pem.write_to_path(str(self.server))
        client = authority.issue_cert("shop@example.org", key_type=trustme.KeyType.ECDSA)
        client.private_key_pem.write_to_path(str(self.client_key))
        client.cert_chain_pems[0].write_to_path(str(self.client_certificate))


class TlsFront:
    """Ends TLS and passes the bytes on to a server, until closed; who speaks in the clear is passed on too.

    Args:
        target: the server's port on 127.0.0.1.
        certificates: what it shows.
        ask_client: whether clients must show a certificate of the same authority.
        host: where it listens.
        listen: its port there.

    Attributes:
        host: where it listens.
        port: its port there.
        target: the server's port.
        certificates: what it shows.
    """

    def __init__(
        self,
        target: int,
        certificates: Certificates,
        *,
        ask_client: bool = False,
        host: str = "127.0.0.1",
        listen: int = 0,
    ) -> None:
        self.host, self.target, self.certificates = host, target, certificates
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.server)
        if ask_client:
            self._context.load_verify_locations(certificates.ca)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._proxies: list[FaultProxy] = []
        self._lock = threading.Lock()
        self._links: dict[socket.socket, threading.Thread] = {}
        self._listener = socket.create_server((host, listen), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="tls-front", daemon=True)
        self._thread.start()

    def proxy(self) -> FaultProxy:
        """Return a fault proxy in front of the TLS."""
        self._proxies.append(FaultProxy(self.host, self.port))
        return self._proxies[-1]

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.close()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        with self._lock:
            links = dict(self._links)
        for client, thread in links.items():
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        with self._listener:
            while True:
                try:
                    client, _ = self._listener.accept()
                except OSError:
                    return
                thread = threading.Thread(target=self._serve, args=(client,), name="tls-front", daemon=True)
                with self._lock:
                    self._links[client] = thread
                thread.start()

    def _heard(self, client: socket.socket) -> socket.socket:
        if client.recv(1, socket.MSG_PEEK) != _HELLO:
            return client.dup()
        return self._context.wrap_socket(client.dup(), server_side=True)

    def _serve(self, client: socket.socket) -> None:
        """Serve one connection in one thread: an SSLSocket is no place for two."""
        with client, suppress(OSError), self._heard(client) as tls:
            tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a small record waits 40 ms
            with socket.create_connection(("127.0.0.1", self.target), timeout=10) as server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while True:
                    ready, _, _ = select.select([tls, server], [], [])
                    if server in ready:
                        if not (chunk := server.recv(_CHUNK)):
                            break
                        tls.sendall(chunk)
                    if tls in ready:
                        if not (chunk := tls.recv(_CHUNK)):  # a record is never longer
                            break
                        server.sendall(chunk)
        with self._lock:
            del self._links[client]
