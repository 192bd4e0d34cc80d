from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_svc_infra.obs import add_observability


@pytest.fixture(params=["one process", "several processes"])
def mode(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Values in memory, and values in files: every rule holds for both."""
    if request.param == "one process":
        monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    else:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "metrics"))
    return str(request.param)


@pytest.fixture
def make_app(mode: str) -> Iterator[Callable[..., Flask]]:
    """Make a measured app with a handful of routes; what is measured is taken off after the test."""
    undo: list[Callable[[], None]] = []

    def make(name: str = "shop", *, config: dict[str, Any] | None = None, **options: Any) -> Flask:
        app = Flask(name, static_folder=None)
        app.config.update(config or {})

        @app.get("/items/<int:item>")
        def read_item(item: int) -> str:
            return f"item {item}"

        @app.post("/items")
        def create_item() -> tuple[str, int]:
            return "made", 201

        @app.get("/boom")
        def boom() -> str:
            raise RuntimeError("boom")

        undo.append(add_observability(app, **options))
        return app

    yield make
    for call in undo:
        call()
