"""The shop's side of the payment API: one retry inside, a circuit breaker around, a bulkhead around that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import requests

from flask_svc_infra.resilience import Bulkhead, CircuitBreaker, retry_sync

if TYPE_CHECKING:
    from .orders import Order

_logger = logging.getLogger(__name__)

AT_ONCE = 6
"""Charges in flight in one worker, which has eight threads."""


class Payments:
    """Charges orders. Safe to use from several threads.

    The breaker is outside and the retry inside: a charge counts as one failure, not each of its attempts, and
    an open circuit is not retried. The bulkhead is outside of both: while the payment API is slow, some of
    the worker's threads are left for those who only look, and a full bulkhead is no failure of the API.

    Attributes:
        charge: charges an order, or raises; ``CircuitBreakerError`` when the circuit is open,
            ``BulkheadFullError`` when too many are being charged.
        charge_or_wait: charges an order and returns True; returns False where ``charge`` would refuse.
    """

    def __init__(self, url: str, breaker: CircuitBreaker, *, timeout: float = 1.0) -> None:
        self._url = url
        self._timeout = timeout
        charge = retry_sync(max_attempts=2, base_delay=0.05, retry_on=(requests.ConnectionError,))(self._post)
        desk = Bulkhead("payments", max_concurrent=AT_ONCE)
        self.charge: Callable[[Order], bool] = desk.protect(breaker.protect(charge))
        self.charge_or_wait: Callable[[Order], bool] = desk.protect(fallback=_wait)(
            breaker.protect(fallback=_wait)(charge)
        )

    def _post(self, order: Order) -> bool:
        charge = {"order": order.number, "amount": order.amount}
        reply = requests.post(f"{self._url}/charges", json=charge, timeout=self._timeout)
        reply.raise_for_status()
        return True


def _wait(order: Order) -> bool:
    """Answer in the payment API's place while it cannot be asked: the order is paid later."""
    _logger.info("order %s waits for the payment API", order.number)
    return False
