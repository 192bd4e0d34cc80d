"""What the tests of the gates share."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_svc_infra.events import maintenance_changed
from flask_svc_infra.ops import add_maintenance_mode, add_probes, flags


@pytest.fixture(autouse=True)
def _nothing_complained_of(monkeypatch):
    monkeypatch.setattr(flags, "_complained", set())


@pytest.fixture
def shop():
    """An app with probes, maintenance mode and one view for every method."""
    return make_shop()


def make_shop(*, config=None, **options):
    app = Flask("shop")
    app.config.update(config or {})

    @app.route("/orders", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def orders():
        return {"orders": []}

    add_probes(app)
    add_maintenance_mode(app, **options)
    return app


@pytest.fixture
def changes():
    """Every ``MaintenanceChanged`` of the test, in order."""
    seen = []

    def listen(sender, event):
        seen.append(event)

    maintenance_changed.connect(listen)
    yield seen
    maintenance_changed.disconnect(listen)
