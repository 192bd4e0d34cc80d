"""check_sqlalchemy through real pools: PostgreSQL whole and broken, SQLite."""

import sys

import pytest
import sqlalchemy
from flask import Flask, current_app

from flask_svc_infra import ConfigurationError, MissingDriverError
from flask_svc_infra.health import HealthRegistry, HealthStatus, add_health_routes, check_sqlalchemy

HEALTHY, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.UNHEALTHY


@pytest.fixture
def engine(postgres):
    engine = sqlalchemy.create_engine(
        postgres.url.replace("postgresql", "postgresql+psycopg2", 1),
        pool_size=1,
        max_overflow=0,
        pool_timeout=0.2,
    )
    yield engine
    engine.dispose()


def test_running_server_is_healthy_and_the_connection_goes_back(engine):
    check = check_sqlalchemy(engine)
    for _ in range(3):
        assert check().status is HEALTHY
    assert check.name == "database"
    assert engine.pool.checkedout() == 0
    assert engine.pool.checkedin() == 1


def test_pool_survives_a_restart_unnoticed(engine, postgres):
    check = check_sqlalchemy(engine)
    assert check().status is HEALTHY
    postgres.restart()
    assert check().status is HEALTHY


def test_exhausted_pool_is_unhealthy(engine):
    with engine.connect():
        result = check_sqlalchemy(engine)()
    assert result.status is UNHEALTHY
    assert check_sqlalchemy(engine)().status is HEALTHY


def test_killed_server_is_unhealthy(engine, postgres):
    postgres.kill()
    result = check_sqlalchemy(engine)()
    assert result.status is UNHEALTHY
    assert "refused" in result.message


def test_stopped_server_holds_one_run_and_no_answer(engine, postgres):
    registry = HealthRegistry()
    registry.add("db", check_sqlalchemy(engine), timeout=0.2)
    assert registry.check_one("db").status is HEALTHY
    postgres.stop()
    for _ in range(3):
        assert "timed out" in registry.check_one("db").message
    postgres.cont()


def test_other_databases_are_asked_alike():
    assert check_sqlalchemy(sqlalchemy.create_engine("sqlite://"))().status is HEALTHY
    result = check_sqlalchemy(sqlalchemy.create_engine("sqlite:////no/such/folder/x.db"))()
    assert result.status is UNHEALTHY


def test_engine_may_be_had_from_the_app_at_run_time():
    app = Flask("served")
    app.extensions["engine"] = sqlalchemy.create_engine("sqlite://")
    registry = HealthRegistry()
    registry.add("db", check_sqlalchemy(lambda: current_app.extensions["engine"]))
    add_health_routes(app, registry)
    assert app.test_client().get("/_health/ready").json["status"] == "healthy"


def test_password_of_the_engine_is_not_shown(closed_port):
    engine = sqlalchemy.create_engine(f"postgresql+psycopg2://shop:hunter22@127.0.0.1:{closed_port}/shop")
    assert "hunter22" not in check_sqlalchemy(engine)().message


def test_what_is_no_engine_is_refused():
    for given in ("postgresql://db", None, 7):
        with pytest.raises(ConfigurationError, match="no engine"):
            check_sqlalchemy(given)


def test_missing_driver_is_an_error_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingDriverError, match=r"sqlalchemy.*pip install"):
        check_sqlalchemy(lambda: None)
