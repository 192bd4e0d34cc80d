"""The demo does what README promises: comes up from nothing, breaks, recovers, leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import guardian
from support.processes import alive, eventually
from support.web import Reply, request

DEMO = Path(__file__).resolve().parents[2] / "examples" / "shop" / "demo.py"

pytestmark = [pytest.mark.slow, pytest.mark.needs("psycopg2")]


class Demo(NamedTuple):
    process: subprocess.Popen[bytes]
    output: Path
    shop: str
    api: str

    def get(self, path: str) -> Reply:
        return request(self.shop + path)

    def turn(self, faults: str) -> None:
        assert request(f"{self.api}/faults?{faults}", "PUT").status == 200

    def metric(self, name: str, /, **labels: str) -> float:
        """Return the sum of a metric's samples that carry *labels*."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    def readiness(self) -> tuple[int, str, dict[str, str]]:
        reply = self.get("/_health/ready")
        body = reply.json()
        return reply.status, body["status"], {check["name"]: check["status"] for check in body["checks"]}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    output = tmp_path / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-u", str(DEMO), "--port", "0", "--rate", "40"],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path), "SHOP_RECOVERY_TIMEOUT": "1.0"},
            start_new_session=True,
        )

    def urls() -> re.Match[str] | None:
        text = output.read_text()
        if process.poll() is not None:
            pytest.fail(f"the demo exited with {process.returncode}:\n{text}")
        return re.search(r"(http://\S+)/ .*the shop[\s\S]*?'(http://[^/]+)/faults", text)

    try:
        found = eventually(urls, timeout=40, message="the demo did not print its URLs")
        yield Demo(process, output, found[1], found[2])
    finally:
        guardian.signal_tree(process.pid, signal.SIGKILL)
        process.wait()


def test_demo_breaks_and_recovers_and_stops_everything_at_ctrl_c(demo: Demo):
    status, overall, checks = demo.readiness()
    assert (status, overall) == (200, "healthy")
    assert checks["database"] == checks["cache"] == checks["payments"] == "healthy"
    assert demo.get("/products").json()["products"]

    # Both workers' requests are in whichever worker's /metrics.
    # Several requests at once: one idle worker may take every single one that comes alone.
    workers: set[int] = set()
    sent = 0
    with ThreadPoolExecutor(8) as clients:
        while len(workers) < 2:
            workers.update(clients.map(lambda _: demo.get("/").json()["worker"], range(16)))
            sent += 16
            assert sent < 1600, "one worker answers everything"
    assert demo.metric("http_requests_total", method="GET", path="/|public", status="200") == sent
    assert demo.metric("http_request_duration_seconds_count", path="/|public") == sent
    exposed = demo.get("/metrics").text
    for name in ("http_requests_in_progress", "circuit_breaker_state"):
        assert f"\n{name}{{" in exposed
    assert demo.metric("circuit_breaker_state", name="payments", state="closed") == 1
    assert demo.metric("circuit_breaker_state", name="payments", state="open") == 0

    demo.turn("failure_rate=1")
    eventually(lambda: demo.metric("circuit_breaker_state", name="payments", state="open") == 1, timeout=15)
    status, overall, checks = eventually(
        lambda: (seen := demo.readiness())[2]["payments"] == "unhealthy" and seen,
        message="readiness did not degrade",
    )
    assert (status, overall) == (200, "degraded")
    assert checks["database"] == "healthy"
    before = demo.metric("http_requests_total", path="/orders|checkout", status="202")
    eventually(lambda: demo.metric("http_requests_total", path="/orders|checkout", status="202") > before)
    refused = eventually(lambda: _refused(demo), message="no open circuit was ever told to a client")
    assert int(refused.headers["Retry-After"]) >= 1

    demo.turn("failure_rate=0&delay=0")
    eventually(lambda: demo.readiness()[1] == "healthy", timeout=20, message="readiness did not recover")
    eventually(lambda: demo.metric("circuit_breaker_state", name="payments", state="closed") == 1, timeout=10)
    assert "circuit open" in demo.output.read_text()

    _operate(demo)

    started = guardian.tree(demo.process.pid)
    assert len(started) > 5
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(30) == 0
    eventually(lambda: not [pid for pid in started if alive(pid)], message=f"of {started} some are alive")
    assert "everything it started has stopped" in demo.output.read_text()


def _operate(demo: Demo) -> None:
    """Switch maintenance on and off at the operations page, as README says."""
    assert demo.get("/_ops/console").status == 401
    found = re.search(r"password (shop-\w+)", demo.output.read_text())
    assert found is not None
    credentials = b64encode(f"ann:{found[1]}".encode()).decode()
    headers = {
        "Authorization": f"Basic {credentials}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    page = request(f"{demo.shop}/_ops/console", headers=headers)
    assert page.status == 200
    assert "payments" in page.text
    for order, status in (
        ("action=maintenance.enable&mode=full&reason=demo", 503),
        ("action=maintenance.disable", 200),
    ):
        assert request(f"{demo.shop}/_ops/console", "POST", body=order, headers=headers).status == 303
        eventually(lambda wanted=status: {demo.get("/").status for _ in range(16)} == {wanted}, timeout=5)


def _refused(demo: Demo) -> Reply | None:
    """Ask for an unpaid order to be paid; return the refusal, if it was one."""
    order = request(
        f"{demo.shop}/orders",
        "POST",
        body='{"sku": "tea", "quantity": 1}',
        headers={"Content-Type": "application/json"},
    )
    if order.status != 202:
        return None
    reply = request(f"{demo.shop}/orders/{order.json()['number']}/pay", "POST")
    return reply if reply.status == 503 else None
