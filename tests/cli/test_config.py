"""``flask svc-infra config``."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from flask import Flask

from flask_svc_infra.config import Settings

TOKEN = "0123456789abcdef-secret"


def app_with(**config) -> Flask:
    app = Flask("shop")
    app.config.update(config)
    return app


def test_every_setting_is_listed_with_its_origin(flask_command):
    app = app_with(SVC_INFRA_METRICS_PATH="/m", SVC_INFRA_METRICS_ENABLED="False")
    result = flask_command("config", app=app)
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert rows.pop("SETTING") == ["VALUE", "FROM"]
    assert len(rows) == len(fields(Settings))
    assert rows["SVC_INFRA_METRICS_PATH"] == ["/m", "app.config"]
    assert rows["SVC_INFRA_METRICS_ENABLED"] == ["false", "app.config"]
    assert rows["SVC_INFRA_HEALTH_PREFIX"] == ["/_health", "default"]


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_secrets_stay_hidden(flask_command, arguments):
    result = flask_command("config", *arguments, app=app_with(SVC_INFRA_MAINTENANCE_BYPASS_TOKEN=TOKEN))
    assert result.exit_code == 0
    assert "secret" not in result.output
    assert "(hidden)" in result.stdout


def test_json_keeps_the_types(flask_command):
    app = app_with(SVC_INFRA_MAINTENANCE_ALLOW="10.0.0.0/8", SVC_INFRA_DRAIN_SECONDS="5")
    data = json.loads(flask_command("config", "--json", app=app).stdout)
    assert data["SVC_INFRA_MAINTENANCE_ALLOW"] == {"value": ["10.0.0.0/8"], "from": "app.config"}
    assert data["SVC_INFRA_DRAIN_SECONDS"] == {"value": 5.0, "from": "app.config"}
    assert data["SVC_INFRA_MAINTENANCE_BYPASS_TOKEN"] == {"value": None, "from": "default"}
    assert data["SVC_INFRA_METRICS_BUCKETS"]["value"][0] == 0.005


def test_bad_setting_is_told_without_a_traceback(flask_command):
    result = flask_command("config", app=app_with(SVC_INFRA_METRICS_PTH="/m"))
    assert result.exit_code == 1
    assert "Did you mean SVC_INFRA_METRICS_PATH?" in result.output
    assert "Traceback" not in result.output


def test_no_app_is_told_as_flask_tells_it(flask_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = flask_command("config")
    assert result.exit_code == 2
    assert "Could not locate a Flask application" in result.output
