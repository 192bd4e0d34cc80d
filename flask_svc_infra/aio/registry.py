"""The registry, to be awaited."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from .. import health
from ..health.registry import aggregate
from ..health.runner import Run
from ..health.waiting import wait
from .call import Call
from .sides import SYNC_SIDE, taking_sync_sides

if TYPE_CHECKING:
    from ..health import AggregatedHealthResult, HealthCheck, HealthCheckResult
    from ..health.announcer import OnChange
    from ..health.runner import Report

__all__ = ["HealthRegistry"]

P = ParamSpec("P")
T = TypeVar("T")


def _as_it_is(method: Callable[Concatenate[health.HealthRegistry, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Return a method of the sync registry for this one: it does not wait, so it needs no twin."""
    return cast("Callable[Concatenate[Any, P], T]", taking_sync_sides(method))


class HealthRegistry:
    """The health checks of a service, asked with ``await``.

    The rest is as :class:`flask_svc_infra.health.HealthRegistry` has it.

    Safe to use from threads and from any number of event loops. Cancelling a task that waits here cancels the
    async checks it started, unless somebody else waits for the same run; a sync check goes on in its thread
    until it returns, and is not started again before that.

    Args:
        on_change: as the sync registry's; called in the thread in which a run ended.
        clock: monotonic seconds; tests pass their own.

    Attributes:
        sync: the same registry for threads, as routes and metrics take it.
    """

    def __init__(
        self, *, on_change: OnChange | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.sync = health.HealthRegistry(on_change=on_change, clock=clock)
        setattr(self, SYNC_SIDE, self.sync)

    @classmethod
    def of(cls, registry: health.HealthRegistry) -> HealthRegistry:
        """Return the awaited side of a registry that is there, as ``HealthRegistry.of(infra.health)``."""
        twin = cls.__new__(cls)
        twin.sync = registry
        setattr(twin, SYNC_SIDE, registry)
        return twin

    def __repr__(self) -> str:
        return repr(self.sync)

    add = _as_it_is(health.HealthRegistry.add)
    remove = _as_it_is(health.HealthRegistry.remove)
    clear = _as_it_is(health.HealthRegistry.clear)
    snapshot = _as_it_is(health.HealthRegistry.snapshot)

    @property
    def checks(self) -> list[HealthCheck]:
        """The registered checks, in the order of registration."""
        return self.sync.checks

    async def check_one(self, name: str) -> HealthCheckResult:
        """Run one check, or share its run in flight.

        Raises:
            KeyError: there is none of this name.
        """
        return (await self._check([name]))[0].result

    async def check_all(self) -> AggregatedHealthResult:
        """Run every check at the same time; take as long as the slowest."""
        return aggregate(await self._check())

    async def wait_until_healthy(
        self,
        *,
        timeout: float = 60.0,  # noqa: ASYNC109 - the documented signature
        interval: float = 2.0,
        check_names: Iterable[str] | None = None,
    ) -> bool:
        """Wait until the critical checks (or those named) are healthy or degraded.

        Arguments, result and exceptions are those of the sync registry's method.
        """
        call = self._call()
        missing = await call.result_of(
            lambda: wait(
                self.sync,
                timeout=timeout,
                interval=interval,
                check_names=check_names,
                drive=call.drive,
                sleep=call.sleep,
            )
        )
        return not missing

    def _call(self) -> Call:
        return Call(self.sync._runner)  # noqa: SLF001 - made for us

    async def _check(self, names: Iterable[str] | None = None) -> list[Report]:
        sync, call = self.sync, self._call()
        asked = sync._start(names, drive=call.drive)  # noqa: SLF001 - as above
        runs = [each for _, each in asked if isinstance(each, Run) and each.report is None]
        await call.end_of(runs)

        def answers() -> list[Report]:
            return [sync._answer(lane, each) for lane, each in asked]  # noqa: SLF001 - as above

        if any(run.report is None for run in runs):
            # A deadline has passed: the verdict is given, and the listeners are told, in a thread.
            return await call.result_of(answers)
        return answers()
