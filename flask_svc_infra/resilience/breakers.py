"""Breakers by name: ask twice, get the same one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from ..errors import ConfigurationError
from .breaker import CircuitBreaker
from .sharing import SharedCircuits

if TYPE_CHECKING:
    from ..state.reporter import Reporter
    from .options import BreakerOptions

__all__ = ["Breakers"]

_DEFAULTS: dict[str, Any] = {
    name: parameter.default
    for name, parameter in inspect.signature(CircuitBreaker).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}


class Breakers:
    """The breakers of one owner, by name.

    ``breakers["payments"]`` is one, ``"payments" in breakers`` tells, iterating gives all, oldest first.
    Thread-safe without a lock: of two threads that ask first, one's breaker stays and the other's is dropped
    unused.
    """

    def __init__(self) -> None:
        self._breakers: dict[str, tuple[CircuitBreaker, dict[str, Any]]] = {}
        self._shared: SharedCircuits | None = None

    def get(self, name: str, **options: Unpack[BreakerOptions]) -> CircuitBreaker:
        """Return the breaker called *name*, made at the first call.

        Args:
            name: its name.
            options: those of :class:`CircuitBreaker`. Without any, whichever breaker has the name is
                returned.

        Raises:
            ConfigurationError: the name is taken by a breaker with other options, or an option cannot work.
            TypeError: an option is unknown.
        """
        asked = _DEFAULTS | options
        entry = self._breakers.get(name)
        if entry is None:
            entry = self._breakers.setdefault(name, (CircuitBreaker(name, **options), asked))
            if self._shared is not None:
                self._shared.add(entry[0])
        breaker, held = entry
        if options and asked != held:
            raise ConfigurationError(
                f"circuit '{name}' exists with {_shown(held, asked)} and was asked for with "
                f"{_shown(asked, held)}; it was left as it is. Give both the same options, or one of them "
                "another name."
            )
        return breaker

    def share(self, reporter: Reporter) -> None:
        """Make each of these breakers, and those to come, one with its namesakes in other processes.

        Raises:
            RuntimeError: they are shared through another store already.
        """
        if self._shared is not None:
            if self._shared.reporter is reporter:
                return
            raise RuntimeError(
                f"these circuits are shared through '{self._shared.reporter.store.url}' already; they were "
                f"left so. Give all apps of one SvcInfra the same SVC_INFRA_STATE_URL."
            )
        self._shared = SharedCircuits(reporter)
        for breaker in self:
            self._shared.add(breaker)
        reporter.join(self._shared)

    def __getitem__(self, name: str) -> CircuitBreaker:
        return self._breakers[name][0]

    def __contains__(self, name: object) -> bool:
        return name in self._breakers

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter([breaker for breaker, _ in list(self._breakers.values())])

    def __len__(self) -> int:
        return len(self._breakers)


def _shown(options: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    """Show those of *options* that differ from *others*."""
    return ", ".join(f"{key}={value!r}" for key, value in options.items() if value != others[key])
