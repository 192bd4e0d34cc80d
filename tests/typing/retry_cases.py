"""What type checkers must see of the retries. Never run: checked by mypy --strict and pyright."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import assert_type

from flask_svc_infra.resilience import (
    CircuitBreaker,
    RetryConfig,
    RetryExhaustedError,
    retry_sync,
    with_retry,
)

breaker = CircuitBreaker("api")


@with_retry(3, 0.1)
def fetch(key: str, *, fresh: bool = False) -> int:
    return len(key) + fresh


@with_retry(max_attempts=3, retry_on=(TimeoutError, ConnectionError))
async def fetch_later(key: str) -> int:
    return len(key)


@retry_sync(on_retry=lambda attempt, error: [attempt + 1, error.args])
def load() -> dict[str, str]:
    return {}


@with_retry()
@breaker.protect
async def both(key: str) -> int:
    return len(key)


async def uses() -> None:
    assert_type(fetch("x", fresh=True), int)
    fetch(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await fetch_later("x"), int)
    assert_type(load(), dict[str, str])
    assert_type(await both("x"), int)
    plain: Callable[..., int] = fetch
    later: Callable[[str], Awaitable[int]] = fetch_later
    del plain, later
    with_retry("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with_retry(retry_on=ValueError)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def reads(error: RetryExhaustedError) -> None:
    assert_type(RetryConfig(5).calculate_delay(2), float)
    assert_type(error.attempts, int)
    assert_type(error.last_exception, Exception | None)
