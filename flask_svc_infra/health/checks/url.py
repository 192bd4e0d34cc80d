"""Does an HTTP endpoint answer with the status it should?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from ...errors import ConfigurationError
from ..redaction import describe, secrets_of
from .making import BuiltInCheck, Found, driver, healthy, not_configured, timed_out, unhealthy

if TYPE_CHECKING:
    from ..model import HealthCheckFn

__all__ = ["check_url"]

_SHORTEST_STATUS, _LONGEST_STATUS = 100, 599


def check_url(
    url: str | None,
    *,
    method: str = "GET",
    expected_status: int = 200,
    timeout: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> HealthCheckFn:
    """Make a check that sends one HTTP request and looks at the status code alone.

    Redirects are not followed: a redirect is an answer with a status of its own, and following it would
    report on a place nobody named (a login page says 200). The body is not read. Each run has a session of
    its own, so a run never meets a connection the server has given up. Proxies and CA bundles of the
    environment apply, as they do to the calls this check stands for.

    Args:
        url: ``http://`` or ``https://``; None or empty is reported as "not configured".
        method: the HTTP method.
        expected_status: the code that means healthy.
        timeout: seconds for each step (to connect, to wait for more of the answer's head); None: the
            registered timeout, which bounds the whole.
        headers: request headers; their values are taken for secrets.

    Raises:
        ConfigurationError: an argument cannot work; neither the URL's userinfo nor a header's value is shown.
        MissingDriverError: requests is not installed.
    """
    host = _require_url(url) if url else "url"
    _require_request(host, method, expected_status, headers)
    if not url:
        return not_configured(host, "endpoint", timeout=timeout)
    driver("requests", subject="check_url()", extra="http")
    sent = dict(headers or {})

    def look(seconds: float) -> Found:
        return _request(method.upper(), url, sent, expected_status, seconds)

    return BuiltInCheck(host, look, timeout=timeout, secrets=_secrets(url, sent))


def _request(method: str, url: str, headers: dict[str, str], expected_status: int, seconds: float) -> Found:
    import requests

    try:
        response = requests.request(
            method, url, headers=headers, timeout=seconds, allow_redirects=False, stream=True
        )
    except requests.RequestException as exc:
        if timed_out(exc):
            return unhealthy(f"Request timeout: timed out after {seconds:g}s")
        return unhealthy(f"Connection failed: {_root(exc)}")
    status = response.status_code
    response.close()
    if status == expected_status:
        return healthy(status_code=status)
    return unhealthy(f"Expected status {expected_status}, got {status}", status_code=status)


def _root(exc: BaseException) -> str:
    """Return what the innermost cause says: requests wraps it in texts that repeat the URL, path and all."""
    cause = exc
    while True:
        inner = cause.__cause__ or cause.__context__ or _wrapped(cause)
        if inner is None or inner is cause:
            return describe(cause)
        cause = inner


def _wrapped(exc: BaseException) -> BaseException | None:
    for each in (getattr(exc, "reason", None), *exc.args):
        if isinstance(each, BaseException):
            return each
    return None


def _secrets(url: str, headers: Mapping[str, str]) -> list[str]:
    parts = urlsplit(url)
    values = [value for _, value in parse_qsl(parts.query)]
    parameters = [word for value in headers.values() for word in (value, *value.split())]
    return [*secrets_of(url), parts.path, *values, *parameters]  # webhooks have their token in the path


def _require_url(url: Any) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
        if any(sign.isspace() for sign in url):
            host = None
    except (ValueError, TypeError, AttributeError):
        host = None
    if not host:
        raise ConfigurationError(
            "check_url was given a malformed URL (not shown: it may hold a password); no check was made. "
            "Write http://host[:port]/path or https://."
        )
    return str(host)


def _require_request(host: str, method: Any, expected_status: Any, headers: Any) -> None:
    if not isinstance(method, str) or not method.isalpha():
        raise ConfigurationError(
            f"check_url of '{host}' was given the method {method!r}; no check was made. "
            "Pass a word, as in 'GET'."
        )
    status = not isinstance(expected_status, bool) and isinstance(expected_status, int)
    if not status or not _SHORTEST_STATUS <= expected_status <= _LONGEST_STATUS:
        raise ConfigurationError(
            f"check_url of '{host}' was given expected_status={expected_status!r}; no check was made. "
            "Pass a code from 100 to 599."
        )
    if headers is not None and not _well_formed(headers):
        raise ConfigurationError(
            f"check_url of '{host}' was given headers that are no mapping of strings without line breaks "
            "(not shown: they may hold a token); no check was made. "
            "Pass a dict, as in {'Accept': 'application/json'}."
        )


def _well_formed(headers: Any) -> bool:
    if not isinstance(headers, Mapping):
        return False
    texts = [text for pair in headers.items() for text in pair]
    return all(isinstance(text, str) and not {"\r", "\n", "\0"} & set(text) for text in texts)
