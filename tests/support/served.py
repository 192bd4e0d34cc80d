"""What the gunicorn tests serve."""

from __future__ import annotations

CONF = "python:flask_svc_infra.gunicorn"

APP = """
    import os, time
    from flask import Flask
    from flask_svc_infra.mounts import Answer, Probe, mounts_of
    from flask_svc_infra.ops import add_maintenance_mode, add_probes
    from flask_svc_infra.shortcut import install_shortcut

    app = Flask(__name__)
    app.config.from_prefixed_env()
    add_probes(app)
    add_maintenance_mode(app)

    def ready(environ):
        why = mounts_of(app).held("ready")
        return Answer(503 if why else 200, (why or "ready").encode(), "text/plain")

    mounts_of(app).probes["/ready"] = Probe("/ready", "ready", ready)

    @app.get("/pid")
    def pid():
        return str(os.getpid())

    @app.get("/slow")
    def slow():
        time.sleep(1)
        return "done"
"""
