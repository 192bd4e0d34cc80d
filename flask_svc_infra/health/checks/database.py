"""Does PostgreSQL answer SELECT 1?

The driver's blocking mode cannot be bounded: on a stopped server it waits for a reply past every timeout it
knows. So libpq is driven without blocking, and one deadline covers connecting, authenticating, the query
and the reply. Under gevent the same loop yields to the other greenlets.
"""

from __future__ import annotations

import re
import select
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ...errors import ConfigurationError
from ..forking import renew_in_children
from ..redaction import secrets_of
from .making import BuiltInCheck, Found, driver, healthy, not_configured, require_keep

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - the driver's class is lower case

    from ..model import HealthCheckFn

__all__ = ["check_database"]

_SCHEMES = re.compile(r"^(?:postgres|postgresql|postgresql\+(?:psycopg2|psycopg|asyncpg))://")
_LARGEST_PORT = 65_535


def check_database(
    url: str | None, *, timeout: float | None = None, keep_connection: bool = False
) -> HealthCheckFn:
    """Make a check that connects to PostgreSQL and runs ``SELECT 1``.

    Its one deadline stands in for ``connect_timeout`` and ``statement_timeout``, also where a pooler in
    between ignores those. Of a URL with several hosts the next is tried when one refuses, not when one hangs.

    Args:
        url: ``postgresql://`` or ``postgres://``, with ``+psycopg2``, ``+psycopg`` or ``+asyncpg`` as
            SQLAlchemy writes them; None or empty is reported as "not configured".
        timeout: seconds for the whole run; None: the registered timeout.
        keep_connection: whether the connection stays open between runs. One the server closed meanwhile (a
            restart) is opened anew in the same run.

    Raises:
        ConfigurationError: the URL is malformed; it is not shown, since it may hold a password.
        MissingDriverError: psycopg2 is not installed.
    """
    name = "database"
    require_keep("check_database", keep_connection)
    if not url:
        return not_configured(name, "database", timeout=timeout)
    _require_scheme(url)
    driver("psycopg2", subject="check_database()", extra="postgres")
    target = _target(url)
    kept = _Kept(target) if keep_connection else None

    def look(seconds: float) -> Found:
        deadline = time.monotonic() + seconds
        if kept is not None:
            return kept.select_1(deadline)
        opened = _open(target, deadline)
        try:
            return _select_1(opened, deadline)
        finally:
            opened.close()

    secrets = [*secrets_of(url), target.options.get("password", ""), target.options.get("sslpassword", "")]
    return BuiltInCheck(name, look, timeout=timeout, secrets=[secret for secret in secrets if secret])


class _Target(NamedTuple):
    """Where to connect: the URL as libpq takes it, and what it says."""

    dsn: str
    options: dict[str, str]


def _open(target: _Target, deadline: float) -> Connection:
    import psycopg2

    # The kernel gives up on unacknowledged data at the deadline too: the socket does not outlive the run.
    patience = max(1, int((deadline - time.monotonic()) * 1000))
    wished = {"application_name": "flask-svc-infra-check", "tcp_user_timeout": patience}
    ours: dict[str, Any] = {key: value for key, value in wished.items() if key not in target.options}
    opened: Connection = psycopg2.connect(target.dsn, async_=True, **ours)
    try:
        _until_ready(opened, deadline)
    except BaseException:
        opened.close()
        raise
    return opened


def _select_1(opened: Connection, deadline: float) -> Found:
    with opened.cursor() as cursor:
        cursor.execute("SELECT 1")
        _until_ready(opened, deadline)
        cursor.fetchone()
    return healthy()


def _until_ready(opened: Connection, deadline: float) -> None:
    from psycopg2.extensions import POLL_READ, POLL_WRITE

    wanted = {POLL_READ: select.POLLIN, POLL_WRITE: select.POLLOUT}
    while (state := opened.poll()) in wanted:  # it raises when the connection fails
        poller = select.poll()
        poller.register(opened.fileno(), wanted[state])
        left = deadline - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            raise TimeoutError


class _Kept:
    """One connection kept between runs; runs of one check never overlap, direct calls wait for each other."""

    def __init__(self, target: _Target) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._opened: Connection | None = None
        renew_in_children(self)

    def select_1(self, deadline: float) -> Found:
        from psycopg2 import Error

        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TimeoutError
        try:
            if self._opened is not None:
                try:
                    return _select_1(self._opened, deadline)
                except Error:  # the server closed it; one that hangs is a TimeoutError and is not tried twice
                    self._close()
            self._opened = _open(self._target, deadline)
            return _select_1(self._opened, deadline)
        except BaseException:
            self._close()
            raise
        finally:
            self._lock.release()

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def renew(self) -> None:
        """Leave the connection to the parent, in a forked child: the driver knows whose it is."""
        self._lock = threading.Lock()
        self._opened = None


def _require_scheme(url: Any) -> None:
    if not isinstance(url, str) or not _SCHEMES.match(url):
        raise _malformed()


def _target(url: str) -> _Target:
    dsn = _SCHEMES.sub("postgresql://", url)
    if "+asyncpg://" in url:  # what libpq calls sslmode
        dsn = re.sub(r"([?&])ssl=", r"\1sslmode=", dsn)
    options = _parsed(dsn)
    if options is None:  # raised out here: the driver's error repeats the URL, and must not be the context
        raise _malformed()
    return _Target(dsn, options)


def _parsed(dsn: str) -> dict[str, str] | None:
    from psycopg2 import Error
    from psycopg2.extensions import parse_dsn

    try:
        urlsplit(dsn)
        options = dict(parse_dsn(dsn))
        ports = [int(port) for port in options.get("port", "").split(",") if port]
    except (Error, ValueError):
        return None
    return options if all(1 <= port <= _LARGEST_PORT for port in ports) else None


def _malformed() -> ConfigurationError:
    return ConfigurationError(
        "check_database was given a malformed URL (not shown: it may hold a password); no check was made. "
        "Write postgresql://user:password@host:port/database. Other databases have check_sqlalchemy(engine)."
    )
