"""with_retry, retry_sync and RetryConfig, as documented."""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest
from contract._parts import faster_than
from hypothesis import given
from hypothesis import strategies as st

from flask_svc_infra.resilience import (
    CircuitBreaker,
    CircuitBreakerError,
    RetryConfig,
    RetryExhaustedError,
    retry_sync,
    with_retry,
)

QUICK = {"base_delay": 0.001, "jitter": 0.0}


def fails(times, error=ValueError):
    """A function that raises *times* times, then answers; ``.calls`` counts."""

    def fn(*args, **kwargs):
        fn.calls += 1
        if fn.calls <= times:
            raise error(f"failure {fn.calls}")
        return "success"

    fn.calls = 0
    return fn


def as_async(fn):
    async def wrapped(*args, **kwargs):
        return fn(*args, **kwargs)

    return wrapped


def run_sync(decorator, fn):
    return decorator(fn)()


def run_async(decorator, fn):
    return asyncio.run(decorator(as_async(fn))())


FORMS = pytest.mark.parametrize(
    ("decorate", "run"),
    [(retry_sync, run_sync), (with_retry, run_sync), (with_retry, run_async)],
    ids=["retry_sync", "with_retry on a function", "with_retry on a coroutine function"],
)


@FORMS
def test_success_is_not_retried(decorate, run):
    fn = fails(0)
    assert run(decorate(max_attempts=3), fn) == "success"
    assert fn.calls == 1


@FORMS
def test_failure_is_retried_until_success(decorate, run):
    fn = fails(2)
    assert run(decorate(max_attempts=3, **QUICK), fn) == "success"
    assert fn.calls == 3


@FORMS
def test_exhaustion_raises_with_attempts_and_last_exception(decorate, run):
    fn = fails(9)
    with pytest.raises(RetryExhaustedError) as caught:
        run(decorate(max_attempts=3, **QUICK), fn)
    assert fn.calls == 3
    assert caught.value.attempts == 3
    assert isinstance(caught.value.last_exception, ValueError)
    assert str(caught.value.last_exception) == "failure 3"
    assert caught.value.__cause__ is caught.value.last_exception


@FORMS
def test_only_the_named_exceptions_are_retried(decorate, run):
    fn = fails(9, TypeError)
    with pytest.raises(TypeError):
        run(decorate(max_attempts=3, retry_on=(ValueError,), **QUICK), fn)
    assert fn.calls == 1


@FORMS
def test_on_retry_is_told_attempt_and_exception_before_each_retry(decorate, run):
    told = []
    fn = fails(2)
    decorator = decorate(
        max_attempts=3, on_retry=lambda attempt, exc: told.append((attempt, str(exc))), **QUICK
    )
    assert run(decorator, fn) == "success"
    assert told == [(1, "failure 1"), (2, "failure 2")]


@FORMS
def test_on_retry_is_not_told_of_the_last_failure(decorate, run):
    told = []
    with pytest.raises(RetryExhaustedError):
        run(decorate(max_attempts=2, on_retry=lambda attempt, exc: told.append(attempt), **QUICK), fails(9))
    assert told == [1]


@FORMS
def test_one_attempt_means_no_retry(decorate, run):
    fn = fails(9)
    with pytest.raises(RetryExhaustedError) as caught:
        run(decorate(max_attempts=1), fn)
    assert (fn.calls, caught.value.attempts) == (1, 1)


@FORMS
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_is_never_retried(decorate, run, error):
    fn = fails(9, error)
    with pytest.raises(error):
        run(decorate(max_attempts=3, **QUICK), fn)
    assert fn.calls == 1


@FORMS
def test_delays_follow_the_backoff(decorate, run):
    began = time.monotonic()
    run(decorate(max_attempts=3, base_delay=0.03, exponential_base=2.0, jitter=0.0), fails(2))
    assert time.monotonic() - began >= 0.09


@FORMS
def test_max_delay_caps_the_backoff(decorate, run):
    with faster_than(5):
        run(decorate(max_attempts=4, base_delay=10.0, max_delay=0.01, jitter=0.0), fails(3))


def test_open_circuit_is_not_retried_unless_asked():
    """The documented pairing: the transient errors are retried, the open circuit is passed on at once."""
    breaker = CircuitBreaker("api", failure_threshold=2)
    calls = []

    @with_retry(max_attempts=5, retry_on=(TimeoutError, ConnectionError), **QUICK)
    def fetch():
        with breaker:
            calls.append(1)
            raise ConnectionError

    with pytest.raises(CircuitBreakerError):
        fetch()
    assert len(calls) == 2


def test_open_circuit_is_not_retried_by_default_either():
    breaker = CircuitBreaker("api", failure_threshold=1)
    breaker.force_open(reason="test")
    told = []

    @with_retry(max_attempts=3, on_retry=lambda attempt, exc: told.append(attempt), **QUICK)
    def fetch():
        with breaker:
            pass

    with pytest.raises(CircuitBreakerError):
        fetch()
    assert told == []


def test_decorated_function_keeps_its_name_arguments_and_kind():
    @with_retry(max_attempts=2)
    async def fetch_user(user_id: str) -> str:
        """Fetch one user."""
        return user_id

    @retry_sync(max_attempts=2)
    def fetch_config(path: str, *, strict: bool = False) -> tuple[str, bool]:
        """Fetch the configuration."""
        return path, strict

    assert inspect.iscoroutinefunction(fetch_user)
    assert asyncio.run(fetch_user("ann")) == "ann"
    assert fetch_user.__name__ == "fetch_user"
    assert fetch_user.__doc__ == "Fetch one user."
    assert fetch_config("/x", strict=True) == ("/x", True)
    assert list(inspect.signature(fetch_config).parameters) == ["path", "strict"]


def test_decorated_function_may_run_in_many_threads_at_once():
    import threading

    counts, results = {}, []

    @retry_sync(max_attempts=3, **QUICK)
    def call(key):
        counts[key] = counts.get(key, 0) + 1
        if counts[key] < 3:
            raise ValueError
        return key

    threads = [threading.Thread(target=lambda k=k: results.append(call(k))) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert sorted(results) == list(range(8))
    assert set(counts.values()) == {3}


def test_waiting_async_retry_leaves_the_event_loop_free():
    ticks = []

    async def ticker():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.005)

    async def main():
        task = asyncio.create_task(ticker())
        await with_retry(max_attempts=2, base_delay=0.06, jitter=0.0)(as_async(fails(1)))()
        task.cancel()

    asyncio.run(main())
    assert len(ticks) >= 4


# --- RetryConfig --------------------------------------------------------------------------------------------


def test_config_keeps_what_it_is_given():
    config = RetryConfig(max_attempts=5, base_delay=0.5, max_delay=30.0, exponential_base=3.0, jitter=0.2)
    assert (config.max_attempts, config.base_delay, config.max_delay) == (5, 0.5, 30.0)
    assert (config.exponential_base, config.jitter) == (3.0, 0.2)


@pytest.mark.parametrize(("attempt", "delay"), [(1, 1.0), (2, 2.0), (3, 4.0)])
def test_delay_doubles_with_each_attempt(attempt, delay):
    assert RetryConfig(base_delay=1.0, jitter=0.0).calculate_delay(attempt) == delay


def test_delay_never_exceeds_the_maximum():
    assert RetryConfig(base_delay=1.0, max_delay=5.0, jitter=0.0).calculate_delay(10) == 5.0


def test_delay_of_a_thousandth_attempt_is_still_a_number():
    assert RetryConfig(base_delay=1.0, max_delay=5.0, jitter=0.0).calculate_delay(5000) == 5.0


@given(
    st.integers(1, 30),
    st.floats(0.001, 10),
    st.floats(1.0, 4.0),
    st.floats(0.0, 1.0),
    st.floats(0.01, 60.0),
)
def test_delay_stays_within_jitter_of_the_backoff(attempt, base, exponential, jitter, maximum):
    config = RetryConfig(base_delay=base, exponential_base=exponential, jitter=jitter, max_delay=maximum)
    plain = min(base * exponential ** (attempt - 1), maximum)
    delay = config.calculate_delay(attempt)
    assert plain * (1 - jitter) - 1e-9 <= delay <= plain * (1 + jitter) + 1e-9
    assert delay >= 0


def test_config_values_may_be_handed_to_the_decorator_as_documented():
    api_retry = RetryConfig(
        max_attempts=5, base_delay=0.001, max_delay=0.01, retry_on=(TimeoutError, ConnectionError)
    )
    fn = fails(4, TimeoutError)

    @with_retry(
        max_attempts=api_retry.max_attempts,
        base_delay=api_retry.base_delay,
        max_delay=api_retry.max_delay,
        retry_on=api_retry.retry_on,
    )
    async def fetch():
        return fn()

    assert asyncio.run(fetch()) == "success"


def test_exhausted_error_shows_its_attempts():
    error = RetryExhaustedError("all 3 attempts failed", attempts=3)
    assert error.attempts == 3
    assert error.last_exception is None
    assert repr(error) == "RetryExhaustedError(attempts=3)"


def test_object_with_an_async_call_is_really_retried():
    class Fetch:
        def __init__(self):
            self.calls = 0

        async def __call__(self):
            self.calls += 1
            if self.calls < 3:
                raise ValueError
            return self.calls

    assert asyncio.run(with_retry(max_attempts=3, **QUICK)(Fetch())()) == 3
    with pytest.raises(TypeError):
        retry_sync(max_attempts=3)(Fetch())


def test_generator_function_is_refused_because_what_it_yielded_cannot_be_taken_back():
    def rows():
        yield 1

    async def stream():
        yield 1

    for decorator in (with_retry(max_attempts=2), retry_sync(max_attempts=2)):
        for fn in (rows, stream):
            with pytest.raises(TypeError, match="generator"):
                decorator(fn)


def test_cancelled_wait_ends_at_once():
    fn = fails(9)

    async def main():
        task = asyncio.create_task(with_retry(max_attempts=5, base_delay=30.0)(as_async(fn))())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with faster_than(10):
        asyncio.run(main())
    assert fn.calls == 1
