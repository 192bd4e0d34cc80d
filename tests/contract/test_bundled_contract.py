"""The dashboard and the alert rules that come with the package."""

from __future__ import annotations

import importlib
import importlib.resources
import json
import re

import pytest
from contract._metrics import shop
from contract._parts import (
    scrape,
)


def bundled(*parts):
    return importlib.resources.files("flask_svc_infra").joinpath(*parts)


def dashboard():
    return json.loads(
        bundled("obs", "grafana", "dashboards", "http-overview.json").read_text(encoding="utf-8")
    )


def panels(model):
    for panel in model["panels"]:
        yield panel
        yield from panel.get("panels", [])


def test_dashboard_is_the_bare_model_with_the_documented_panels():
    model = dashboard()
    assert "dashboard" not in model
    assert model["title"]
    assert model["schemaVersion"]
    assert model.get("id") is None
    titles = [panel["title"] for panel in panels(model) if panel["type"] != "row"]
    for title in (
        "Success Rate (5m)",
        "P99 Latency",
        "Top Routes by 5xx",
        "Request Rate",
        "Active Connections",
    ):
        assert title in titles


def test_dashboard_asks_only_for_metrics_that_exist():
    client = shop().test_client()
    client.get("/")
    known = {name for name, _ in scrape(client)}
    for panel in panels(dashboard()):
        for target in panel.get("targets", []):
            named = set(re.findall(r"\b(?:http|circuit|health|maintenance)_[a-z_]+", target["expr"]))
            assert named, target["expr"]
            assert named <= known, named - known


def rules_text():
    folder = bundled("obs", "prometheus")
    texts = [f.read_text(encoding="utf-8") for f in folder.iterdir() if f.name.endswith((".yml", ".yaml"))]
    assert texts, "no alert rules file is bundled"
    return "\n".join(texts)


def alerts():
    yaml = pytest.importorskip("yaml")
    folder = bundled("obs", "prometheus")
    found = {}
    for file in folder.iterdir():
        if file.name.endswith((".yml", ".yaml")):
            for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
                found.update({rule["alert"]: rule for rule in group["rules"] if "alert" in rule})
    return found


def test_the_three_documented_alerts_are_bundled():
    found = alerts()
    assert {"HighErrorRate", "HighLatency", "CircuitBreakerOpen"} <= set(found)
    assert "http_requests_total" in found["HighErrorRate"]["expr"]
    assert "histogram_quantile(0.99" in found["HighLatency"]["expr"].replace(" ", "")
    names = ("HighErrorRate", "HighLatency", "CircuitBreakerOpen")
    assert [found[name]["for"] for name in names] == ["2m", "5m", "1m"]


def test_breaker_alert_fires_from_several_workers():
    expression = alerts()["CircuitBreakerOpen"]["expr"]
    assert 'circuit_breaker_state{state="open"}' in expression.replace(" ", "")
    assert "max" in expression


def test_error_budget_divides_by_the_budget():
    """Spent exactly (error ratio = 1 - objective), the remaining budget is 0, not 0.998."""
    text = rules_text() + bundled("obs", "grafana", "dashboards", "http-overview.json").read_text(
        encoding="utf-8"
    )
    assert "- 0.001\n" not in text
    assert not re.search(r"\)\s*-\s*0\.001", text)
