"""What the tests of the gates share."""

from __future__ import annotations

import pytest
from ops._shop import make_shop

from flask_svc_infra.events import maintenance_changed
from flask_svc_infra.ops import flags


@pytest.fixture(autouse=True)
def _nothing_complained_of(monkeypatch):
    monkeypatch.setattr(flags, "_complained", set())


@pytest.fixture
def shop():
    """An app with probes, maintenance mode and one view for every method."""
    return make_shop()


@pytest.fixture
def changes():
    """Every ``MaintenanceChanged`` of the test, in order."""
    seen = []

    def listen(sender, event):
        seen.append(event)

    maintenance_changed.connect(listen)
    yield seen
    maintenance_changed.disconnect(listen)
