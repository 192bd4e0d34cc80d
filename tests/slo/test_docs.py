"""The pages on objectives, dashboards and runbooks say what is so."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from flask_svc_infra.cli import group
from flask_svc_infra.obs.alerts import service_alerts
from flask_svc_infra.obs.burn import TABLE
from flask_svc_infra.obs.rules import Alert, Recording
from flask_svc_infra.obs.slo import SLO
from flask_svc_infra.obs.slo_rules import slo_groups

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("slo.md", "dashboards.md", "runbooks.md")
RULES = [rule for made in [service_alerts(), *slo_groups([SLO("a", objective=0.999)])] for rule in made.rules]
ALERTS = {rule.alert for rule in RULES if isinstance(rule, Alert)}


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def anchors(name: str) -> set[str]:
    return {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", page(name), re.MULTILINE)
    }


@pytest.mark.parametrize("name", PAGES)
def test_python_blocks_run(name):
    for block in re.findall(r"```python\n(.*?)```", page(name), re.DOTALL):
        exec(compile(block, name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)]+)\)", page(name)):
        file, _, anchor = target.partition("#")
        if not file.startswith("https:"):
            assert (DOCS / (file or name)).exists(), target
            assert not anchor or anchor in anchors(file or name), target


@pytest.mark.parametrize("name", PAGES)
def test_commands_exist(name):
    for words in re.findall(r"flask svc-infra ((?:[a-z]+ ?){1,2})", page(name)):
        command: click.Command = group
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            assert word in command.commands, words
            command = command.commands[word]


def test_every_alert_has_a_runbook_and_every_runbook_an_alert():
    assert set(re.findall(r"^## (\w+)$", page("runbooks.md"), re.MULTILINE)) == ALERTS


def test_the_alerts_table_is_complete():
    listed = dict(re.findall(r"^\| \[(\w+)\]\([^)]+\) \| ([a-z, ]+) \|", page("slo.md"), re.MULTILINE))
    made: dict[str, set[str]] = {}
    for rule in RULES:
        if isinstance(rule, Alert):
            made.setdefault(rule.alert, set()).add(rule.labels["severity"])
    assert {alert: set(severities.split(", ")) for alert, severities in listed.items()} == made


def test_every_recorded_series_is_explained():
    for rule in RULES:
        if isinstance(rule, Recording):
            assert f"`{rule.record}" in page("slo.md"), rule.record


@pytest.mark.parametrize("name", ["slo.md", "runbooks.md"])
def test_the_burn_rate_table_is_the_one_in_force(name):
    rows = re.findall(r"^\| (page|ticket) \|(.+)\|$", page(name), re.MULTILINE)
    assert [severity for severity, _ in rows] == [burn.severity for burn in TABLE]
    for (_, row), burn in zip(rows, TABLE, strict=True):
        assert f"{burn.factor:g}" in row
