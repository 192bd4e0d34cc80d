"""Who may pass during maintenance all the same: networks, and those who hold the bypass token.

A program sends the token itself in the header ``X-Maintenance-Bypass``. A person opens a link that carries a
signature made with the token instead, valid for an hour, because links end up in histories and logs; the
browser is given a signed cookie and sent on to the same address without the signature. Changing the token
invalidates every link and cookie.
"""

from __future__ import annotations

from hmac import compare_digest
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from flask import redirect, request
from itsdangerous import BadSignature, TimestampSigner

from ..errors import ConfigurationError
from ..mounts import settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flask import Flask, Response

    from ..config import Network

__all__ = ["COOKIE", "HEADER", "PARAMETER", "Bypass", "bypass_link", "in_networks"]

HEADER = "X-Maintenance-Bypass"
COOKIE = "svc_infra_maintenance_bypass"
PARAMETER = "svc_infra_bypass"
LINK_SECONDS = 3600
COOKIE_SECONDS = 12 * 3600
"""A long night's work."""


class Bypass:
    """Recognises the token, its links and its cookies; knows nobody when there is no token."""

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else token.encode()
        if token is not None:
            self._links = TimestampSigner(token, salt="flask-svc-infra.bypass-link")
            self._cookies = TimestampSigner(token, salt="flask-svc-infra.bypass-cookie")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'no token' if self._token is None else 'a token'})"

    def admits(self) -> bool:
        """Tell whether the current request carries the token or a cookie made with it."""
        if self._token is None:
            return False
        given = request.headers.get(HEADER)
        if given is not None and compare_digest(given.encode("utf-8", "replace"), self._token):
            return True
        cookie = request.cookies.get(COOKIE)
        return cookie is not None and _valid(self._cookies, cookie, COOKIE_SECONDS)

    def follow(self) -> Response | None:
        """If the current request opened a bypass link, return the redirect that sets the cookie."""
        if self._token is None or request.method != "GET":
            return None
        signature = request.args.get(PARAMETER)
        if signature is None or not _valid(self._links, signature, LINK_SECONDS):
            return None
        rest = [(name, value) for name, value in request.args.items(multi=True) if name != PARAMETER]
        target = quote(request.root_path + request.path)
        response = redirect(target + ("?" + urlencode(rest) if rest else ""))
        response.set_cookie(
            COOKIE,
            self._cookies.sign("pass").decode(),
            max_age=COOKIE_SECONDS,
            path=request.root_path or "/",
            secure=request.is_secure,
            httponly=True,
            samesite="Lax",
        )
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response  # type: ignore[return-value] # werkzeug's type; Flask makes it its own

    def sign(self) -> str:
        """Return a signature for a link."""
        if self._token is None:
            raise ConfigurationError(
                "the app has no bypass token; no link was made. Set SVC_INFRA_MAINTENANCE_BYPASS_TOKEN to at "
                "least 16 random characters."
            )
        return self._links.sign("pass").decode()


def bypass_link(app: Flask, url: str) -> str:
    """Return *url* with a signature that lets a browser pass *app*'s maintenance, good for an hour.

    Raises:
        ConfigurationError: the app has no bypass token.
    """
    signature = Bypass(settings_of(app).maintenance_bypass_token).sign()
    parts = urlsplit(url)
    parameter = urlencode({PARAMETER: signature})
    query = f"{parts.query}&{parameter}" if parts.query else parameter
    return urlunsplit(parts._replace(path=parts.path or "/", query=query))


def in_networks(address: str | None, networks: Sequence[Network]) -> bool:
    """Tell whether *address* lies in one of *networks*; an IPv4 address mapped into IPv6 counts as itself.

    A client on a unix socket has no address and lies in none.
    """
    if not networks or not address:
        return False
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return any(ip in network for network in networks)


def _valid(signer: TimestampSigner, signed: str, seconds: int) -> bool:
    try:
        return signer.unsign(signed.encode("utf-8", "replace"), max_age=seconds) == b"pass"
    except BadSignature:
        return False
