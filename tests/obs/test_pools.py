"""SQLAlchemy pools: read at a scrape, counted as it happens, and left alone afterwards."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from obs.reading import scrape
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool, QueuePool

Make = Callable[..., Flask]


@pytest.fixture
def engine(tmp_path: Any) -> Iterator[Any]:
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db", poolclass=QueuePool, pool_size=2, max_overflow=1)
    yield engine
    engine.dispose()


def test_pool_shows_what_is_in_use(make_app: Make, engine: Any) -> None:
    client = make_app(db_engines=[engine]).test_client()
    before = scrape(client)("db_pool_checkedout_total", pool="shop")
    connections = [engine.connect() for _ in range(3)]
    found = scrape(client)
    assert found("db_pool_size", pool="shop") == 2
    assert found("db_pool_in_use", pool="shop") == 3
    assert found("db_pool_available", pool="shop") == 0
    assert found("db_pool_overflow", pool="shop") == 1
    assert found("db_pool_checkedout_total", pool="shop") == before + 3
    for connection in connections:
        connection.close()
    found = scrape(client)
    assert found("db_pool_in_use", pool="shop") == 0
    assert found("db_pool_checkedin_total", pool="shop") == before + 3


def test_engine_of_two_apps_is_counted_once(make_app: Make, tmp_path: Any) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/shared.db")
    one, two = make_app("one", db_engines=[engine]), make_app("two", db_engines=[engine, engine])
    pool = "shared"
    before = scrape(one.test_client())("db_pool_checkedout_total", pool=pool)
    engine.connect().close()
    for app in (one, two):
        assert scrape(app.test_client())("db_pool_checkedout_total", pool=pool) == before + 1
    engine.dispose()


def test_two_engines_with_one_name_are_told_apart(make_app: Make, engine: Any, tmp_path: Any) -> None:
    (tmp_path / "other").mkdir()
    twin = create_engine(f"sqlite:///{tmp_path}/other/shop.db", poolclass=QueuePool)
    client = make_app(db_engines=[engine, twin]).test_client()
    assert scrape(client).has("db_pool_size", pool="shop-2")
    twin.dispose()


def test_given_name_is_used(make_app: Make, tmp_path: Any) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/x.db", poolclass=QueuePool, pool_logging_name="orders")
    assert scrape(make_app(db_engines=[engine]).test_client()).has("db_pool_size", pool="orders")
    engine.dispose()


def test_pool_without_a_size_is_counted_only(make_app: Make, tmp_path: Any) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/null.db", poolclass=NullPool)
    client = make_app(db_engines=[engine]).test_client()
    before = scrape(client)("db_pool_checkedout_total", pool="null")
    engine.connect().close()
    found = scrape(client)
    assert found("db_pool_checkedout_total", pool="null") == before + 1
    assert not found.has("db_pool_size", pool="null")


def test_undoing_stops_it_and_frees_the_engine(mode: str, tmp_path: Any) -> None:
    from sqlalchemy import event

    from flask_svc_infra.obs import add_observability
    from flask_svc_infra.obs.pools import _measured

    engine = create_engine(f"sqlite:///{tmp_path}/gone.db", poolclass=QueuePool)
    undo = add_observability(Flask("pools"), db_engines=[engine])
    pool = _measured[engine]
    assert event.contains(engine, "checkout", pool._on_checkout)
    undo()
    assert not event.contains(engine, "checkout", pool._on_checkout)
    assert engine not in _measured
    gc.collect()
