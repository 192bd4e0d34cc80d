"""One GET with a deadline, on the standard library alone: the probe and the ``health`` commands ask with it.

The server that is named is asked, nobody else: proxies from the environment are ignored and redirects are not
followed (a login page's 200 is nobody's health).
"""

from __future__ import annotations

import http.client
import math
import socket
import threading
import time
from base64 import b64encode
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

__all__ = ["LONGEST_BODY", "Answer", "Target", "Unreachable", "fetch", "parse_seconds", "parse_url"]

LONGEST_BODY = 64 * 1024
"""Bytes of a body that are read at most: far more than a health report needs, and the end of a wrong URL that
streams for ever."""

_UNESCAPED = "/%:@!$&'()*+,;=~?[]"


class Target(NamedTuple):
    """A URL that can be asked.

    Attributes:
        secure: whether it is https.
        host: the host's name or address, without brackets.
        port: the port, None for the scheme's own.
        path: path and query, as sent.
        authorization: the header made of the URL's user and password; None without them.
        shown: the URL as it may be shown: no user, no password, no query.
    """

    secure: bool
    host: str
    port: int | None
    path: str
    authorization: str | None
    shown: str


class Answer(NamedTuple):
    """What the server said.

    Attributes:
        status: the HTTP status code.
        reason: the words that came with it.
        location: where a redirect pointed; None without one.
        body: the first :data:`LONGEST_BODY` bytes of the body.
        seconds: how long it took, from the first step to the last byte read.
    """

    status: int
    reason: str
    location: str | None
    body: bytes
    seconds: float

    @property
    def good(self) -> bool:
        """Whether this counts as healthy: any 2xx does, nothing else does."""
        return 200 <= self.status <= 299  # noqa: PLR2004 - the 2xx range


class Unreachable(Exception):  # noqa: N818 - read as a word: except Unreachable
    """No whole answer came; the message says why in one sentence."""


def parse_url(url: str) -> Target:
    """Read *url*.

    Raises:
        ValueError: it is not an http or https URL with a host; the message has the cure and no password.
    """
    cure = "Write it as in 'http://127.0.0.1:8000/_health/ready'."
    if not url.isprintable() or " " in url:
        raise ValueError(f"the URL has a space or a control character in it, so it cannot be asked. {cure}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"the URL cannot be read: {error}. {cure}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"the URL's scheme is '{parts.scheme}', not http or https. {cure}")
    if not host:
        raise ValueError(f"the URL names no host. {cure}")
    path = quote(parts.path or "/", safe=_UNESCAPED)
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b64encode(pair.encode()).decode()
    return Target(
        secure=parts.scheme == "https",
        host=host,
        port=port,
        path=path + (f"?{quote(parts.query, safe=_UNESCAPED)}" if parts.query else ""),
        authorization=authorization,
        shown=f"{parts.scheme}://{place}{parts.path}",
    )


def parse_seconds(text: str) -> float:
    """Read a number of seconds above zero.

    Raises:
        ValueError: it is none; the message ends in the cure.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds <= 0:
        raise ValueError(f"'{text}' is not a number of seconds above zero. Write it as in '2.5'.")
    return seconds


def fetch(target: Target, *, timeout: float) -> Answer:
    """Ask *target* once and return its answer within *timeout* seconds, whatever the server does.

    The exchange runs in a daemon thread of its own, because neither a name look-up nor a reply that drips
    byte by byte ends at a socket's timeout. At the deadline the socket is shut, which ends the thread.

    Raises:
        Unreachable: no whole answer came in time.
    """
    exchange = _Exchange(target, timeout)
    thread = threading.Thread(target=exchange.run, name="flask-svc-infra-fetch", daemon=True)
    thread.start()
    if not exchange.done.wait(timeout):
        exchange.abandon()
        raise Unreachable(f"Request timeout after {timeout:g}s")
    if exchange.answer is None:
        raise Unreachable(exchange.problem)
    return exchange.answer


class _Exchange:
    """One request on one connection, run in one thread and abandoned from another."""

    def __init__(self, target: Target, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self.started = time.monotonic()
        self.done = threading.Event()
        self.answer: Answer | None = None
        self.problem = ""
        self._lock = threading.Lock()
        self._abandoned = False
        self._socket: socket.socket | None = None

    def run(self) -> None:
        """Make the request; leaves an answer or a problem behind."""
        try:
            self.answer = self._ask()
        except Exception as error:
            self.problem = _in_words(error, self.target, self.timeout)
        finally:
            self.done.set()

    def abandon(self) -> None:
        """Shut the socket, so that a read under way ends now."""
        with self._lock:
            self._abandoned = True
            if self._socket is not None:
                _shut(self._socket)

    def _ask(self) -> Answer:
        target = self.target
        kind = http.client.HTTPSConnection if target.secure else http.client.HTTPConnection
        connection = kind(target.host, target.port, timeout=self.timeout)
        try:
            connection.connect()
            with self._lock:
                # Kept aside: http.client lets go of it as soon as the headers say "close".
                self._socket = connection.sock
                if self._abandoned:
                    raise TimeoutError
            connection.request("GET", target.path, headers=_headers(target))
            with connection.getresponse() as response:
                body = response.read(LONGEST_BODY)
                if response.length and len(body) < LONGEST_BODY:
                    raise http.client.IncompleteRead(body, response.length)
                seconds = time.monotonic() - self.started
                return Answer(response.status, response.reason, response.headers["Location"], body, seconds)
        finally:
            connection.close()


def _headers(target: Target) -> dict[str, str]:
    headers = {
        "User-Agent": "flask-svc-infra-probe",
        "Accept": "application/json, */*;q=0.5",
        "Connection": "close",
    }
    if target.authorization is not None:
        headers["Authorization"] = target.authorization
    return headers


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The other side was quicker: it is shut, which is all that was wanted.
        return


def _in_words(error: Exception, target: Target, timeout: float) -> str:  # noqa: PLR0911 - one for each kind
    if isinstance(error, TimeoutError):
        return f"Request timeout after {timeout:g}s"
    if isinstance(error, socket.gaierror):
        return f"Connection failed: the host '{target.host}' has no address ({error.strerror})"
    if isinstance(error, http.client.IncompleteRead):
        return f"The answer broke off after {len(error.partial)} bytes"
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError):
        return "The server closed the connection without an answer"
    if isinstance(error, http.client.HTTPException):
        return f"The server did not answer in HTTP ({type(error).__name__})"
    if isinstance(error, OSError):
        return f"Connection failed: {error.strerror or error}"
    return f"{type(error).__name__}: {error}"
