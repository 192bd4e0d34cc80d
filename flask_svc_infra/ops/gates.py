"""The maintenance gate: the hook that refuses requests while maintenance is on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flask import Blueprint, current_app, request

from ..config import require_word
from ..errors import ConfigurationError
from ..health.openapi import show
from ..mounts import mounts_of, require_unserved, settings_of, under
from .bypass import Bypass, in_networks
from .flags import flag
from .maintenance import Maintenance, is_exempt
from .refusals import refuse
from .watch import Watch
from .windows import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Flask, Response

    from ..config import Settings
    from ..mounts import Mounts
    from .windows import Window

__all__ = ["add_maintenance_mode"]

PART = "ops.maintenance"
TEMPLATE = "svc_infra/maintenance.html"

_DEFAULT_VARIABLE = "MAINTENANCE_MODE"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_logger = logging.getLogger("flask_svc_infra.ops")


def add_maintenance_mode(
    app: Flask,
    *,
    env_var: str = "MAINTENANCE_MODE",
    exempt_prefixes: tuple[str, ...] | None = None,
    maintenance: Maintenance | None = None,
) -> None:
    """Refuse requests with 503 ``{"detail": "maintenance"}`` and Retry-After while maintenance is on.

    It is on while the environment variable is (GET, HEAD and OPTIONS then pass), or while *maintenance*
    says so. The variable is read at each request. The gate runs before every other hook of the app. The
    app's probes and metrics always pass. A browser gets the page ``svc_infra/maintenance.html``, which a
    template of that name among the app's own replaces.

    Args:
        app: the app, before its first request.
        env_var: the environment variable; the default gives way to ``SVC_INFRA_MAINTENANCE_ENV_VAR``.
        exempt_prefixes: paths under these pass too, by whole segments: ``/_ops`` does not exempt
            ``/_opsy``. None takes ``SVC_INFRA_MAINTENANCE_EXEMPT_PREFIXES``.
        maintenance: switches maintenance on by code and by schedule; one may serve several apps.

    Raises:
        ConfigurationError: a prefix that does not start with a slash, or exempts everything.
        RuntimeError: the app already has maintenance mode by this variable, or has served a request.
    """
    settings = settings_of(app)
    require_word("env_var", env_var)
    if env_var == _DEFAULT_VARIABLE:
        env_var = settings.maintenance_env_var
    if exempt_prefixes is None:
        exempt_prefixes = settings.maintenance_exempt_prefixes
    prefixes = _checked(exempt_prefixes)
    mounts = mounts_of(app)
    require_unserved(app, "maintenance mode")
    mounts.claim(
        f"maintenance mode by '{env_var}'",
        "Call add_maintenance_mode once per variable, or name another env_var.",
    )
    beside: Watch | None = mounts.parts.get(PART)
    if beside is None:
        _offer_page(app)
    watch = Watch(maintenance or Maintenance(), flag=flag(env_var), variable=env_var, beside=beside)
    mounts.parts[PART] = watch
    app.before_request(_gate(watch, _Doorkeeper(mounts, settings, prefixes)))
    hooks = app.before_request_funcs[None]
    hooks.insert(0, hooks.pop())


def _gate(watch: Watch, doorkeeper: _Doorkeeper) -> Callable[[], Response | None]:
    current = watch.current

    def maintenance_gate() -> Response | None:
        window = current()
        return None if window is None else doorkeeper.judge(window)

    return maintenance_gate


class _Doorkeeper:
    """Passes whom it may while maintenance is on, and refuses the rest."""

    def __init__(self, mounts: Mounts, settings: Settings, prefixes: tuple[str, ...]) -> None:
        self._mounts = mounts
        self._settings = settings
        self._prefixes = prefixes
        self._bypass = Bypass(settings.maintenance_bypass_token)

    def judge(self, window: Window) -> Response | None:
        """Return the current request's refusal, the redirect of a bypass link, or None to let it pass."""
        redirect = self._bypass.follow()
        if redirect is not None:
            return redirect
        if (window.mode is Mode.READ_ONLY and request.method in _SAFE) or self._passes():
            return None
        return self._refusal(window)

    def _passes(self) -> bool:
        path = request.path
        return (
            self._mounts.serves(path)
            or any(under(path, prefix) for prefix in self._prefixes)
            or _exempted()
            or in_networks(request.remote_addr, self._settings.maintenance_allow)
            or self._bypass.admits()
        )

    def _refusal(self, window: Window) -> Response:
        wait = window.wait(self._settings.maintenance_retry_after)
        response = refuse("maintenance", retry_after=wait)
        response.vary.add("Accept")
        accepted = request.accept_mimetypes
        if accepted.best_match(["application/json", "text/html"]) == "text/html":
            page = _page(window, wait)
            if page is not None:
                response.set_data(page)
                response.content_type = "text/html; charset=utf-8"
        return response


def _exempted() -> bool:
    endpoint = request.endpoint
    if endpoint is None:
        return False
    app = current_app
    return is_exempt(app.view_functions.get(endpoint)) or any(
        is_exempt(app.blueprints[name]) for name in request.blueprints
    )


def _page(window: Window, wait: int) -> str | None:
    """Render the page, without the app's context processors: they may need what is being maintained."""
    try:
        template = current_app.jinja_env.get_template(TEMPLATE)
        return template.render(
            mode=window.mode.value, reason=window.reason, retry_after=wait, request=request
        )
    except Exception:
        _logger.exception("the template '%s' could not be rendered; JSON was sent instead", TEMPLATE)
        return None


def _offer_page(app: Flask) -> None:
    name = "svc_infra_maintenance"
    while name in app.blueprints:
        name += "_"
    blueprint = Blueprint(name, __name__, template_folder="templates")
    show(blueprint, visible=False)
    app.register_blueprint(blueprint)


def _checked(prefixes: Iterable[Any]) -> tuple[str, ...]:
    prefixes = (prefixes,) if isinstance(prefixes, str) else tuple(prefixes)
    for prefix in prefixes:
        if not isinstance(prefix, str) or not prefix.startswith("/") or not prefix.strip("/"):
            raise ConfigurationError(
                f"the exempt prefix {prefix!r} cannot work; nothing was mounted. Give path prefixes that "
                "start with a slash and exempt less than everything, as in '/webhooks'."
            )
    return prefixes
