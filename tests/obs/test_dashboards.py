"""The bundled dashboards: what the documentation promises, and a lint of our own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from support.promql_ast import grouped_labels, nodes, selectors

from flask_svc_infra.obs.bundled import alerting_rules, dashboard, dashboard_names
from flask_svc_infra.obs.catalog import CATALOG
from flask_svc_infra.obs.rules import Recording
from flask_svc_infra.obs.slo import SLO
from flask_svc_infra.obs.slo_rules import slo_groups

ROOT = Path(__file__).parents[2]
NAMES = dashboard_names()
LABELS = {sample: {*spec.labels, "le"} for spec in CATALOG for sample in spec.samples}
TARGET_LABELS = {"job", "namespace", "instance", "pod"}
"""What Prometheus itself puts on every series."""
LEGACY = {"graph", "singlestat", "table-old", "heatmap-old", "alertlist-old"}
PLACEHOLDERS = {"$__rate_interval": "5m", "$__range": "6h", "$__interval": "1m"}


def panels(model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel that shows something, those inside collapsed rows too."""
    for panel in model["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def substituted(expression: str) -> str:
    for placeholder, value in PLACEHOLDERS.items():
        expression = expression.replace(placeholder, value)
    return expression


def expressions(name: str) -> list[str]:
    model = dashboard(name)
    queries = [target["expr"] for panel in panels(model) for target in panel["targets"]]
    notes = [note["expr"] for note in model["annotations"]["list"]]
    return [substituted(expression) for expression in [*queries, *notes]]


def test_the_documented_dashboard_has_the_documented_panels_first():
    titles = [panel["title"] for panel in panels(dashboard("http-overview"))]
    assert titles[:5] == [
        "Success Rate (5m)",
        "P99 Latency",
        "Top Routes by 5xx",
        "Request Rate",
        "Active Connections",
    ]


@pytest.mark.parametrize(
    ("title", "metric", "labels"),
    [
        ("Success Rate (5m)", "http_requests_total", {"status"}),
        ("P99 Latency", "http_request_duration_seconds_bucket", set()),
        ("Top Routes by 5xx", "http_requests_total", {"status", "path"}),
        ("Request Rate", "http_requests_total", set()),
        ("Active Connections", "http_requests_in_progress", set()),
    ],
)
def test_documented_panels_ask_for_the_documented_metrics(title, metric, labels):
    panel = next(p for p in panels(dashboard("http-overview")) if p["title"] == title)
    asked = [s for target in panel["targets"] for s in selectors(substituted(target["expr"]))]
    assert {name for name, _ in asked} == {metric}
    assert labels <= {label for _, matchers in asked for label in matchers}


def test_success_rate_of_a_total_outage_is_zero_not_empty():
    """A numerator without a single success would be an empty vector, and the panel would say no data."""
    panel = next(p for p in panels(dashboard("http-overview")) if p["title"] == "Success Rate (5m)")
    assert "or vector(0)" in panel["targets"][0]["expr"]


@pytest.mark.parametrize("name", NAMES)
def test_files_are_what_the_scripts_make(name):
    argv = [sys.executable, str(ROOT / "scripts/build_dashboards.py"), "--check", name]
    done = subprocess.run(argv, timeout=60, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_the_bare_model_that_provisioning_takes(name):
    model = dashboard(name)
    assert "dashboard" not in model
    assert model["id"] is None
    assert model["uid"].startswith("svc-infra-")
    assert model["title"]
    assert "svc-infra" in model["tags"]


def test_uids_and_titles_are_unique():
    models = [dashboard(name) for name in NAMES]
    assert len({model["uid"] for model in models}) == len({model["title"] for model in models}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_what_a_reader_needs(name):
    model = dashboard(name)
    for panel in panels(model):
        where = f"{name}: {panel['title']}"
        assert panel["type"] not in LEGACY, where
        assert panel["title"], where
        assert panel["description"].endswith("."), where
        assert panel["fieldConfig"]["defaults"]["unit"], where
        assert panel["fieldConfig"]["defaults"]["noValue"], where
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, where
        assert panel["targets"], where
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"], where


@pytest.mark.parametrize("name", NAMES)
def test_panels_neither_overlap_nor_leave_the_grid(name):
    model = dashboard(name)
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in [*model["panels"], *panels(model)]]
    assert len({*ids}) == len([p for p in model["panels"] if p["type"] == "row"]) + len([*panels(model)])
    for panel in model["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", NAMES)
def test_every_expression_is_promql(name):
    for expression in expressions(name):
        assert [*nodes(expression)]


def recorded() -> dict[str, set[str]]:
    """The series the generated recording rules make, and their labels."""
    rules = [rule for group in slo_groups([SLO("x", objective=0.9)]) for rule in group.rules]
    return {rule.record: {"slo", "window"} for rule in rules if isinstance(rule, Recording)}


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_and_label_exists(name):
    known = LABELS | recorded()
    for expression in expressions(name):
        asked = selectors(expression)
        reachable = TARGET_LABELS | {"class"}
        for metric, matchers in asked:
            assert metric in known, f"{name}: {metric} is no metric of the catalog, in {expression}"
            unknown = set(matchers) - known[metric] - TARGET_LABELS
            assert not unknown, f"{name}: {metric} has no label {unknown}, in {expression}"
            reachable |= known[metric]
        assert grouped_labels(expression) <= reachable, f"{name}: {expression}"


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_is_used_and_every_used_one_defined(name):
    model = dashboard(name)
    text = json.dumps([model["panels"], model["annotations"], model["templating"]])
    defined = {variable["name"] for variable in model["templating"]["list"]}
    assert "datasource" in defined
    for variable in defined - {"datasource"}:
        assert f"${variable}" in text, f"{name}: ${variable} is never used"
    for target in (target for panel in panels(model) for target in panel["targets"]):
        words = set(target["expr"].replace("$__rate_interval", "").replace("$__range", "").split("$")[1:])
        for word in words:
            if not word[0].isdigit():
                assert any(word.startswith(name) for name in defined), target["expr"]


@pytest.mark.parametrize("name", NAMES)
def test_dashboards_link_to_each_other(name):
    uids = {dashboard(other)["uid"] for other in NAMES} - {dashboard(name)["uid"]}
    linked = {link["url"].removeprefix("/d/") for link in dashboard(name)["links"]}
    assert uids <= linked


def test_an_unknown_dashboard_is_refused_by_name():
    with pytest.raises(KeyError, match="http-overview"):
        dashboard("../../../etc/passwd")


def test_the_alerts_are_read_from_the_package():
    assert alerting_rules() == (files("flask_svc_infra") / "obs/prometheus/alerting-rules.yaml").read_text()
