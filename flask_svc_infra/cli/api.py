"""One JSON request to Grafana or Prometheus, on the standard library alone.

A redirect is not followed: it would carry the token to wherever it points.
"""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import click

__all__ = ["base_url", "call", "query"]

TIMEOUT = 10.0
"""Seconds for one request; a server that takes longer is not one to wait for at a prompt."""
_OK = 200


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_opener = build_opener(_Stay, ProxyHandler({}))


def base_url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Read the address of a server (a click callback)."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise click.BadParameter("write it as in 'https://grafana.example:3000'", ctx, param)
    if parts.username is not None:
        raise click.BadParameter("no user or password in it: they would show in logs", ctx, param)
    return value.rstrip("/")


def call(
    url: str, *, method: str = "GET", body: Any = None, token: str | None = None
) -> tuple[int, dict[str, Any]]:
    """Send *body* as JSON and return status and answer, whatever the status is.

    Raises:
        ClickException: no answer came, or one that is no JSON object.
    """
    headers = {"Accept": "application/json"}
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(body).encode()
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = Request(url, data=data, headers=headers, method=method)  # noqa: S310 - base_url let http(s) only in
    try:
        with _opener.open(request, timeout=TIMEOUT) as reply:
            return reply.status, _parsed(reply.read(), url)
    except HTTPError as error:
        with error:
            return error.code, _parsed(error.read(), url, lenient=True)
    except (URLError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise click.ClickException(f"'{url}' did not answer ({reason}). Check the address.") from None


def _parsed(text: bytes, url: str, *, lenient: bool = False) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return answer
    if lenient:
        return {}
    raise click.ClickException(f"'{url}' answered, but not with a JSON object; is it the right server?")


def query(prometheus: str, expression: str) -> list[dict[str, Any]]:
    """Return the instant vector of *expression*.

    Raises:
        ClickException: Prometheus did not answer, or refused the query.
    """
    status, answer = call(f"{prometheus}/api/v1/query?{urlencode({'query': expression})}")
    if status != _OK or answer.get("status") != "success":
        raise click.ClickException(
            f"Prometheus refused the query ({status}): {answer.get('error', 'no reason')}"
        )
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result
