"""After a fork: a child has its parent's locks, perhaps held, and none of its threads."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Renewable", "renew_in_children"]


class Renewable(Protocol):
    """Something that holds locks or counts on threads."""

    def renew(self) -> None:
        """Make new locks and forget what was in flight; called in the child before all else."""


def renew_in_children(what: Renewable) -> None:
    """See to it that *what* is renewed in every forked child, as long as it lives."""
    _renewables.add(what)


_renewables: WeakSet[Renewable] = WeakSet()


def _renew_all() -> None:
    for each in list(_renewables):
        each.renew()


os.register_at_fork(after_in_child=_renew_all)
