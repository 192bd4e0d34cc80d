"""Extensions a Flask service already has, put on an app."""

from __future__ import annotations

from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_talisman import Talisman
from flask_wtf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix


def limiter(app):
    return Limiter(get_remote_address, app=app, default_limits=["3 per hour"], storage_uri="memory://")


def talisman(app):
    Talisman(app)


def csrf(app):
    app.config["SECRET_KEY"] = "0123456789"
    CSRFProtect(app)


def proxy_fix(app):
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)
