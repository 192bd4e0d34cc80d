"""Retrying: how often, how long in between, after what; and what is told of it."""

from __future__ import annotations

import asyncio
import inspect
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.events import Retried, retried
from flask_svc_infra.resilience import (
    CircuitBreaker,
    CircuitBreakerError,
    RetryConfig,
    RetryExhaustedError,
    retry_sync,
    with_retry,
)

AT_ONCE = {"base_delay": 0.0}


class Flaky:
    """Fails *times* times, then answers."""

    def __init__(self, times, error=ValueError):
        self.times, self.error, self.calls = times, error, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls <= self.times:
            raise self.error(f"failure {self.calls}")
        return args, kwargs


def run_sync(decorator, flaky, *args, **kwargs):
    def fetch(*args, **kwargs):
        return flaky(*args, **kwargs)

    return decorator(fetch)(*args, **kwargs)


def run_async(decorator, flaky, *args, **kwargs):
    async def fetch(*args, **kwargs):
        return flaky(*args, **kwargs)

    return asyncio.run(decorator(fetch)(*args, **kwargs))


FORMS = pytest.mark.parametrize(
    ("decorate", "run"), [(retry_sync, run_sync), (with_retry, run_sync), (with_retry, run_async)]
)


@FORMS
def test_it_tries_until_it_succeeds(decorate, run):
    flaky = Flaky(2)
    assert run(decorate(max_attempts=3, **AT_ONCE), flaky, 1, b=2) == ((1,), {"b": 2})
    assert flaky.calls == 3


@FORMS
def test_it_gives_up_with_the_last_failure_as_cause(decorate, run):
    flaky = Flaky(9)
    with pytest.raises(RetryExhaustedError) as given_up:
        run(decorate(max_attempts=3, **AT_ONCE), flaky)
    error = given_up.value
    assert (flaky.calls, error.attempts) == (3, 3)
    assert str(error.last_exception) == "failure 3"
    assert error.__cause__ is error.last_exception
    assert "failed in all of 3 attempts, last with ValueError; it was given up" in str(error)
    assert repr(error) == "RetryExhaustedError(attempts=3)"


@FORMS
def test_other_exceptions_come_out_at_once(decorate, run):
    for error in (TypeError, KeyboardInterrupt, asyncio.CancelledError):
        flaky = Flaky(9, error)
        with pytest.raises(error):
            run(decorate(retry_on=(ValueError,), **AT_ONCE), flaky)
        assert flaky.calls == 1


@FORMS
def test_listener_is_told_before_each_wait_and_its_error_ends_it(decorate, run):
    told = []
    run(decorate(3, 0.0, on_retry=lambda attempt, error: told.append((attempt, str(error)))), Flaky(2))
    assert told == [(1, "failure 1"), (2, "failure 2")]

    def broken(_attempt, _error):
        raise RuntimeError("listener broke")

    flaky = Flaky(2)
    with pytest.raises(RuntimeError, match="listener broke") as caught:
        run(decorate(3, 0.0, on_retry=broken), flaky)
    assert flaky.calls == 1
    assert str(caught.value.__context__) == "failure 1", "what failed in the first place stays visible"


@FORMS
def test_listener_may_raise_the_failure_itself_or_hide_it(decorate, run):
    def same(_attempt, error):
        raise error

    with pytest.raises(ValueError, match="failure 1") as caught:
        run(decorate(3, 0.0, on_retry=same), Flaky(2))
    assert caught.value.__context__ is None

    def other(_attempt, _error):
        raise RuntimeError("told otherwise") from None

    with pytest.raises(RuntimeError) as caught:
        run(decorate(3, 0.0, on_retry=other), Flaky(2))
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("decorate", [with_retry, retry_sync])
def test_listener_that_would_never_be_awaited_is_refused(decorate):
    async def tell(attempt, error):
        pass

    class Teller:
        async def __call__(self, attempt, error):
            pass

    for listener in (tell, Teller()):
        with pytest.raises(
            ConfigurationError, match=r"on_retry is .*Give it a plain function.*never be awaited"
        ):
            decorate(on_retry=listener)


@FORMS
def test_circuit_breaker_error_is_not_retried_unless_it_is_named(decorate, run):
    def refused(_text):
        return CircuitBreakerError("dep", state="open")

    for retry_on, calls in [
        ((Exception,), 1),
        ((ValueError, OSError), 1),
        ((CircuitBreakerError,), 3),
        ((Exception, CircuitBreakerError), 3),
    ]:
        flaky = Flaky(9, refused)
        with pytest.raises((CircuitBreakerError, RetryExhaustedError)):
            run(decorate(max_attempts=3, retry_on=retry_on, **AT_ONCE), flaky)
        assert flaky.calls == calls


@FORMS
def test_each_failed_attempt_is_told_on_the_signal_and_in_the_log(decorate, run, caplog):
    events = []

    def receiver(_sender, event):
        events.append(event)

    retried.connect(receiver)
    with (
        caplog.at_level(logging.DEBUG, logger="flask_svc_infra.resilience"),
        pytest.raises(RetryExhaustedError),
    ):
        run(decorate(max_attempts=3, base_delay=0.001, exponential_base=2.0, jitter=0), Flaky(9))
    assert all(isinstance(event, Retried) and event.function.endswith("fetch") for event in events)
    assert [(event.attempt, event.error, event.delay) for event in events] == [
        (1, "ValueError", 0.001),
        (2, "ValueError", 0.002),
        (3, "ValueError", None),
    ]
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG", "WARNING"]
    assert "failure 1" not in caplog.text, "what an exception says may be a secret"


def test_arguments_may_be_given_by_position_as_documented():
    for decorate in (with_retry, retry_sync):
        signature = inspect.signature(decorate)
        assert {name: p.default for name, p in signature.parameters.items()} == {
            "max_attempts": 3,
            "base_delay": 0.1,
            "max_delay": 60.0,
            "exponential_base": 2.0,
            "jitter": 0.1,
            "retry_on": (Exception,),
            "on_retry": None,
        }
        kinds = [p.kind.name for p in signature.parameters.values()]
        assert kinds == ["POSITIONAL_OR_KEYWORD"] * 6 + ["KEYWORD_ONLY"]
        assert decorate(3, 0.0)(lambda: "done")() == "done"


@FORMS
@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": 1.5},
        {"base_delay": -1},
        {"max_delay": float("inf")},
        {"exponential_base": 0.5},
        {"jitter": 2},
        {"retry_on": ValueError},
        {"retry_on": (KeyboardInterrupt,)},
        {"on_retry": 5},
    ],
)
def test_arguments_that_cannot_work_are_refused_where_they_are_given(decorate, run, options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        decorate(**options)
    if "on_retry" not in options:
        with pytest.raises(ConfigurationError):
            RetryConfig(**options)


def test_forgotten_parentheses_are_noticed():
    with pytest.raises(ConfigurationError, match="max_attempts is <function"):

        @with_retry
        def fetch():
            pass


def test_functions_that_cannot_be_retried_are_refused():
    def numbers():
        yield 1

    async def async_numbers():
        yield 1

    async def fetch():
        pass

    for stream in (numbers, async_numbers):
        for decorate in (with_retry, retry_sync):
            with pytest.raises(TypeError, match="generator function and cannot be retried"):
                decorate()(stream)
    with pytest.raises(TypeError, match="Use with_retry"):
        retry_sync()(fetch)
    with pytest.raises(TypeError, match="5 is not callable"):
        with_retry()(5)


def test_decorated_function_keeps_its_face():
    @with_retry()
    async def fetch(key: str) -> str:
        """Fetch."""
        return key

    assert inspect.iscoroutinefunction(fetch)
    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetch.")
    assert list(inspect.signature(fetch).parameters) == ["key"]


def test_config_has_the_documented_defaults_and_is_a_value():
    config = RetryConfig()
    assert (config.max_attempts, config.base_delay, config.max_delay) == (3, 0.1, 60.0)
    assert (config.exponential_base, config.jitter, config.retry_on) == (2.0, 0.1, (Exception,))
    assert config == RetryConfig(3)
    assert hash(config) == hash(RetryConfig(3))


def test_delays_double_up_to_the_maximum():
    config = RetryConfig(base_delay=1.0, max_delay=5.0, jitter=0.0)
    assert [config.calculate_delay(attempt) for attempt in (1, 2, 3, 4, 10, 100_000)] == [
        1.0,
        2.0,
        4.0,
        5.0,
        5.0,
        5.0,
    ]


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0, 10), st.floats(0, 100))
def test_jitter_stays_within_its_share_and_the_maximum(attempt, jitter, base, maximum):
    config = RetryConfig(base_delay=base, max_delay=maximum, jitter=jitter)
    plain = RetryConfig(base_delay=base, max_delay=maximum, jitter=0).calculate_delay(attempt)
    delay = config.calculate_delay(attempt)
    assert 0 <= plain * (1 - jitter) * 0.999 <= delay <= maximum


# --- retry, breaker, timeout, bulkhead ----------------------------------------------------------------------


def test_retry_outside_the_breaker_stops_when_the_circuit_opens():
    """The documented order: each attempt is a call of the circuit, and a refusal ends the retrying."""
    breaker, calls = CircuitBreaker("dep", failure_threshold=2), []

    @with_retry(max_attempts=10, retry_on=(ConnectionError,), **AT_ONCE)
    @breaker.protect
    def fetch():
        calls.append(1)
        raise ConnectionError

    with pytest.raises(CircuitBreakerError):
        fetch()
    assert len(calls) == 2
    assert breaker.stats.failed_calls == 2


def test_retry_inside_the_breaker_hides_attempts_from_it():
    """The other order: the circuit sees one call, however many attempts it took."""
    breaker, flaky = CircuitBreaker("dep", failure_threshold=1), Flaky(2)
    assert breaker.protect(with_retry(max_attempts=3, **AT_ONCE)(flaky))() == ((), {})
    assert (breaker.stats.successful_calls, breaker.stats.failed_calls) == (1, 0)


def test_full_bulkhead_outside_the_breaker_is_no_failure_of_the_dependency():
    from flask_svc_infra.resilience import Bulkhead, BulkheadFullError

    breaker, bulkhead = CircuitBreaker("dep", failure_threshold=1), Bulkhead("dep", max_concurrent=1)

    @with_retry(max_attempts=3, retry_on=(ConnectionError,), **AT_ONCE)
    @bulkhead.protect
    @breaker.protect
    def fetch():
        return "answer"

    with bulkhead, pytest.raises(BulkheadFullError):
        fetch()
    assert breaker.stats.total_calls == 0
    assert fetch() == "answer"


def test_timeout_innermost_makes_a_slow_attempt_a_failure_to_retry():
    breaker, attempts = CircuitBreaker("dep", failure_threshold=5), []

    @with_retry(max_attempts=3, retry_on=(TimeoutError,), **AT_ONCE)
    @breaker.protect
    async def fetch():
        attempts.append(1)
        async with asyncio.timeout(0.001 if len(attempts) < 3 else 10):
            await asyncio.sleep(0 if len(attempts) == 3 else 10)
        return "answer"

    assert asyncio.run(fetch()) == "answer"
    assert (breaker.stats.failed_calls, breaker.stats.successful_calls) == (2, 1)
