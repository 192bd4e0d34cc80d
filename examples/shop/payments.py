"""The shop's side of the payment API: one retry inside, a circuit breaker around."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import requests

from flask_svc_infra.resilience import CircuitBreaker, retry_sync

if TYPE_CHECKING:
    from .orders import Order


class Payments:
    """Charges orders. Safe to use from several threads."""

    def __init__(self, url: str, breaker: CircuitBreaker, *, timeout: float = 1.0) -> None:
        self._url = url
        self._timeout = timeout
        # The breaker is the outer one: it counts one failure for a charge, not one for each attempt, and an
        # open circuit is not retried.
        self.charge: Callable[[Order], None] = breaker.protect(self._charge_with_retry)

    def _charge_with_retry(self, order: Order) -> None:
        retry_sync(self._charge, order, max_attempts=2, base_delay=0.05, retry_on=(requests.ConnectionError,))

    def _charge(self, order: Order) -> None:
        charge = {"order": order.number, "amount": order.amount}
        reply = requests.post(f"{self._url}/charges", json=charge, timeout=self._timeout)
        reply.raise_for_status()
