"""Does a database answer through the app's own pool?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import ConfigurationError
from .making import BuiltInCheck, Found, driver, healthy

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from ..model import HealthCheckFn

__all__ = ["check_sqlalchemy"]


def check_sqlalchemy(engine: Engine | Callable[[], Engine]) -> HealthCheckFn:
    """Make a check that takes a connection from an engine's pool and selects 1: any database will do.

    It finds what a connection of its own cannot, a pool that is exhausted, and it takes a place in that pool
    while it runs. Its timeouts are the engine's; the registered one bounds the answer. A connection the
    server closed meanwhile (a restart) is replaced in the same run.

    Args:
        engine: the engine, or a function that returns it, as ``lambda: db.engine`` with Flask-SQLAlchemy.

    Raises:
        ConfigurationError: it is neither.
        MissingDriverError: sqlalchemy is not installed.
    """
    driver("sqlalchemy", subject="check_sqlalchemy()", extra="sqlalchemy")
    _require_engine(engine)

    def look(_: float) -> Found:
        given: Any = engine
        return _select_1(given if _is_engine(given) else given())

    return BuiltInCheck("database", look)


def _select_1(engine: Engine) -> Found:
    from sqlalchemy.exc import DBAPIError

    try:
        return _once(engine)
    except DBAPIError as exc:
        if not exc.connection_invalidated:
            raise
    return _once(engine)  # the pool has thrown away what it had; this connection is new


def _once(engine: Engine) -> Found:
    from sqlalchemy import select

    with engine.connect() as connection:
        connection.scalar(select(1))
    return healthy()


def _is_engine(engine: Any) -> bool:
    from sqlalchemy.engine import Engine

    return isinstance(engine, Engine)


def _require_engine(engine: Any) -> None:
    from sqlalchemy.ext.asyncio import AsyncEngine

    if isinstance(engine, AsyncEngine):
        raise ConfigurationError(
            "check_sqlalchemy was given an AsyncEngine, which a blocking check cannot use; no check was "
            "made. Pass an engine made by create_engine(), or write an async check."
        )
    if not _is_engine(engine) and not callable(engine):
        raise ConfigurationError(
            f"check_sqlalchemy was given a {type(engine).__name__}, which is no engine; no check was made. "
            "Pass what create_engine() returned, or a function that returns it."
        )
