"""The whole way on real servers: the example shop is scraped, an outage pages, arrives, and is over."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.processes import eventually, finish, free_port, spawn, started
from support.web import Reply, request

from flask_svc_infra.obs.bundled import dashboard, dashboard_names

pytestmark = [pytest.mark.slow, pytest.mark.needs("psycopg2")]

EXAMPLES = Path(__file__).parents[2] / "examples"
VARIABLES = {"namespace": ".*", "job": "app", "class": ".*", "slo": ".*", "__rate_interval": "1m"}
"""What Grafana puts in the variables' places when all is chosen; the job is the fixture's."""
PAGE = ("availability", "1h")
"""The alert that an outage must raise first: its objective and its long window."""


class PaymentAPI:
    """The shop's payment API, which can be switched off: nobody listens on its port then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        log = self._folder / "payment_api.log"
        argv = [sys.executable, "-m", "shop.payment_api", str(self._port)]
        self._process = spawn(argv, log=log, env={**os.environ, "PYTHONPATH": str(EXAMPLES)})
        with started(self._process, log):
            eventually(
                lambda: request(f"{self.url}/health").status, message="the payment API does not answer"
            )

    def stop(self) -> None:
        finish(self._process, signum=signal.SIGTERM)


class Shop:
    """The demo under gunicorn with its own conf module, on a real PostgreSQL and Valkey."""

    def __init__(
        self, gunicorn: Callable[..., Any], environ: dict[str, str], payment_api: PaymentAPI
    ) -> None:
        self.environ = environ
        self.payment_api = payment_api
        self._gunicorn = gunicorn(
            "shop.app:create_app()",
            workers=2,
            worker_class="gthread",
            threads=8,
            conf="python:flask_svc_infra.gunicorn",
            env=environ,
        )
        self._gunicorn.wait_ready("/_health/ready")
        self.address = f"127.0.0.1:{self._gunicorn.port}"

    def look(self, times: int) -> None:
        """Customers who only look, and the kubelet once."""
        self._send(times, lambda: request(f"{self._gunicorn.url}/products"), {200})
        request(f"{self._gunicorn.url}/_health/ready")

    def order(self, times: int) -> int:
        """Order so often; return the number of the last order."""
        replies = self._send(times, self._order, {201, 202})
        return int(replies[-1].json()["number"])

    def pay(self, number: int, times: int) -> set[int]:
        """Pay one order so often; return the statuses that came back."""
        url = f"{self._gunicorn.url}/orders/{number}/pay"
        return {reply.status for reply in self._send(times, lambda: request(url, "POST"), {200, 500, 503})}

    def command(self, *arguments: str) -> str:
        """Run ``flask --app shop.app svc-infra …``; return what it printed."""
        argv = [sys.executable, "-m", "flask", "--app", "shop.app", "svc-infra", *arguments]
        environ = {**os.environ, **self.environ}
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _order(self) -> Reply:
        headers = {"Content-Type": "application/json"}
        basket = '{"sku": "tea", "quantity": 1}'
        return request(f"{self._gunicorn.url}/orders", "POST", body=basket, headers=headers)

    @staticmethod
    def _send(times: int, send: Callable[[], Reply], allowed: set[int]) -> list[Reply]:
        with ThreadPoolExecutor(4) as customers:
            replies = list(customers.map(lambda _: send(), range(times)))
        assert {reply.status for reply in replies} <= allowed
        return replies


@pytest.fixture
def payment_api(tmp_path: Path) -> Iterator[PaymentAPI]:
    api = PaymentAPI(tmp_path)
    yield api
    api.stop()


@pytest.fixture
def shop(gunicorn, postgres, valkey, payment_api) -> Shop:
    environ = {
        "PYTHONPATH": str(EXAMPLES),
        "SHOP_DATABASE_URL": postgres.url,
        "SHOP_CACHE_URL": valkey.url,
        "SHOP_PAYMENTS_URL": payment_api.url,
        "SHOP_RECOVERY_TIMEOUT": "0.5",
    }
    create = "import sys; from shop.orders import Orders; Orders(sys.argv[1]).create_schema()"
    argv = [sys.executable, "-c", create, postgres.url]
    subprocess.run(argv, env={**os.environ, **environ}, timeout=30, check=True)
    return Shop(gunicorn, environ, payment_api)


def test_an_outage_of_the_shop_pages_reaches_the_alertmanager_and_is_over(
    shop, prometheus, alertmanager, web, tmp_path
):
    rules = tmp_path / "rules.yaml"
    rules.write_text(quickened(shop.command("rules", "generate", "--job", "app")), encoding="utf-8")
    manager = alertmanager(webhook=f"{web.url}/hook")
    server = prometheus(targets=[shop.address], rules=[rules], alertmanager=manager.address)

    def scraped() -> bool:
        shop.order(5)
        return (server.value('sum(rate(http_requests_total{path="/orders|checkout"}[1m]))') or 0) > 0

    eventually(scraped, timeout=40, message="Prometheus does not see the shop")
    assert PAGE not in firing(server)

    shop.payment_api.stop()
    unpaid = shop.order(1)
    seen: set[int] = set()

    def paged() -> bool:
        seen.update(shop.pay(unpaid, 20))
        shop.look(1)
        return PAGE in firing(server)

    eventually(paged, timeout=30, message="the outage does not page")
    assert seen == {500, 503}, (
        "some charges were tried and failed for good, others refused by the open circuit"
    )
    groups = server._api("rules")["groups"]
    assert [rule for group in groups for rule in group["rules"] if rule["health"] != "ok"] == []

    def drawn() -> bool:
        assert silent_queries(server) == []
        assert server.query(annotation("resilience", "Open circuits")), "the outage leaves no mark"
        return True

    # A rate needs two samples of what began with the outage.
    eventually(drawn, timeout=10, interval=0.5, message="a dashboard shows nothing")
    eventually(lambda: PAGE in notified(web, "firing"), timeout=20, message="nobody was told")

    shop.payment_api.start()
    eventually(lambda: shop.pay(unpaid, 1) == {200}, timeout=20, message="the circuit does not close")

    def over() -> bool:
        shop.look(200)
        return PAGE not in firing(server)

    eventually(over, timeout=40, message="the page does not end")
    eventually(
        lambda: PAGE in notified(web, "resolved"), timeout=20, message="nobody was told that it is over"
    )


def quickened(text: str) -> str:
    """The generated rules, evaluated every second: their own half minute is a long time in a test."""
    return re.sub(r"interval: \d+[sm]\n", "interval: 1s\n", text)


def firing(server: Any) -> set[tuple[str, str]]:
    return {of(alert) for alert in server.alerts() if alert["state"] == "firing"}


def notified(web: Any, status: str) -> set[tuple[str, str]]:
    """What the alertmanager's receiver was told is *status* (firing or resolved), at any time."""
    bodies = [json.loads(seen.body) for seen in web.requests if seen.path == "/hook"]
    return {of(alert) for body in bodies for alert in body["alerts"] if alert["status"] == status}


def of(alert: dict[str, Any]) -> tuple[str, str]:
    return alert["labels"].get("slo", ""), alert["labels"].get("window", "")


def silent_queries(server: Any) -> list[str]:
    """Every panel's queries that give nothing, or nothing but NaN, on every bundled dashboard."""
    shown = [
        (f"{name}: {panel['title']}", substituted(target["expr"]))
        for name in dashboard_names()
        for panel in dashboard(name)["panels"]
        for target in panel.get("targets", [])
    ]
    assert len(shown) > 30
    return [
        f"{title}: {expression}"
        for title, expression in shown
        if all(sample["value"][1] == "NaN" for sample in server.query(expression))
    ]


def annotation(name: str, title: str) -> str:
    notes = {note["name"]: note["expr"] for note in dashboard(name)["annotations"]["list"]}
    return substituted(notes[title])


def substituted(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(f"${name}", value)
    return expression
