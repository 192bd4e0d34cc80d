"""Apps with a console, and what a person does with it."""

from __future__ import annotations

import pytest
from console.reading import Page
from flask import Flask

from flask_svc_infra import SvcInfra
from flask_svc_infra.state import reporter


class Console:
    """One worker's app, and a person at its console."""

    def __init__(self, app, infra, *, path="/_ops/console"):
        self.app = app
        self.infra = infra
        self.client = app.test_client()
        self.path = path

    def page(self, query="", **options):
        return Page(self.client.get(self.path + query, **options))

    def post(self, action=None, *, headers=None, **fields):
        data = {**({} if action is None else {"action": action}), **fields}
        return self.client.post(self.path, data=data, headers=headers)

    @property
    def reporter(self):
        return self.infra._sharing[1]


@pytest.fixture
def quick_polls(monkeypatch):
    """Polls every fifth of a second; their own second is for the test under gunicorn."""
    monkeypatch.setattr(reporter, "POLL", (0.2, 0.22))


@pytest.fixture
def console(tmp_path, quick_polls):
    """Make workers of one service: ``console()``, each with a person at it who may do everything."""
    made = []

    def make(
        url=f"sqlite:///{tmp_path / 'state.db'}",
        *,
        authorize=lambda _request, _action: True,
        prepare=None,
        **config,
    ):
        app = Flask("shop")
        app.config.update(SVC_INFRA_STATE_URL=url, SVC_INFRA_CONSOLE=True, **config)
        infra = SvcInfra(authorize=authorize)
        infra.breaker("payments", failure_threshold=2, recovery_timeout=60)
        if prepare is not None:
            prepare(app)
        infra.init_app(app)
        made.append(infra)
        return Console(app, infra)

    yield make
    for infra in made:
        if infra._sharing is not None:
            infra._sharing[1].stop()
