"""One table: the names are good names, the page says what the table says, and the code exports no others."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from obs.reading import scrape

from flask_svc_infra.obs.catalog import CATALOG, COMPAT, CONTRACT, MetricSpec

if TYPE_CHECKING:
    from flask import Flask

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(
    r"\| `(?P<name>\w+)` \| (?P<kind>\w+) \| (?P<labels>[^|]*?) ?(?:\| the (?P<of>\w+) )?\| (?P<help>.*) \|"
)
ALL = (*CATALOG, *COMPAT)
names = pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)


def documented() -> dict[str, re.Match[str]]:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return {match["name"]: match for match in ROW.finditer(text)}


def test_contract_is_there() -> None:
    found = {spec.name: spec for spec in CATALOG}
    assert found["http_requests_total"].labels == ("method", "path", "status")
    assert found["http_request_duration_seconds"].labels == ("method", "path")
    assert found["http_requests_in_progress"].labels == ("method",)
    assert found["circuit_breaker_state"].labels == ("name", "state")
    assert {spec.name for spec in CONTRACT} <= set(found)


@names
def test_page_says_what_the_table_says(spec: MetricSpec) -> None:
    row = documented()[spec.name]
    assert row["kind"] == spec.kind
    assert tuple(re.findall(r"`(\w+)`", row["labels"])) == spec.labels
    assert row["help"] == spec.help
    if spec in CATALOG:
        assert row["of"] == spec.scope


def test_page_names_no_other() -> None:
    assert set(documented()) == {spec.name for spec in ALL}


@names
def test_name_follows_prometheus_conventions(spec: MetricSpec) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", spec.name)
    assert spec.name.endswith("_total") == (spec.kind == "counter")
    assert spec.help.endswith(".")
    assert bool(spec.buckets) == (spec.kind == "histogram")
    assert bool(spec.mode) == (spec.kind == "gauge")
    assert list(spec.buckets) == sorted(spec.buckets)
    assert not {"le", "quantile", "job", "instance", "pid"} & set(spec.labels)


def test_names_are_unique_in_every_format() -> None:
    families = [spec.family for spec in ALL]
    assert len(set(families)) == len(families)
    samples = [name for spec in ALL for name in spec.samples]
    assert len(set(samples)) == len(samples)


def test_nothing_of_ours_is_exported_under_another_name(make_app: Callable[..., Flask]) -> None:
    client = make_app(compat="svc-infra").test_client()
    client.get("/items/1")
    families = {family.name for family in scrape(client).families}
    ours = {name for name in families if not name.startswith(("process_", "python_"))}
    assert ours <= {spec.family for spec in ALL} | {"obs_test_jobs"}


def test_importing_it_imports_no_prometheus_client() -> None:
    code = "import sys, flask_svc_infra.obs.catalog; print('prometheus_client' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"
