"""What the metric tests share: the names, an app to measure, and one look into a scrape."""

from __future__ import annotations

from contract._parts import Boom, bare_app, value
from flask import Flask, abort

from flask_svc_infra.obs import add_observability

TOTAL = "http_requests_total"
COUNT = "http_request_duration_seconds_count"
SUM = "http_request_duration_seconds_sum"
BUCKET = "http_request_duration_seconds_bucket"
ACTIVE = "http_requests_in_progress"


def shop(**options) -> Flask:
    app = bare_app()
    app.add_url_rule("/", "home", lambda: "home")
    app.add_url_rule("/users/<int:user>", "user", lambda user: f"user {user}", methods=["GET", "POST"])

    @app.get("/boom")
    def boom():
        raise Boom

    @app.get("/teapot")
    def teapot():
        abort(418)

    add_observability(app, **options)
    return app


def requests(samples, **labels):
    return value(samples, TOTAL, **labels)
