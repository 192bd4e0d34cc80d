"""``flask svc-infra rules``: what it writes loads into Prometheus, and what it tests is tested."""

from __future__ import annotations

import json

import pytest
import yaml
from flask import Flask
from support.prometheus import binary, promtool

from flask_svc_infra import SLO, SvcInfra
from flask_svc_infra.obs.openslo import read_openslo


def shop(*slos: SLO) -> Flask:
    app = Flask("shop")
    SvcInfra(
        app, slos=slos or [SLO("availability", objective=0.999), SLO("fast", objective=0.99, latency=0.3)]
    )
    return app


def test_what_is_generated_is_a_rule_file(flask_command, tmp_path):
    target = tmp_path / "rules.yaml"
    done = flask_command(
        "rules", "generate", "--job", "shop", "--label", "team=a", "-o", str(target), app=shop()
    )
    assert done.exit_code == 0, done.output
    assert promtool("check", "rules", target).returncode == 0
    groups = yaml.safe_load(target.read_text(encoding="utf-8"))["groups"]
    assert [group["name"] for group in groups] == [
        "svc-infra-service",
        "svc-infra-slo-availability",
        "svc-infra-slo-availability-long",
        "svc-infra-slo-availability-tiles",
        "svc-infra-slo-fast",
        "svc-infra-slo-fast-long",
        "svc-infra-slo-fast-tiles",
    ]
    assert all(rule["labels"]["team"] == "a" for group in groups for rule in group["rules"])


def test_without_a_file_it_prints_and_as_json_too(flask_command):
    text = flask_command("rules", "generate", app=shop()).stdout
    as_json = flask_command("rules", "generate", "--json", app=shop()).stdout
    assert yaml.safe_load(text) == json.loads(as_json)


def test_the_apps_own_probe_paths_are_left_out(flask_command):
    app = Flask("shop")
    app.config["SVC_INFRA_OPS_PREFIX"] = "/private/ops"
    SvcInfra(app, slos=[SLO("a", objective=0.9)])
    assert 'path!~"(/_health|/private/ops)([/|].*)?"' in flask_command("rules", "generate", app=app).stdout


def test_operator_format_is_a_prometheus_rule(flask_command):
    argv = ["rules", "generate", "--format", "operator", "--name", "shop", "--namespace", "prod"]
    document = yaml.safe_load(flask_command(*argv, app=shop()).stdout)
    assert document["kind"] == "PrometheusRule"
    assert document["metadata"] == {"name": "shop", "namespace": "prod"}


def test_openslo_format_is_read_back(flask_command, tmp_path):
    slos = [
        SLO("availability", objective=0.999, description="People can buy", exclude_status=[404], window="7d"),
        SLO("fast", objective=0.99, latency=0.3, route_class='a|"b"', methods=["GET"]),
        SLO("orders", objective=0.9, path="/orders/<int:id>", runbook="https://wiki.example/o"),
    ]
    text = flask_command("rules", "generate", "--format", "openslo", app=shop(*slos)).stdout
    assert read_openslo(text) == slos
    (tmp_path / "slos.yaml").write_text(text, encoding="utf-8")
    again = flask_command("rules", "generate", "--openslo", str(tmp_path / "slos.yaml"), app=Flask("bare"))
    assert yaml.safe_load(again.stdout) == yaml.safe_load(
        flask_command("rules", "generate", app=shop(*slos)).stdout
    )


def test_an_app_without_objectives_gets_the_service_alerts_and_is_told(flask_command):
    done = flask_command("rules", "generate", app=Flask("bare"))
    assert done.exit_code == 0
    assert "declares no objectives" in done.stderr
    assert [group["name"] for group in yaml.safe_load(done.stdout)["groups"]] == ["svc-infra-service"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--label", "team"], "team=shop"),
        (["--label", "severity=x"], "set by the rules themselves"),
        (["--minimum-errors", "0"], "minimum-errors"),
        (["--by", "a-b"], "label's name"),
        (["--format", "operator", "--name", "Shop"], "lower-case"),
    ],
)
def test_bad_options_are_refused_with_the_cure(flask_command, argv, message):
    done = flask_command("rules", "generate", *argv, app=shop())
    assert done.exit_code in {1, 2}
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_rules_are_tested_by_promtool_and_kept_where_asked(flask_command, tmp_path):
    app = shop(SLO("availability", objective=0.999))
    argv = ["rules", "test", "--promtool", str(binary("promtool")), "--keep", str(tmp_path / "kept")]
    done = flask_command(*argv, "--json", app=app)
    assert done.exit_code == 0, done.output
    assert {name: result["passed"] for name, result in json.loads(done.stdout).items()} == {
        "rules.yaml": True,
        "availability": True,
    }
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "rules.yaml",
        "availability.rules.yaml",
        "availability.test.yaml",
    }


def test_a_promtool_that_says_no_is_quoted_and_exits_1(flask_command, tmp_path):
    nay = tmp_path / "promtool"
    nay.write_text("#!/bin/sh\necho no good; exit 1\n", encoding="utf-8")
    nay.chmod(0o755)
    done = flask_command("rules", "test", "--promtool", str(nay), app=shop(SLO("a", objective=0.9)))
    assert done.exit_code == 1
    assert "no good" in done.stdout


def test_without_promtool_the_cure_is_told(flask_command, tmp_path):
    done = flask_command("rules", "test", "--promtool", str(tmp_path / "none"), app=shop())
    assert done.exit_code == 1
    assert "It comes with Prometheus" in done.stderr
