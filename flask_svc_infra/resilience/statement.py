"""``with breaker:`` and ``async with breaker:``, where the exit must know what its own entry was told.

One breaker is entered by many threads, tasks, greenlets and generators at once, so nothing kept on it, on the
thread or in a context variable tells an exit which entry it belongs to. The language does: a with statement
loads ``__exit__`` before it calls ``__enter__``, and an attribute's load may make a fresh object. So the exit
of each statement is an object of its own:

- while the circuit is quiet, the closed generation itself (:class:`Quiet`): it is the pass of every call that
  begins in it, so there is nothing else to know and nothing to allocate (but for the time of the beginning,
  where the circuit needs it: :class:`Measured`);
- otherwise a :class:`Block`, which the entry, called next in the same thread, finds and gives its pass.

An exit that is loaded and never called leaves no trace but its place in ``loaded``, which the thread's next
statement takes over.
"""

from __future__ import annotations

from _thread import get_ident
from collections import deque
from typing import TYPE_CHECKING, Any

from .generations import Closed, Outcome, Pass

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Block", "Measured", "Quiet", "enter", "load", "loaded"]

loaded: dict[int, Block] = {}
"""The exit each thread has loaded and not yet entered."""
_unpaired: dict[int, deque[tuple[Engine, Pass, float]]] = {}
"""For each thread, the latest entries made by a bare ``breaker.__enter__()``, which no exit was loaded
for."""


class Quiet(Closed):
    """A closed generation that can be the exit of the statements that begin in it."""

    __slots__ = ("engine",)

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def __call__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Leave a ``with`` statement that began in this generation."""
        engine = self.engine
        machine = engine.machine
        if error is None and machine.quiet is self:
            machine.successes += 1
        elif error is None:
            engine.settle(self, Outcome.SUCCESS)
        else:
            engine.raised(self, error)

    async def leave(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Leave an ``async with`` statement that began in this generation."""
        self(kind, error, traceback)


class Measured:
    """The exit of one statement that began in a quiet generation of a circuit that takes the time."""

    __slots__ = ("pass_", "started")
    pass_: Quiet
    started: float

    def __call__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Leave a ``with`` statement."""
        pass_ = self.pass_
        engine = pass_.engine
        now = engine.clock()
        seconds = now - self.started
        if error is not None:
            engine.raised(pass_, error, seconds)
        elif engine.machine.quiet is pass_ and seconds <= engine.slower_than and now < pass_.rolls_at:
            engine.machine.successes += 1
        else:
            engine.settle(pass_, Outcome.SUCCESS, seconds)

    async def leave(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Leave an ``async with`` statement."""
        self(kind, error, traceback)


class Block:
    """The exit of one statement that began while the circuit was not quiet."""

    __slots__ = ("_entry",)

    def __init__(self) -> None:
        self._entry: tuple[Engine, Pass, float] | None = None

    def enter(self, engine: Engine, pass_: Pass, started: float) -> None:
        """Learn what the entry of its statement was given."""
        self._entry = (engine, pass_, started)

    def __call__(self, *raised: Any) -> None:
        """Leave a ``with`` statement.

        Loaded from the class, it is given the breaker first; the last three arguments matter.
        """
        entry = self._entry
        if entry is None:
            entry = self._unpaired_entry(*raised[:-3])
            if entry is None:
                return
        self._entry = None
        engine, pass_, started = entry
        seconds = engine.clock() - started if engine.timed else 0.0
        error = raised[-2]
        if error is None:
            engine.settle(pass_, Outcome.SUCCESS, seconds)
        else:
            engine.raised(pass_, error, seconds)

    def _unpaired_entry(self, breaker: Any = None) -> tuple[Engine, Pass, float] | None:
        """Return what a bare ``breaker.__enter__()``, called before this exit was loaded, has left."""
        thread = get_ident()
        if loaded.get(thread) is self:
            del loaded[thread]
        entries = _unpaired.get(thread)
        if entries:
            return entries.pop()
        quiet = breaker and breaker._machine.quiet  # noqa: SLF001 - an entry while quiet leaves nothing
        return (quiet.engine, quiet, quiet.engine.clock()) if quiet else None

    async def leave(self, *raised: Any) -> None:
        """Leave an ``async with`` statement."""
        self(*raised)


def load() -> Block:
    """Make the exit of the statement this thread is about to enter."""
    block = loaded[get_ident()] = Block()
    return block


def enter(engine: Engine) -> None:
    """Enter the statement whose exit this thread has just loaded.

    Raises:
        CircuitBreakerError: the circuit does not let it pass.
    """
    thread = get_ident()
    block = loaded.pop(thread, None)
    pass_ = engine.admit()
    started = engine.clock() if engine.timed else 0.0
    if block is not None:
        block.enter(engine, pass_, started)
    elif pass_ is not engine.machine.quiet:
        _unpaired.setdefault(thread, deque(maxlen=16)).append((engine, pass_, started))
