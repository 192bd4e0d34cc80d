"""The built-in checks, to be awaited: ``await check_database(url)()``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, cast

from .. import health
from .call import Call
from .sides import SYNC_SIDE

if TYPE_CHECKING:
    from ..health import HealthCheckResult

__all__ = [
    "AsyncCheck",
    "check_breaker",
    "check_broker",
    "check_database",
    "check_disk",
    "check_dns",
    "check_memcached",
    "check_redis",
    "check_sqlalchemy",
    "check_tcp",
    "check_url",
]

P = ParamSpec("P")


class AsyncCheck(Protocol):
    """A check that is awaited.

    Attributes:
        name: what it is called before it is registered.
    """

    name: str

    def __call__(self) -> Awaitable[HealthCheckResult]:
        """Run the check in a thread and return its result."""
        ...


def _awaited(make: Callable[P, Any]) -> Callable[P, AsyncCheck]:
    """Return the factory *make*, whose checks are then awaited.

    A registry takes a check's sync side, so that the runner can hold its lane as long as the driver hangs.
    """

    @wraps(make)
    def factory(*args: P.args, **kwargs: P.kwargs) -> AsyncCheck:
        sync = make(*args, **kwargs)

        async def check() -> HealthCheckResult:
            return await Call().result_of(sync)

        check.__doc__ = sync.__doc__
        check.__name__ = check.__qualname__ = check.name = sync.name  # type: ignore[attr-defined]
        setattr(check, SYNC_SIDE, sync)
        return cast("AsyncCheck", check)

    return factory


check_breaker = _awaited(health.check_breaker)
check_broker = _awaited(health.check_broker)
check_database = _awaited(health.check_database)
check_disk = _awaited(health.check_disk)
check_dns = _awaited(health.check_dns)
check_memcached = _awaited(health.check_memcached)
check_redis = _awaited(health.check_redis)
check_sqlalchemy = _awaited(health.check_sqlalchemy)
check_tcp = _awaited(health.check_tcp)
check_url = _awaited(health.check_url)
