"""What type checkers must see of the breaker. Never run: checked by mypy --strict and pyright.

Each wrong use carries an ignore comment, and both checkers report an ignore that ignores nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import assert_type

from flask_svc_infra import SvcInfra
from flask_svc_infra.resilience import (
    Breakers,
    Bulkhead,
    CircuitBreaker,
    CircuitBreakerStats,
    CircuitState,
    Forced,
    Outcome,
    Permit,
    Transition,
    consecutive,
    exponential_recovery,
    failure_rate,
    slow_rate,
)

breaker = CircuitBreaker("payments", failure_threshold=5)
bulkhead = Bulkhead("reports", 4, 0.5)


@breaker.protect
def pay(amount: int, *, currency: str = "EUR") -> str:
    return f"{amount} {currency}"


@breaker.protect
async def pay_later(amount: int) -> str:
    return str(amount)


@breaker.protect
def lines(path: str) -> Iterator[str]:
    yield path


@breaker.protect
async def async_lines(path: str) -> AsyncIterator[str]:
    yield path


@breaker.protect(fallback=lambda user: [user])
def recommend(user: str) -> list[str]:
    return [user]


@breaker.protect()
def bare(x: float) -> float:
    return x


@bulkhead.protect
def report(year: int) -> bytes:
    return bytes(year)


@bulkhead.protect(fallback=lambda year: b"")
async def report_later(year: int) -> bytes:
    return bytes(year)


class Client:
    @breaker.protect
    def fetch(self, key: str) -> int:
        return len(key)

    @breaker.protect
    async def fetch_later(self, key: str) -> int:
        return len(key)


def add(x: int, y: int = 0) -> int:
    return x + y


def sync_uses() -> None:
    assert_type(pay(5), str)
    assert_type(pay(5, currency="USD"), str)
    pay("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pay()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(list(lines("x")), list[str])
    assert_type(recommend("ann"), list[str])
    assert_type(bare(1.0), float)
    assert_type(report(2026), bytes)
    assert_type(Client().fetch("x"), int)
    assert_type(breaker.call(add, 1, y=2), int)
    breaker.call(add, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(bulkhead.call(add, 1), int)

    with breaker as entered:
        assert_type(entered, CircuitBreaker)
    with breaker.guard() as permit:
        assert_type(permit, Permit)
        permit.settle(Outcome.SUCCESS)
        permit.settle("success")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(breaker.admit(), Permit)
    with bulkhead, bulkhead.guard():
        pass


async def async_uses() -> None:
    assert_type(await pay_later(5), str)
    assert_type([line async for line in async_lines("x")], list[str])
    assert_type(await Client().fetch_later("x"), int)
    assert_type(await report_later(2026), bytes)
    assert_type(await breaker.call(asyncio.sleep, 0, "x"), str)
    async with breaker as entered, breaker.guard() as permit, bulkhead:
        assert_type(entered, CircuitBreaker)
        assert_type(permit, Permit)


def with_does_not_swallow() -> int:
    """Were the exit typed as maybe swallowing, a return in the block would not be enough."""
    with breaker:
        return 1


def guard_does_not_swallow() -> int:
    with breaker.guard(), bulkhead:
        return 1


def reads() -> None:
    assert_type(breaker.state, CircuitState)
    assert_type(breaker.stats, CircuitBreakerStats)
    assert_type(breaker.stats.total_calls, int)
    assert_type(breaker.remaining_timeout, float | None)
    assert_type(breaker._remaining_timeout(), float | None)
    assert_type(breaker.forced, Forced | None)
    breaker.failure_threshold = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    breaker.state = CircuitState.OPEN  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def options() -> None:
    def listener(event: Transition) -> None:
        assert_type(event.new, CircuitState)

    CircuitBreaker(
        "x",
        trip=consecutive(5) | failure_rate(0.5, last=100) & slow_rate(0.8, slower_than=2.0, seconds=60),
        recovery_timeout=exponential_recovery(1.0),
        ignored_exceptions=(KeyError,),
        failure_result=lambda result: result is None,
        on_transition=listener,
    )
    CircuitBreaker("x", recovery_timeout=lambda opens: 2.0 * opens)
    # Without a code: mypy before 2.2 has another name for it.
    CircuitBreaker("x", 5)  # type: ignore  # noqa: PGH003  # pyright: ignore[reportCallIssue]
    CircuitBreaker("x", failure_threshold="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    CircuitBreaker("x", failure_exceptions=KeyError)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(Breakers().get("x", failure_threshold=3), CircuitBreaker)
    Breakers().get("x", failure_treshold=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(
        SvcInfra().breaker("x", failure_threshold=3, recovery_timeout=exponential_recovery(1.0)),
        CircuitBreaker,
    )
    SvcInfra().breaker("x", failure_treshold=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    SvcInfra().breaker("x", failure_threshold="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def kinds_are_kept() -> None:
    plain: Callable[[int], bytes] = report
    later: Callable[[int], Awaitable[str]] = pay_later
    wrong: Callable[[str], bytes] = report  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    del plain, later, wrong
