"""``flask svc-infra k8s generate``: a Deployment that fits the app it was made from."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_svc_infra import SvcInfra
from flask_svc_infra.cli.k8s import Facts, deployment
from flask_svc_infra.ops import add_probes


def shop(**config) -> Flask:
    app = Flask("shop")
    app.config.update(config)
    infra = SvcInfra()
    infra.health.add("database", lambda: True, timeout=7.5)
    infra.init_app(app)
    return app


def generated(flask_command, app, *arguments):
    result = flask_command("k8s", "generate", *arguments, app=app)
    assert result.exit_code == 0, result.output
    return yaml.safe_load(result.stdout)


def container_of(document):
    (container,) = document["spec"]["template"]["spec"]["containers"]
    return container


def test_probes_lead_where_the_app_mounted_them(flask_command):
    app = shop(SVC_INFRA_HEALTH_PREFIX="/internal/health", SVC_INFRA_METRICS_PATH="/internal/metrics")
    document = generated(flask_command, app, "--port", "9000")
    container = container_of(document)
    client = app.test_client()
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["path"].startswith("/internal/health/")
        assert client.get(asked["path"]).status_code == 200
        assert asked["port"] == container["ports"][0]["name"]
    annotations = document["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == "/internal/metrics"
    assert annotations["prometheus.io/port"] == "9000"
    assert "0.0.0.0:9000" in container["command"]


def test_documented_times_are_kept_and_readiness_waits_for_the_slowest_check(flask_command):
    container = container_of(generated(flask_command, shop()))
    live, ready, startup = (container[f"{kind}Probe"] for kind in ("liveness", "readiness", "startup"))
    assert (live["initialDelaySeconds"], live["periodSeconds"], live["failureThreshold"]) == (5, 10, 3)
    assert (ready["initialDelaySeconds"], ready["periodSeconds"], ready["failureThreshold"]) == (5, 5, 2)
    assert (startup["initialDelaySeconds"], startup["periodSeconds"], startup["failureThreshold"]) == (
        10,
        5,
        30,
    )
    assert (live["timeoutSeconds"], ready["timeoutSeconds"], startup["timeoutSeconds"]) == (3, 9, 9)


@pytest.mark.parametrize(("drain", "value", "grace"), [(0, "10", 45), (20, "20", 55), (2.5, "2.5", 38)])
def test_grace_period_holds_the_drain(flask_command, drain, value, grace):
    document = generated(flask_command, shop(SVC_INFRA_DRAIN_SECONDS=drain))
    assert container_of(document)["env"] == [{"name": "FLASK_SVC_INFRA_DRAIN_SECONDS", "value": value}]
    assert document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == grace


def test_json_and_yaml_say_the_same(flask_command):
    assert json.loads(flask_command("k8s", "generate", "--json", app=shop()).stdout) == generated(
        flask_command, shop()
    )


def test_plain_probes_will_do(flask_command):
    app = Flask("plain")
    add_probes(app)
    container = container_of(generated(flask_command, app))
    assert container["readinessProbe"]["httpGet"]["path"] == "/_ops/ready"
    assert container["readinessProbe"]["timeoutSeconds"] == 3


def test_app_without_probes_is_told_the_cure(flask_command):
    result = flask_command("k8s", "generate", app=Flask("bare"))
    assert result.exit_code == 1
    assert "has no live probe mounted" in result.output
    assert "Call SvcInfra(app)" in result.output


@pytest.mark.parametrize(("module", "name"), [("shop.app", "shop-app"), ("My_Shop", "my-shop"), ("_", "app")])
def test_name_is_made_fit_for_kubernetes(flask_command, module, name):
    app = Flask(module)
    SvcInfra(app)
    assert generated(flask_command, app)["metadata"]["name"] == name


@pytest.mark.parametrize("name", ["Shop", "-shop", "shop-", "a" * 64, "a.b", ""])
def test_name_that_kubernetes_refuses_exits_2(flask_command, name):
    assert flask_command("k8s", "generate", "--name", name, app=shop()).exit_code == 2


def test_selector_matches_the_pods(flask_command):
    spec = generated(flask_command, shop())["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


@given(slowest=st.floats(0, 600), drain=st.floats(0.1, 600))
def test_times_always_fit_into_each_other(slowest, drain):
    document = deployment(
        Facts(
            name="shop",
            image="shop:1",
            wsgi="app:app",
            port=8000,
            metrics_path=None,
            paths={"live": "/l", "ready": "/r", "startup": "/s"},
            slowest_check=slowest,
            drain_seconds=drain,
        )
    )
    container = container_of(document)
    assert container["readinessProbe"]["timeoutSeconds"] > slowest
    assert document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= drain + 30
    assert re.fullmatch(r"[\d.e+]+", container["env"][0]["value"])
