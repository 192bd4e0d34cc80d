"""Permits: what ``admit()`` and ``guard()`` give, settled once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from .generations import Outcome, Pass, Trial

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Permit", "guard_class"]


class _Settled:
    """Stands where the pass was, so that a settled permit equals no generation."""


_SETTLED: Final = _Settled()


class Permit:
    """Proof that one call was let through; settled exactly once.

    As a context manager it asks for admission on entry and settles on exit, by the exception that comes out;
    inside the block :meth:`settle` may say it first. A permit belongs to the call it was made for: it is not
    shared.
    """

    __slots__ = ("_pass", "_started")
    _engine: Engine
    _pass: Pass | _Settled
    _started: float

    def settle(self, outcome: Outcome) -> None:
        """Report how the call ended.

        Raises:
            TypeError: *outcome* is not an :class:`Outcome`.
            RuntimeError: the permit is settled already, or was never admitted; nothing is counted.
        """
        if not isinstance(outcome, Outcome):
            raise TypeError(
                f"{outcome!r} is not an Outcome; the permit is unsettled. Give it Outcome.SUCCESS, say."
            )
        pass_ = self._held()
        engine = self._engine
        if isinstance(pass_, _Settled):
            raise RuntimeError(  # noqa: TRY004 - it is a matter of order, not of type
                f"a permit of circuit '{engine.name}' is settled already; this outcome was not counted. "
                "Settle each permit once."
            )
        self._pass = _SETTLED
        engine.settle(pass_, outcome, engine.clock() - self._started if engine.timed else 0.0)

    @property
    def settled(self) -> bool:
        """Whether the outcome was reported."""
        return getattr(self, "_pass", None) is _SETTLED

    @property
    def trial(self) -> bool:
        """Whether the call is a trial of a half-open circuit."""
        return isinstance(getattr(self, "_pass", None), Trial)

    def _held(self) -> Pass | _Settled:
        try:
            return self._pass
        except AttributeError:
            raise RuntimeError(
                f"a permit of circuit '{self._engine.name}' was not admitted yet; there is nothing to "
                "settle. Enter it: with breaker.guard() as permit"
            ) from None

    def __enter__(self) -> Self:
        engine = self._engine
        if getattr(self, "_pass", _SETTLED) is not _SETTLED:
            raise RuntimeError(
                f"a permit of circuit '{engine.name}' was entered twice; the second call was not made. "
                "Ask breaker.guard() for one in each with statement."
            )
        self._pass = engine.admit()
        if engine.timed:
            self._started = engine.clock()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        pass_ = self._pass
        if isinstance(pass_, _Settled):
            return
        engine = self._engine
        self._pass = _SETTLED
        seconds = engine.clock() - self._started if engine.timed else 0.0
        if error is None:
            engine.settle(pass_, Outcome.SUCCESS, seconds)
        else:
            engine.raised(pass_, error, seconds)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.__exit__(kind, error, traceback)


def guard_class(engine: Engine) -> type[Permit]:
    """Make the class of one circuit's permits.

    A class for each circuit, because a call to a class runs no Python code where a method that makes an
    object runs two calls of it; and its methods see the machine in their closure.
    """
    return _measured_guard(engine) if engine.timed else _plain_guard(engine)


def _plain_guard(engine: Engine) -> type[Permit]:
    machine = engine.machine
    enter_slowly, exit_slowly = Permit.__enter__, Permit.__exit__

    class Guard(Permit):
        __slots__ = ()
        _engine = engine

        def __enter__(self) -> Self:
            pass_ = machine.quiet
            if pass_ is None:
                enter_slowly(self)
                return self
            self._pass = pass_
            return self

        def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
            if error is None and machine.quiet is self._pass:
                self._pass = _SETTLED
                machine.successes += 1
            else:
                exit_slowly(self, kind, error, traceback)

    return Guard


def _measured_guard(engine: Engine) -> type[Permit]:
    machine, clock, slower_than = engine.machine, engine.clock, engine.slower_than
    enter_slowly, exit_slowly = Permit.__enter__, Permit.__exit__

    class Guard(Permit):
        __slots__ = ()
        _engine = engine

        def __enter__(self) -> Self:
            pass_ = machine.quiet
            if pass_ is None:
                enter_slowly(self)
                return self
            self._pass = pass_
            self._started = clock()
            return self

        def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
            pass_ = self._pass
            if error is None and machine.quiet is pass_:
                now = clock()
                if (
                    now - self._started <= slower_than and now < pass_.rolls_at  # pyright: ignore[reportAttributeAccessIssue] - quiet is Closed
                ):
                    self._pass = _SETTLED
                    machine.successes += 1
                    return
            exit_slowly(self, kind, error, traceback)

    return Guard
