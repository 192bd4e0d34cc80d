"""Every breaker and bulkhead of the process that is still in use, for the metrics and for fork."""

from __future__ import annotations

import os
import weakref
from typing import Generic, Protocol, TypeVar

__all__ = ["Live"]


class _Forks(Protocol):
    def _after_fork(self) -> None: ...


T = TypeVar("T", bound=_Forks)


class Live(Generic[T]):
    """A weak set in order of creation.

    Thread-safe without a lock: each step is one atomic operation of a dict.
    """

    def __init__(self) -> None:
        self._refs: dict[int, weakref.ref[T]] = {}
        os.register_at_fork(after_in_child=self._after_fork)

    def add(self, item: T) -> None:
        """Remember *item* for as long as someone else does."""
        refs, key = self._refs, id(item)
        refs[key] = weakref.ref(item, lambda _: refs.pop(key, None))

    def list(self) -> list[T]:
        """Return those that are alive, oldest first."""
        return [item for ref in list(self._refs.values()) if (item := ref()) is not None]

    def _after_fork(self) -> None:
        for item in self.list():
            item._after_fork()  # noqa: SLF001 - the two are one mechanism
