"""The exception tree: who descends from whom, what the messages say, what survives pickling."""

from __future__ import annotations

import pickle

import pytest

import flask_svc_infra
from flask_svc_infra import errors
from flask_svc_infra.errors import (
    BulkheadFullError,
    CircuitBreakerError,
    ConfigurationError,
    MissingDriverError,
    RetryExhaustedError,
    SvcInfraError,
)
from flask_svc_infra.resilience import CircuitState

SAMPLES = [
    ConfigurationError("SVC_INFRA_X is 1"),
    MissingDriverError("check_redis", module="redis", extra="redis"),
    CircuitBreakerError("billing", state=CircuitState.OPEN, remaining_timeout=12.5),
    CircuitBreakerError("billing", state=CircuitState.HALF_OPEN),
    BulkheadFullError("pool", max_concurrent=4),
    RetryExhaustedError("all 3 attempts failed", attempts=3, last_exception=ValueError("x")),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_every_error_is_a_svc_infra_error(error):
    assert isinstance(error, SvcInfraError)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_errors_survive_pickling_with_their_facts(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    for fact in ("name", "state", "remaining_timeout", "attempts", "max_concurrent", "module", "extra"):
        assert getattr(copy, fact, None) == getattr(error, fact, None)


def test_a_configuration_error_is_a_value_error():
    assert issubclass(ConfigurationError, ValueError)


def test_a_missing_driver_is_an_import_error_that_names_module_and_cure():
    error = MissingDriverError("check_redis", module="redis", extra="redis")
    assert isinstance(error, ImportError)
    assert error.name == "redis"
    assert "pip install 'flask-svc-infra[redis]'" in str(error)


def test_a_missing_driver_speaks_of_no_check_where_there_is_none():
    """Shared state, the exporter and the measured clients need drivers as well."""
    error = MissingDriverError("instrument_httpx()", module="httpx", extra=None)
    assert str(error) == (
        "instrument_httpx() needs the module 'httpx', which is not installed; nothing was changed. "
        "Run: pip install httpx"
    )
    assert (error.module, error.extra) == ("httpx", None)


def test_a_rejection_says_who_is_what_and_when_to_come_back():
    error = CircuitBreakerError("billing", state=CircuitState.OPEN, remaining_timeout=12.5)
    assert str(error) == "circuit 'billing' is open; retry after 12.5s"
    assert (error.name, error.state, error.remaining_timeout) == ("billing", CircuitState.OPEN, 12.5)


def test_the_public_errors_are_those_of_the_package():
    assert sorted(errors.__all__) == errors.__all__
    for name in errors.__all__:
        assert getattr(flask_svc_infra, name) is getattr(errors, name)


@pytest.mark.parametrize(("most", "said"), [(1, "1 call is in flight"), (4, "4 calls are in flight")])
def test_a_full_bulkhead_says_how_many_are_in_it(most, said):
    assert str(BulkheadFullError("pool", max_concurrent=most)) == (
        f"bulkhead 'pool' is full; {said} and this one was refused"
    )
