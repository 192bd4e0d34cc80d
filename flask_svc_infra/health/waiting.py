"""Wait for dependencies: ask, say what is missing, pause, ask again; until the deadline, no tick longer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .aggregation import passes
from .model import require_seconds

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from .registry import HealthRegistry
    from .runner import Drive, Report

__all__ = ["missing_line", "wait"]

_logger = logging.getLogger("flask_svc_infra.health")


def wait(
    registry: HealthRegistry,
    *,
    timeout: float,
    interval: float,
    check_names: Iterable[str] | None = None,
    drive: Drive | None = None,
    on_attempt: Callable[[list[Report]], object] | None = None,
    called: Callable[[Report], str] = lambda report: report.result.name,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Report]:
    """Ask until all checks pass at once or *timeout* is over; return the reports of those that do not.

    Args:
        registry: whose checks they are.
        timeout: seconds to wait at most.
        interval: seconds between attempts.
        check_names: which checks; None: the critical ones.
        drive: see :meth:`HealthRegistry._check`.
        on_attempt: told after each attempt what still misses.
        called: what a check is called in the log.
        sleep: pauses between attempts.

    Raises:
        KeyError: a name is not registered.
        ConfigurationError: *check_names* is empty, or a number of seconds cannot work.
    """
    from tenacity import Retrying, retry_if_result

    require_seconds("waiting for health checks", "timeout", timeout, zero=True)
    require_seconds("waiting for health checks", "interval", interval, zero=True)
    named = _known(registry, check_names)
    clock = registry._runner.clock  # noqa: SLF001 - the registry's own other half
    deadline = clock() + timeout
    missing: list[Report] = []

    def attempt() -> list[Report]:
        nonlocal missing
        if missing and clock() >= deadline:
            return missing
        asked = named or [check.name for check in registry.checks if check.critical]
        reports = registry._check(asked, drive=drive, until=deadline)  # noqa: SLF001
        # A last attempt may be cut off by the deadline: the one before had more to say.
        said = {report.check.name: report for report in missing}
        reports = [said.get(each.check.name, each) if each.unfinished else each for each in reports]
        missing = [report for report in reports if not passes(report.result.status)]
        if on_attempt is not None:
            on_attempt(missing)
        return missing

    def pause(_: RetryCallState) -> float:
        return min(interval, max(0.0, deadline - clock()))

    def say(state: RetryCallState) -> None:
        _logger.info(
            "waiting for %s (attempt %d, %.1fs left)",
            missing_line(missing, called),
            state.attempt_number,
            max(0.0, deadline - clock()),
        )

    retrying = Retrying(
        retry=retry_if_result(bool),
        stop=lambda _: clock() >= deadline,
        wait=pause,
        before_sleep=say,
        sleep=sleep,
        retry_error_callback=lambda _: missing,
    )
    return retrying(attempt)


def missing_line(missing: Iterable[Report], called: Callable[[Report], str]) -> str:
    """Return what each that is missing is *called*, with its reason in brackets."""
    return ", ".join(
        f"{called(report)} ({report.result.message or report.result.status})" for report in missing
    )


def _known(registry: HealthRegistry, check_names: Iterable[str] | None) -> list[str] | None:
    if check_names is None:
        return None
    names = [check_names] if isinstance(check_names, str) else list(dict.fromkeys(check_names))
    if not names:
        raise ConfigurationError(
            "check_names is empty; there is nothing to wait for. Name at least one check, or leave it out "
            "to wait for the critical ones."
        )
    for name in names:
        registry._lane(name)  # noqa: SLF001 - refuses the unknown
    return names
