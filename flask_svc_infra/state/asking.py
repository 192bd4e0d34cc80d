"""Ask the store from a request: in the reporter's thread, for a fraction of a second at most."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from .store import StoreError

if TYPE_CHECKING:
    from .reporter import Reporter
    from .store import Store

__all__ = ["ask"]

T = TypeVar("T")


def ask(reporter: Reporter, work: Callable[[Store], T], *, patience: float) -> T:
    """Have *work* done with the store and return what it returns.

    Work that has not begun when the patience ends is never done. Thread-safe.

    Args:
        reporter: talks to the store; its thread does the work.
        work: a few operations.
        patience: seconds to wait.

    Raises:
        StoreError: the store does not answer, or not in time; the text says whether the work was begun.
    """
    question = _Question(work)
    reporter.submit(question)
    return question.answer(patience)


class _Question(Generic[T]):
    """A job that its asker may give up before it is begun."""

    def __init__(self, work: Callable[[Store], T]) -> None:
        self._work = work
        self._done = threading.Event()
        self._fate: dict[str, str] = {}
        self._answers: list[T] = []
        self._said = "it did not answer the last time"

    def __call__(self, store: Store | None) -> None:
        # dict.setdefault is atomic: just one of the two, beginning and giving up, comes first.
        if store is not None and self._fate.setdefault("fate", "begun") == "begun":
            try:
                self._answers.append(self._work(store))
            except Exception as error:
                self._said = str(error)
                self._done.set()
                raise
        self._done.set()

    def answer(self, patience: float) -> T:
        """Wait for the answer and return it."""
        if self._done.wait(patience):
            for answer in self._answers:
                return answer
            raise StoreError(self._said)
        if self._fate.setdefault("fate", "given up") == "given up":
            raise StoreError(f"it was not asked within {patience:g}s")
        raise StoreError(f"no answer within {patience:g}s; it may still do what it was asked")
