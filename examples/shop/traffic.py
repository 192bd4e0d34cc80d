"""Customers: a bounded number of threads that look, order, and pay again what could not be paid."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter, deque
from typing import Any

CUSTOMERS = 4
MEMORY = 200
"""How many unpaid orders, and how many latencies, are kept in mind."""


class Traffic:
    """Sends about *rate* requests a second to the shop until :meth:`stop`."""

    def __init__(self, host: str, port: int, *, rate: float) -> None:
        self._address = (host, port)
        self._pause = CUSTOMERS / rate
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._unpaid: deque[int] = deque(maxlen=MEMORY)
        self._latencies: deque[float] = deque(maxlen=MEMORY)
        self._threads = [
            threading.Thread(target=self._customer, name=f"customer-{i}", daemon=True)
            for i in range(CUSTOMERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def snapshot(self) -> tuple[Counter[str], int, float]:
        """Return the counts so far, how many orders are unpaid, and the recent 95th percentile in seconds."""
        with self._lock:
            ranked = sorted(self._latencies)
            return self._counts.copy(), len(self._unpaid), ranked[len(ranked) * 95 // 100] if ranked else 0.0

    def _customer(self) -> None:
        while not self._stopping.wait(self._pause * random.uniform(0.5, 1.5)):
            draw = random.random()
            with self._lock:
                unpaid = self._unpaid.popleft() if draw < 0.2 and self._unpaid else None
            if unpaid is not None:
                self._pay(unpaid)
            elif draw < 0.5:
                self._ask("GET", "/products")
            else:
                self._order()

    def _order(self) -> None:
        basket = {"sku": random.choice(["tea", "cup", "pot"]), "quantity": random.randint(1, 3)}
        status, body = self._ask("POST", "/orders", basket)
        if status == http.client.ACCEPTED and body is not None:
            with self._lock:
                self._unpaid.append(body["number"])

    def _pay(self, number: int) -> None:
        status, _ = self._ask("POST", f"/orders/{number}/pay")
        if status != http.client.OK:
            with self._lock:
                self._unpaid.append(number)

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int | None, Any]:
        began = time.monotonic()
        connection = http.client.HTTPConnection(*self._address, timeout=10)
        status, answer = None, None
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, body=data, headers={"Content-Type": "application/json"})
            reply = connection.getresponse()
            status, text = reply.status, reply.read()
            answer = json.loads(text) if reply.getheader("Content-Type") == "application/json" else None
        except (OSError, http.client.HTTPException) as error:
            outcome = type(error).__name__
        else:
            outcome = str(status)
        finally:
            connection.close()
        with self._lock:
            self._counts["requests"] += 1
            self._counts[outcome] += 1
            self._latencies.append(time.monotonic() - began)
        return status, answer
