"""An app to close."""

from __future__ import annotations

from flask import Flask

from flask_svc_infra.ops import add_maintenance_mode, add_probes


def make_shop(*, config=None, **options):
    app = Flask("shop")
    app.config.update(config or {})

    @app.route("/orders", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def orders():
        return {"orders": []}

    add_probes(app)
    add_maintenance_mode(app, **options)
    return app
