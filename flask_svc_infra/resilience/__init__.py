"""Circuit breakers, retries and bulkheads, for sync and async code alike."""

from __future__ import annotations

from ..errors import BulkheadFullError, CircuitBreakerError, RetryExhaustedError
from ..events import Transition
from .breaker import CircuitBreaker, live_breakers
from .breakers import Breakers
from .bulkhead import Bulkhead, Place, live_bulkheads
from .generations import CircuitState, Forced, Outcome
from .options import BreakerOptions, CircuitBreakerStats
from .permit import Permit
from .recovery import exponential_recovery
from .retry import RetryConfig, retry_sync, with_retry
from .rules import TripRule, consecutive, failure_rate, slow_rate

__all__ = [
    "BreakerOptions",
    "Breakers",
    "Bulkhead",
    "BulkheadFullError",
    "CircuitBreaker",
    "CircuitBreakerError",
    "CircuitBreakerStats",
    "CircuitState",
    "Forced",
    "Outcome",
    "Permit",
    "Place",
    "RetryConfig",
    "RetryExhaustedError",
    "Transition",
    "TripRule",
    "consecutive",
    "exponential_recovery",
    "failure_rate",
    "live_breakers",
    "live_bulkheads",
    "retry_sync",
    "slow_rate",
    "with_retry",
]
