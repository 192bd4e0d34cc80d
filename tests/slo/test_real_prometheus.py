"""The whole way on real servers: gunicorn is scraped, rules are evaluated, an outage pages and is over."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.processes import eventually
from support.web import request

from flask_svc_infra.obs.alerts import service_alerts
from flask_svc_infra.obs.bundled import dashboard, dashboard_names
from flask_svc_infra.obs.rules import Scope, to_rule_file
from flask_svc_infra.obs.slo import SLO
from flask_svc_infra.obs.slo_rules import slo_groups

pytestmark = pytest.mark.slow

SOURCE = """
from flask import Flask, request
from flask_svc_infra import SLO, SvcInfra
from flask_svc_infra.resilience import Bulkhead, retry_sync

app = Flask(__name__, static_folder=None)
infra = SvcInfra(
    slos=[SLO("availability", objective=0.9), SLO("fast", objective=0.9, latency=0.3)],
    route_classifier=lambda rule, method: "system" if rule.startswith("/_") else 'public "a|b"',
)
payments = infra.breaker("payments", failure_threshold=1, recovery_timeout=600)
desk = Bulkhead("desk", max_concurrent=1)
infra.health.add("always", lambda: True)

@retry_sync(max_attempts=2, base_delay=0.001)
def flaky(fail):
    if fail:
        raise OSError("down")

@app.get("/buy")
def buy():
    fail = "fail" in request.args
    with desk:
        try:
            flaky(fail)
            return "sold"
        except Exception:
            return "down", 500

@app.get("/trip")
def trip():
    try:
        with payments:
            raise OSError("down")
    except OSError:
        return "tripped"

infra.init_app(app)
"""
SLOS = [SLO("availability", objective=0.9), SLO("fast", objective=0.9, latency=0.3)]
VARIABLES = {"namespace": ".*", "job": "app", "class": ".*", "slo": ".*", "__rate_interval": "1m"}


def quickened(text: str) -> str:
    """The generated rules, evaluated every second: their own half minute is a long time in a test."""
    return re.sub(r"interval: \d+[sm]\n", "interval: 1s\n", text)


def substituted(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(f"${name}", value)
    return expression


def send(url: str, path: str, times: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        for reply in pool.map(lambda _: request(url + path), range(times)):
            assert reply.status in {200, 500}


@pytest.fixture
def service(gunicorn) -> Any:
    server = gunicorn(
        source=SOURCE, workers=2, worker_class="gthread", threads=4, conf="python:flask_svc_infra.gunicorn"
    )
    server.wait_ready("/_health/ready")
    return server


def firing(prometheus: Any) -> set[tuple[str, str]]:
    return {
        (alert["labels"]["alertname"], alert["labels"].get("window", ""))
        for alert in prometheus.alerts()
        if alert["state"] == "firing"
    }


def test_an_outage_pages_reaches_the_alertmanager_and_is_over(
    service, prometheus, alertmanager, web, tmp_path
):
    rules = tmp_path / "rules.yaml"
    scope = Scope(job="app")
    rules.write_text(
        quickened(to_rule_file([service_alerts(scope), *slo_groups(SLOS, scope)])), encoding="utf-8"
    )
    manager = alertmanager(webhook=web.url + "/hook")
    server = prometheus(targets=[f"127.0.0.1:{service.port}"], rules=[rules], alertmanager=manager.address)
    send(service.url, "/trip", 1)

    def scraped() -> bool:
        send(service.url, "/buy", 5)
        request(service.url + "/_health/ready")
        return (server.value('sum(rate(http_requests_total{path=~"/buy.*"}[1m]))') or 0) > 0

    eventually(scraped, timeout=40, message="Prometheus does not see the service")

    send(service.url, "/buy?fail=1", 300)
    page = ("ErrorBudgetBurn", "1h")
    eventually(lambda: page in firing(server), timeout=30, message="the outage does not page")

    groups = server._api("rules")["groups"]
    assert [rule for group in groups for rule in group["rules"] if rule["health"] != "ok"] == []
    assert panels_without_data(server) == []

    def over() -> bool:
        send(service.url, "/buy", 400)
        return page not in firing(server)

    eventually(over, timeout=40, message="the page does not end")
    eventually(
        lambda: any(b'"firing"' in body and b"ErrorBudgetBurn" in body for body in hooks(web)),
        timeout=20,
        message="the alertmanager was not told",
    )


def hooks(web: Any) -> list[bytes]:
    return [seen.body for seen in web.requests if seen.path == "/hook"]


MAY_BE_EMPTY = {"Failed Attempts"}
"""Exported from the first failed attempt of a retried function on, and not by every service."""


def panels_without_data(server: Any) -> list[str]:
    shown = [
        (f"{name}: {panel['title']}", substituted(target["expr"]))
        for name in dashboard_names()
        for panel in dashboard(name)["panels"]
        for target in panel.get("targets", [])
        if panel["title"] not in MAY_BE_EMPTY
    ]
    return [f"{title}: {expression}" for title, expression in shown if not server.query(expression)]


def test_a_group_of_fifty_objectives_is_evaluated_in_less_than_a_second(service, prometheus, tmp_path):
    rules = tmp_path / "rules.yaml"
    slos = [SLO(f"s{i}", objective=0.999, path=f"/p/{i}") for i in range(49)] + [SLO("all", objective=0.99)]
    rules.write_text(quickened(to_rule_file(slo_groups(slos, Scope(job="app")))), encoding="utf-8")
    server = prometheus(targets=[f"127.0.0.1:{service.port}"], rules=[rules])

    def evaluated() -> bool:
        send(service.url, "/buy", 5)
        return server.value('count(slo:error_ratio{window="5m"})') is not None

    eventually(evaluated, timeout=40, message="the rules are not evaluated")
    time.sleep(2)
    groups = server._api("rules")["groups"]
    assert len(groups) == 150
    spent = sum(group["evaluationTime"] for group in groups)
    assert spent < 1, f"50 objectives took {spent:.3f} s"
