"""Who asks, and whether another site made their browser do it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .text import plain

if TYPE_CHECKING:
    from flask import Request

__all__ = ["LOOK", "actor", "foreign"]

LOOK = "console"
"""The action of whoever looks, as ``metrics`` is that of a scrape."""

_LONGEST_ACTOR = 80
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def actor(request: Request) -> str:
    """Say who sends *request*, for the journal: the user it names, if it names one.

    It is as true as ``authorize`` makes it: a name that nobody checks is a claim.
    """
    authorization = request.authorization
    name = authorization.username if authorization is not None else None
    name = plain(str(name or request.remote_user or ""), _LONGEST_ACTOR).strip()
    return f"{LOOK}:{name}" if name else LOOK


def foreign(request: Request) -> str | None:
    """Say why *request*, which would change something, is none of this page's own; None when it may be.

    A browser says of each request who made it. ``Sec-Fetch-Site``, which no script can set, must say that
    the page itself or its user did (W3C, Fetch Metadata Request Headers, sent since 2023 by every browser
    over https and to localhost). Where it is missing, ``Origin`` must name the host the request came to (RFC
    6454; sent with every POST since 2020); the scheme is not compared, for behind a proxy that ends TLS it
    is not known here. A client that sends neither is no browser, so no site can have made it ask. This is
    the rule of Go's ``http.CrossOriginProtection``; it needs no token, no cookie and no secret key.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        if site in ("same-origin", "none"):
            return None
        return (
            f"another site made the browser send this (Sec-Fetch-Site: {plain(site, 40)}); nothing was "
            "changed. Open the console itself, and send it from there."
        )
    origin = request.headers.get("Origin")
    if origin is None or _host_of(origin) == _without_default_port(request.host):
        return None
    return (
        f"this was sent by a page of '{plain(origin, 100)}', and the console is at "
        f"'{plain(request.host, 100)}'; nothing was changed. Open the console itself, and send it from "
        "there. Behind a proxy that changes the Host header, use werkzeug's ProxyFix."
    )


def _host_of(origin: str) -> str | None:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        return None
    return parts.netloc.lower().removesuffix(_DEFAULT_PORTS[parts.scheme])


def _without_default_port(host: str) -> str:
    host = host.lower()
    for port in _DEFAULT_PORTS.values():
        if host.endswith(port):
            return host[: -len(port)]
    return host
