"""From a Redis URL to what makes its clients.

``redis://user:password@host:6379/0``, ``rediss://…`` (TLS) and ``unix://…`` are redis-py's, with the options
it takes in them (``?ssl_ca_certs=/etc/ssl/shop.pem&socket_timeout=0.2``). Through Sentinels:
``redis+sentinel://user:password@sentinel1:26379,sentinel2:26379/service/0``, or ``rediss+sentinel://…``.
There the credentials are the server's; the Sentinels' own, if they have any, are ``?sentinel_username=`` and
``?sentinel_password=``. The options of sockets and of TLS hold for the Sentinels too.
"""

from __future__ import annotations

from pathlib import Path
from re import fullmatch
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

__all__ = ["OptionError", "client_maker"]

TIMEOUT = 0.05
"""Seconds for one answer, for connecting, and for a TLS handshake: a server that takes longer is treated as
down. The URL may say otherwise: ``?socket_timeout=0.2&socket_connect_timeout=0.5`` for one that is far away.
redis-py holds a handshake to ``socket_timeout``."""
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class OptionError(ValueError):
    """An option of a URL cannot be used; the text is its name, which may be shown."""


def client_maker(url: str) -> Callable[[], list[redis.Redis]]:
    """Return what makes the clients of *url*: the server's, behind it the Sentinels', none connected yet.

    What it returns raises FileNotFoundError when a file that the URL names is not there.

    Raises:
        ImportError: redis-py is not installed.
        OptionError: an option is unknown, or its value cannot be read.
        ValueError: the URL cannot be read.
    """
    import redis

    parts = urlsplit(url)
    _passed_over(parts)
    try:
        if parts.scheme.endswith("+sentinel"):
            make = _through_sentinels(parts)
        else:
            make = lambda: [redis.Redis.from_url(url, **_brief())]  # noqa: E731 - its twin is made elsewhere
        for client in make():
            client.connection_pool.make_connection()  # connects to nothing; refuses what it does not know
            _timed(client.connection_pool.connection_kwargs)
    except OptionError:
        raise
    except (AttributeError, TypeError, ValueError, redis.RedisError) as error:
        raise _refused(parts, str(error)) from None
    given = parse_qs(parts.query)

    def connectable() -> list[redis.Redis]:
        for name in _FILES:  # redis-py says that a file is missing, but not which
            if name in given and not Path(given[name][0]).is_file():
                raise FileNotFoundError(f"there is no '{given[name][0]}', which '{name}' names")
        return make()

    return connectable


def _passed_over(parts: SplitResult) -> None:
    """Refuse what redis-py passes over in silence, which is most often the rest of a password with / ? or #.

    Such a URL would lead to another server or database, and what is shown of it would be of the password.
    """
    plain = parts.scheme in ("redis", "rediss")
    if parts.fragment or (plain and not fullmatch("/*[0-9]*/*", unquote(parts.path))):
        raise ValueError("a Redis URL ends in /database and options")
    if parts.query:
        parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)


def _timed(options: dict[str, Any]) -> None:
    for name in ("socket_timeout", "socket_connect_timeout"):
        seconds = options.get(name, TIMEOUT)
        if seconds is not None and not 0 < seconds < float("inf"):
            raise OptionError(name)


def _brief() -> dict[str, Any]:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return {
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
    }


def _through_sentinels(parts: SplitResult) -> Callable[[], list[redis.Redis]]:
    from redis.sentinel import Sentinel

    user, _, netloc = parts.netloc.rpartition("@")
    hosts = [_host(each) for each in netloc.split(",")]
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not (database or "0").isdigit():
        raise ValueError("a Sentinel URL ends in /service or /service/database")
    given = _options(f"redis://{user}@sentinel/{database or 0}?{parts.query}")
    del given["host"]
    tls = parts.scheme == "rediss+sentinel"
    theirs = {key: value for key, value in given.items() if key.startswith(("socket_", "ssl_"))}
    for key in ("username", "password"):
        theirs[key] = given.pop(f"sentinel_{key}", None)

    def make() -> list[redis.Redis]:
        sentinel: Any = Sentinel(hosts, sentinel_kwargs={**_brief(), **theirs, "ssl": tls})  # type: ignore[no-untyped-call]
        master = sentinel.master_for(unquote(service), **{**_brief(), **given, "ssl": tls})
        return [master, *sentinel.sentinels]

    return make


def _options(url: str) -> dict[str, Any]:
    from redis.connection import parse_url

    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    return options


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit("//" + text)
    if not parts.hostname:
        raise ValueError("a Sentinel has no host")
    return parts.hostname, parts.port or 26379


def _refused(parts: SplitResult, said: str) -> ValueError:
    """Find the option that *said* complains of. What looks like one may be the rest of a password."""
    if "@" not in parts.query:
        for name, values in parse_qs(parts.query, keep_blank_values=True).items():
            if fullmatch("[a-z_]+", name) and (name in said or values[0] in said):
                return OptionError(name)
    return ValueError("the URL cannot be read")
