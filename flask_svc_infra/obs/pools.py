"""SQLAlchemy connection pools as metrics."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, cast

from ..errors import ConfigurationError
from . import catalog
from .kept import kept

if TYPE_CHECKING:
    from .collectors import ProcessState

__all__ = ["measure_pools", "require_engines"]

_lock = threading.Lock()
_measured: weakref.WeakKeyDictionary[Any, _Pool] = kept("pools", weakref.WeakKeyDictionary)


def require_engines(engines: Iterable[Any]) -> tuple[Any, ...]:
    """Return *engines* as they were given.

    Raises:
        ConfigurationError: one of them is no engine.
    """
    engines = tuple(engines)
    for engine in engines:
        if not hasattr(getattr(engine, "sync_engine", engine), "pool"):
            raise ConfigurationError(
                f"db_engines holds a {type(engine).__name__}, which has no connection pool; nothing was "
                "mounted. Pass SQLAlchemy engines, as in [create_engine(url)]."
            )
    return engines


def measure_pools(engines: Iterable[Any], process: ProcessState) -> Callable[[], None]:
    """Measure the connection pools of *engines*; an engine that is measured already is measured once.

    A pool is called what ``create_engine(pool_logging_name=…)`` calls it, else after its database; of two
    that would have one name the second is numbered. Check-outs and check-ins are counted as they happen,
    the rest is read at a scrape.

    Args:
        engines: engines, or async engines.
        process: what shows them.

    Returns:
        A callable that stops it; an engine that was asked for several times is measured until the last stops.
    """
    pools = [_pool_of(getattr(engine, "sync_engine", engine), process) for engine in engines]
    for pool in pools:
        pool.start()
    stopped = threading.Event()

    def stop() -> None:
        if not stopped.is_set():
            stopped.set()
            for pool in pools:
                pool.stop()

    return stop


class _Pool:
    """One engine's pool. It does not keep the engine."""

    def __init__(self, engine: Any, name: str, process: ProcessState) -> None:
        self.name = name
        self._engine = weakref.ref(engine)
        self._process = process
        self._users = 0

    def start(self) -> None:
        """Listen, if nobody has asked before."""
        from sqlalchemy import event

        engine = self._engine()
        with _lock:
            self._users += 1
            if self._users > 1 or engine is None:
                return
            event.listen(engine, "checkout", self._on_checkout)
            event.listen(engine, "checkin", self._on_checkin)
        self._process.add_source(self.refresh)

    def stop(self) -> None:
        """Stop listening, if nobody else has asked."""
        from sqlalchemy import event

        engine = self._engine()
        with _lock:
            self._users -= 1
            if self._users > 0:
                return
            _measured.pop(engine, None)
            if engine is not None:
                event.remove(engine, "checkout", self._on_checkout)
                event.remove(engine, "checkin", self._on_checkin)
        self._process.remove_source(self.refresh)
        self._show({})

    def refresh(self) -> None:
        """Read the pool."""
        engine = self._engine()
        self._show({} if engine is None else _read(engine.pool))

    def _show(self, found: dict[catalog.MetricSpec, float]) -> None:
        for spec in _READ:
            self._process.instruments.set(spec, (self.name,), found.get(spec, math.nan))

    def _on_checkout(self, *_: object) -> None:
        self._process.instruments.inc(catalog.POOL_CHECKED_OUT, (self.name,))

    def _on_checkin(self, *_: object) -> None:
        self._process.instruments.inc(catalog.POOL_CHECKED_IN, (self.name,))


_READ = (catalog.POOL_SIZE, catalog.POOL_IN_USE, catalog.POOL_AVAILABLE, catalog.POOL_OVERFLOW)


def _read(pool: Any) -> dict[catalog.MetricSpec, float]:
    """Return what a pool can say; one without a size (NullPool, StaticPool) says nothing."""
    size, in_use = _ask(pool, "size"), _ask(pool, "checkedout")
    if size is None or in_use is None:
        return {}
    found = {
        catalog.POOL_SIZE: size,
        catalog.POOL_IN_USE: in_use,
        catalog.POOL_AVAILABLE: max(0.0, size - in_use),
    }
    overflow = _ask(pool, "overflow")
    if overflow is not None:
        found[catalog.POOL_OVERFLOW] = max(0.0, overflow)  # below zero until the pool has filled up
    return found


def _ask(pool: Any, question: str) -> float | None:
    method: Any = getattr(pool, question, None)
    return float(cast("float", method())) if callable(method) else None


def _pool_of(engine: Any, process: ProcessState) -> _Pool:
    with _lock:
        pool = _measured.get(engine)
        if pool is None:
            taken = {other.name for other in _measured.values()}
            wanted = _name(engine)
            name, number = wanted, 1
            while name in taken:
                number += 1
                name = f"{wanted}-{number}"
            pool = _measured[engine] = _Pool(engine, name, process)
        return pool


def _name(engine: Any) -> str:
    given = getattr(engine.pool, "logging_name", None)
    if given:
        return str(given)
    database = engine.url.database
    return (
        PurePath(database).stem if database and database != ":memory:" else str(engine.url.get_backend_name())
    )
