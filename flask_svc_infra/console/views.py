"""The Flask edge of the console: one page, one form's target, one stylesheet.

Nothing of the app takes part in what is sent: the page is rendered by an environment of its own, so that no
filter, context processor or switched-off escaping of the app's reaches it, and its headers are set when the
response leaves, after every hook.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flask import Blueprint, Request, Response, current_app, request
from jinja2 import Environment, StrictUndefined
from werkzeug.exceptions import HTTPException

from ..access import Access
from ..errors import ConfigurationError
from ..health.openapi import show
from ..mounts import mounts_of
from .asker import LOOK, actor, foreign
from .desk import Desk, Refused
from .form import ACTIONS, CIRCUIT_ACTIONS, MAINTENANCE_ACTIONS, order_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from werkzeug.datastructures import Headers

    from ..health.registry import HealthRegistry
    from ..resilience import Breakers
    from ..state.reporter import Reporter

__all__ = ["add_console"]

_FORM = "application/x-www-form-urlencoded"
_LONGEST_BODY = 16_384
"""Bytes: a name and a reason, percent-encoded."""
_CHOICES = ("circuit", "maintenance")
_REFRESH = range(5, 3601)
_STYLE_LASTS = "public, max-age=3600"

_OK, _SEE_OTHER, _BAD, _FORBIDDEN, _NOT_FOUND = 200, 303, 400, 403, 404
_LENGTH_REQUIRED, _TOO_LARGE, _NO_FORM = 411, 413, 415

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not no-referrer: with it a browser sends `Origin: null` with the page's own forms (Fetch, "serializing
    # a request origin"), and over plain http there would be nothing left to tell them by.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}
_logger = logging.getLogger("flask_svc_infra.console")


class _Answer(Response):
    """A response whose headers no hook of the app can loosen."""

    def get_wsgi_headers(self, environ: Any) -> Headers:
        """Return the headers as they are sent."""
        headers = super().get_wsgi_headers(environ)
        keeps = self.mimetype == "text/css"
        for name in [name for name, _ in headers if name.lower().startswith("access-control-")]:
            headers.remove(name)  # flask-cors would let the pages of other sites read this one
        headers.update({**_HEADERS, "Cache-Control": _STYLE_LASTS} if keeps else _HEADERS)
        return headers


def add_console(
    app: Flask,
    *,
    path: str,
    authorize: Callable[[Request, str], bool] | None,
    registry: HealthRegistry,
    breakers: Breakers,
    reporter: Reporter | None,
    namespace: str = "default",
    max_age: float = 1.0,
) -> None:
    """Serve the operations page at *path*.

    Args:
        app: the app, before its first request.
        path: where.
        authorize: says who may look (``console``) and act (``breaker.force_open``, ``breaker.disable``,
            ``breaker.reset``, ``maintenance.enable``, ``maintenance.disable``).
        registry: the health checks to show.
        breakers: the circuits to show and to order.
        reporter: talks to the store that the workers share; None where they share none.
        namespace: whose state it is.
        max_age: how old a check's result may be, in seconds, that is shown without running it again.

    Raises:
        ConfigurationError: *authorize* cannot be asked.
    """
    mounts = mounts_of(app)
    desk = Desk(
        service=app.name,
        namespace=namespace,
        mounts=mounts,
        registry=registry,
        breakers=breakers,
        reporter=reporter,
        max_age=max_age,
    )
    console = _Console(desk, Access(authorize), path)
    name = "svc_infra_console"
    while name in app.blueprints:
        name += "_"
    blueprint = Blueprint(name, __name__)
    show(blueprint, visible=False)
    blueprint.url_value_preprocessor(_exempt_from_csrf_tokens)
    # Where an app tells its hosts apart, a rule without a host would be found on none of them.
    options: dict[str, Any] = {"host": "<_host>"} if app.url_map.host_matching else {}
    options |= {"strict_slashes": False, "provide_automatic_options": False}
    blueprint.add_url_rule(path, "page", console.page, methods=["GET"], **options)
    blueprint.add_url_rule(path, "order", console.order, methods=["POST"], **options)
    blueprint.add_url_rule(console.style_path, "style", console.style, methods=["GET"], **options)
    app.register_blueprint(blueprint)
    mounts.open_paths += (path, f"{path}/", console.style_path)


def _exempt_from_csrf_tokens(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
    """Take this blueprint out of Flask-WTF's CSRFProtect, which knows tokens alone; see `access.foreign`.

    Asked at each of our requests, before every hook that may refuse it: the two may be set up in any order.
    """
    protection = current_app.extensions.get("csrf")
    exempt = getattr(protection, "exempt", None)
    if callable(exempt) and request.blueprint is not None:
        exempt(current_app.blueprints[request.blueprint])


class _Console:
    def __init__(self, desk: Desk, access: Access, path: str) -> None:
        package = files(__package__ or "flask_svc_infra.console")
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        source = package.joinpath("templates", "console.html").read_text(encoding="utf-8")
        self._template = environment.from_string(source)
        self._css = package.joinpath("static", "console.css").read_bytes()
        self._digest = hashlib.sha256(self._css).hexdigest()[:12]
        self._desk = desk
        self._access = access
        self._path = path
        self.style_path = f"{path}/style.css"

    def style(self, **_: Any) -> Response:
        """Serve the stylesheet: these bytes, whatever is asked."""
        return _Answer(self._css, content_type="text/css; charset=utf-8")

    def page(self, **_: Any) -> Response:
        """Show how the service is."""
        asked = _request()
        if not self._access.allows(asked, LOOK):
            return _words(_FORBIDDEN, "not authorized to look at the console")
        # Which form is shown, and no more: a link must not fill in what its reader would then send.
        return self._render(asked, {key: asked.args[key] for key in _CHOICES if key in asked.args})

    def order(self, **_: Any) -> Response:
        """Do what a form asks, and lead back to the page, which shows what came of it."""
        asked = _request()
        why = foreign(asked)
        if why is not None:
            _logger.warning("a POST to the console was refused: %s", why)
            return _words(_FORBIDDEN, why)
        if not self._access.allows(asked, LOOK):
            return _words(_FORBIDDEN, "not authorized to look at the console")
        refusal = _body_refused(asked)
        if refusal is not None:
            return refusal
        try:
            self._carry_out(asked)
        except Refused as refused:
            return self._render(asked, asked.form, status=refused.status, alert=str(refused))
        return _Answer(status=_SEE_OTHER, headers={"Location": self._here(asked)})

    def _carry_out(self, asked: Request) -> None:
        action = asked.form.get("action", "")
        if action not in ACTIONS:
            raise Refused(_BAD, "nothing was chosen; nothing was changed. Choose what is to be done.")
        if not self._access.allows(asked, action):
            raise Refused(_FORBIDDEN, f"not authorized for '{action}'; nothing was changed.")
        if not self._desk.shared:
            raise Refused(409, self._desk.cure)
        try:
            order = order_of(asked.form)
        except ConfigurationError as error:
            raise Refused(_BAD, str(error)) from None
        self._desk.carry_out(order, actor(asked))

    def _render(
        self, asked: Request, filled: Mapping[str, str], *, status: int = _OK, alert: str | None = None
    ) -> Response:
        view = self._desk.look()
        may = self._offered(asked) if view.store.shared else frozenset[str]()
        may_circuits = [action for action in CIRCUIT_ACTIONS if action in may]
        may_switch = [action for action in MAINTENANCE_ACTIONS if action in may and view.switch is not None]
        wanted = filled.get("circuit", "")
        chosen = next((row for row in view.circuits if row.name == wanted and row.orderable), None)
        if wanted and chosen is None and alert is None:
            status, alert = _NOT_FOUND, "no circuit of this name is shown here; nothing was changed."
        switching = not wanted and ("maintenance" in filled or filled.get("action") in MAINTENANCE_ACTIONS)
        every = asked.args.get("every", type=int)
        page = self._template.render(
            view=view,
            here=self._here(asked),
            style=f"{self._here(asked)}/style.css?v={self._digest}",
            alert=alert,
            cure=self._desk.cure,
            may_circuits=may_circuits,
            may_switch=may_switch,
            chosen=chosen if may_circuits else None,
            switching=switching and bool(may_switch),
            filled=filled,
            every=every if every in _REFRESH and not chosen and not switching and status == _OK else None,
        )
        answer = _Answer(page, status, content_type="text/html; charset=utf-8")
        if status == 503:  # noqa: PLR2004
            answer.headers["Retry-After"] = "1"
        return answer

    def _offered(self, asked: Request) -> frozenset[str]:
        return frozenset(action for action in ACTIONS if self._offers(asked, action))

    def _offers(self, asked: Request, action: str) -> bool:
        try:
            return self._access.allows(asked, action)
        except HTTPException:
            return False

    def _here(self, asked: Request) -> str:
        """Return the page's path as the browser knows it, with what a proxy or a mount took from it."""
        return quote(asked.root_path.rstrip("/") + self._path, safe="/!$&'()*+,;=:@~")


def _request() -> Request:
    return request._get_current_object()  # type: ignore[attr-defined,no-any-return]  # noqa: SLF001 - flask's own


def _body_refused(asked: Request) -> Response | None:
    # A body whose length nobody promised could be endless.
    length = asked.content_length
    if length is None or "Transfer-Encoding" in asked.headers:
        return _words(_LENGTH_REQUIRED, "send the form with its Content-Length")
    if length > _LONGEST_BODY:
        return _words(_TOO_LARGE, f"a form of {length} bytes; send {_LONGEST_BODY} at most")
    if asked.mimetype != _FORM:
        return _words(_NO_FORM, f"send a form as {_FORM}")
    return None


def _words(status: int, text: str) -> Response:
    return _Answer(f"{text}\n", status, content_type="text/plain; charset=utf-8")
