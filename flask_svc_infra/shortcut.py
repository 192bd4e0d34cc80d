"""The probe short cut: probes are answered at the WSGI entry, before Flask is asked.

No ``before_request`` of anyone (authentication, rate limits, redirects to https, maintenance) can fail a
probe, and liveness costs less than an empty view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .mounts import RULE_KEY, entry_of, mounts_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .mounts import Mounts

__all__ = ["flask_path", "install_shortcut", "shortcut"]

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


def install_shortcut(app: Any) -> None:
    """Let *app* answer its probes at the WSGI entry; once or several times makes no difference."""
    mounts = mounts_of(app)
    entry_of(app).shortcut(shortcut(mounts))


def shortcut(mounts: Mounts) -> Callable[[WSGIApplication], WSGIApplication]:
    """Return the middleware that answers GET and HEAD of the probes in *mounts*.

    Probes mounted later are answered too. The probe's URL rule is left in ``environ[RULE_KEY]``. Everything
    else goes to the inner application untouched, and so do other methods: Flask says 405 or answers
    OPTIONS.
    """
    find = mounts.find

    def middleware(inner: WSGIApplication) -> WSGIApplication:
        def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            method = environ["REQUEST_METHOD"]
            if method not in ("GET", "HEAD"):
                return inner(environ, start_response)
            probe = find(flask_path(environ))
            if probe is None:
                return inner(environ, start_response)
            environ[RULE_KEY] = probe.rule
            answer = probe.answer(environ)
            start_response(
                _STATUS_LINES[answer.status],
                [
                    ("Content-Type", answer.content_type),
                    ("Content-Length", str(len(answer.body))),
                    *answer.headers,
                ],
            )
            return (b"",) if method == "HEAD" else (answer.body,)

        return call

    return middleware


def flask_path(environ: Mapping[str, Any]) -> str:
    """Return the path as ``flask.request.path`` would: decoded from UTF-8, with exactly one leading slash.

    Routing reads it in the same way, so what a gate exempts and what a view serves cannot differ.
    """
    path: str = environ.get("PATH_INFO", "")
    if not path.isascii():
        path = path.encode("latin-1").decode("utf-8", "replace")
    if path.startswith("/") and not path.startswith("//"):
        return path
    return "/" + path.lstrip("/")
