"""Somebody else's payment API, on loopback, whose failures are turned at run time.

    python -m shop.payment_api PORT
    curl -X PUT 'http://127.0.0.1:PORT/faults?failure_rate=1&delay=0'

It knows nothing of the shop and uses nothing but the standard library.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

LONGEST_DELAY = 60.0
FAILING = 0.5
"""From this failure rate on, the API says of itself that it is not well."""


class PaymentAPI(ThreadingHTTPServer):
    """The server; its faults are plain attributes, read by every request."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        self.failure_rate = 0.0
        self.delay = 0.0
        super().__init__(("127.0.0.1", port), Handler)

    def faults(self) -> dict[str, float]:
        return {"failure_rate": self.failure_rate, "delay": self.delay}

    def turn(self, query: str) -> str | None:
        """Set the faults that *query* names; return what is wrong with it, or None."""
        limits = {"failure_rate": 1.0, "delay": LONGEST_DELAY}
        wanted: dict[str, float] = {}
        for name, values in parse_qs(query, keep_blank_values=True).items():
            try:
                value = float(values[-1])
            except ValueError:
                value = -1.0
            if name not in limits or not 0 <= value <= limits[name]:
                return (
                    f"'{name}' must be failure_rate from 0 to 1, or delay from 0 to {LONGEST_DELAY:g} seconds"
                )
            wanted[name] = value
        for name, value in wanted.items():
            setattr(self, name, value)
        return None


class Handler(BaseHTTPRequestHandler):
    """``POST /charges``, ``GET /health``, ``GET`` and ``PUT /faults``."""

    protocol_version = "HTTP/1.1"
    server: PaymentAPI

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/faults":
            self._answer(200, self.server.faults())
        elif path == "/health":
            time.sleep(self.server.delay)
            well = self.server.failure_rate < FAILING
            self._answer(200 if well else 503, {"status": "ok" if well else "failing"})
        else:
            self._answer(404, {"error": f"no such path: {path}"})

    def do_PUT(self) -> None:
        self._read_body()
        parts = urlsplit(self.path)
        if parts.path != "/faults":
            self._answer(404, {"error": f"no such path: {parts.path}"})
        elif wrong := self.server.turn(parts.query):
            self._answer(400, {"error": wrong})
        else:
            self._answer(200, self.server.faults())

    def do_POST(self) -> None:
        body = self._read_body()
        if urlsplit(self.path).path != "/charges":
            self._answer(404, {"error": f"no such path: {self.path}"})
            return
        time.sleep(self.server.delay)
        if random.random() < self.server.failure_rate:
            self._answer(500, {"error": "the bank does not answer"})
            return
        charge = json.loads(body)
        self._answer(201, {"order": charge["order"], "amount": charge["amount"], "status": "charged"})

    def _read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, body: Mapping[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing: the shop's own output is what matters."""


if __name__ == "__main__":
    PaymentAPI(int(sys.argv[1])).serve_forever()
