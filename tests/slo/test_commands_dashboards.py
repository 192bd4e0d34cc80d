"""``flask svc-infra dashboards`` and ``slo report``, against servers like Grafana and Prometheus."""

from __future__ import annotations

import json

import pytest
from flask import Flask, jsonify, redirect, request

from flask_svc_infra import SLO, SvcInfra
from flask_svc_infra.obs.bundled import dashboard, dashboard_names

TOKEN = {"GRAFANA_TOKEN": "glsa_secret-token-value"}


def grafana(*, classic: bool = True) -> Flask:
    """The part of Grafana's HTTP API that stores dashboards, classic or new, and who may."""
    app = Flask("grafana")
    app.config["stored"] = {}
    stored = app.config["stored"]

    @app.before_request
    def authorized():
        if request.headers.get("Authorization") != f"Bearer {TOKEN['GRAFANA_TOKEN']}":
            return jsonify(message="Invalid API key"), 401
        return None

    if classic:

        @app.post("/api/dashboards/db")
        def save():
            body = request.get_json()
            if body["dashboard"]["uid"] in stored and not body.get("overwrite"):
                return jsonify(status="version-mismatch", message="exists"), 412
            stored[body["dashboard"]["uid"]] = body
            return jsonify(status="success", uid=body["dashboard"]["uid"])

    resources = "/apis/dashboard.grafana.app/v1beta1/namespaces/default/dashboards"

    @app.post(resources)
    def create():
        body = request.get_json()
        if body["metadata"]["name"] in stored:
            return jsonify(message="already exists"), 409
        stored[body["metadata"]["name"]] = body | {"resourceVersion": "7"}
        return jsonify(kind="Dashboard"), 201

    @app.get(f"{resources}/<name>")
    def read(name):
        return jsonify(metadata={"name": name, "resourceVersion": "7"})

    @app.put(f"{resources}/<name>")
    def replace(name):
        body = request.get_json()
        if body["metadata"].get("resourceVersion") != "7":
            return jsonify(message="changed meanwhile"), 409
        stored[name] = body
        return jsonify(kind="Dashboard")

    return app


def test_exported_files_are_the_bundled_ones(flask_command, tmp_path):
    done = flask_command("dashboards", "export", str(tmp_path / "out"), "--json")
    assert done.exit_code == 0
    for name in dashboard_names():
        path = tmp_path / "out" / f"{name}.json"
        assert str(path) in json.loads(done.stdout)
        assert json.loads(path.read_text(encoding="utf-8")) == dashboard(name)


@pytest.mark.parametrize("times", [1, 2])
def test_push_stores_every_dashboard_and_may_be_repeated(flask_command, serve, times):
    app = grafana()
    url = serve(app)
    for _ in range(times):
        done = flask_command("dashboards", "push", "--url", url, "--folder", "ops", env=TOKEN)
        assert done.exit_code == 0, done.output
    stored = app.config["stored"]
    assert {uid: body["dashboard"] for uid, body in stored.items()} == {
        dashboard(name)["uid"]: dashboard(name) for name in dashboard_names()
    }
    assert {body["folderUid"] for body in stored.values()} == {"ops"}


@pytest.mark.parametrize("times", [1, 2])
def test_push_uses_the_new_api_where_the_classic_one_is_gone(flask_command, serve, times):
    app = grafana(classic=False)
    url = serve(app)
    for _ in range(times):
        done = flask_command("dashboards", "push", "--url", url, "--folder", "ops", env=TOKEN)
        assert done.exit_code == 0, done.output
    stored = app.config["stored"]["svc-infra-http"]
    assert stored["spec"]["title"] == "Service HTTP Overview"
    assert stored["metadata"]["annotations"] == {"grafana.app/folder": "ops"}


def test_dry_run_sends_nothing_and_needs_no_token(flask_command, serve):
    app = grafana()
    done = flask_command("dashboards", "push", "--url", serve(app), "--dry-run", env={"GRAFANA_TOKEN": ""})
    assert done.exit_code == 0
    assert "would send http-overview" in done.stdout
    assert app.config["stored"] == {}


@pytest.mark.parametrize(
    ("api", "path"),
    [
        ("auto", "/api/dashboards/db"),
        ("classic", "/api/dashboards/db"),
        ("new", "/apis/dashboard.grafana.app/v1beta1/namespaces/default/dashboards"),
    ],
)
def test_dry_run_says_where_to_and_never_shows_the_token(flask_command, api, path):
    url = "http://127.0.0.1:9"
    done = flask_command("dashboards", "push", "--url", url, "--api", api, "--dry-run", env=TOKEN)
    assert done.exit_code == 0, done.output
    assert done.stdout.count(url + path) == len(dashboard_names())
    assert TOKEN["GRAFANA_TOKEN"] not in done.output


def test_without_a_token_nothing_is_sent(flask_command, serve):
    app = grafana()
    done = flask_command("dashboards", "push", "--url", serve(app), env={"GRAFANA_TOKEN": " "})
    assert done.exit_code == 1
    assert "GRAFANA_TOKEN is not set" in done.stderr


def test_a_refusal_is_told_without_the_token(flask_command, serve):
    wrong = "glsa_wrong-and-secret"
    done = flask_command("dashboards", "push", "--url", serve(grafana()), env={"GRAFANA_TOKEN": wrong})
    assert done.exit_code == 1
    assert "Invalid API key" in done.output
    assert wrong not in done.output


def test_a_redirect_is_not_followed_with_the_token(flask_command, serve):
    seen = []
    thief, honest = Flask("thief"), Flask("honest")

    @thief.route("/<path:path>", methods=["GET", "POST"])
    def take(path):
        seen.append(request.headers.get("Authorization"))
        return jsonify(status="success")

    there = serve(thief)
    honest.post("/api/dashboards/db")(lambda: redirect(f"{there}/x", 302))
    done = flask_command("dashboards", "push", "--url", serve(honest), env=TOKEN)
    assert done.exit_code == 1
    assert seen == []


@pytest.mark.parametrize("url", ["grafana", "ftp://x", "http://u:p@x", "http://x?y"])
def test_an_address_that_is_none_is_wrong_usage(flask_command, url):
    assert flask_command("dashboards", "push", "--url", url, env=TOKEN).exit_code == 2


def test_nobody_there_is_one_sentence(flask_command):
    done = flask_command("dashboards", "push", "--url", "http://127.0.0.1:9", env=TOKEN)
    assert done.exit_code == 1
    assert "did not answer" in done.stderr
    assert "Traceback" not in done.output


def prometheus(series: dict[str, float], alerts: tuple[str, ...] = ()) -> Flask:
    app = Flask("prometheus")

    @app.get("/api/v1/query")
    def query():
        firing = "ALERTS" in request.args["query"]
        labels = {"slo": "availability", "job": "web"}
        result = (
            [{"metric": {**labels, "severity": severity}, "value": [0, "1"]} for severity in alerts]
            if firing
            else [
                {
                    "metric": {
                        **labels,
                        "__name__": name.partition("/")[0],
                        "window": name.partition("/")[2],
                    },
                    "value": [0, str(value)],
                }
                for name, value in series.items()
            ]
        )
        return jsonify(status="success", data={"resultType": "vector", "result": result})

    return app


HEALTHY = {
    "slo:objective": 0.999,
    "slo:error_budget:remaining": 0.5,
    "slo:window_days": 30,
    "slo:burn_rate/1h": 2,
    "slo:burn_rate/6h": 3,
}


def shop() -> Flask:
    app = Flask("shop")
    SvcInfra(app, slos=[SLO("availability", objective=0.999)])
    return app


def test_report_shows_budget_burn_and_days(flask_command, serve):
    argv = ["slo", "report", "--prometheus", serve(prometheus(HEALTHY))]
    done = flask_command(*argv, app=shop())
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].split() == ["availability", "web", "99.9%", "50%", "2", "5", "-"]
    assert json.loads(flask_command(*argv, "--json", app=shop()).stdout) == [
        {
            "slo": "availability",
            "namespace": None,
            "job": "web",
            "objective": 0.999,
            "budget_left": 0.5,
            "burn_rate_1h": 2.0,
            "days_to_exhaustion": 5.0,
            "alerts": [],
            "good": True,
        }
    ]


@pytest.mark.parametrize(
    ("series", "alerts"),
    [(HEALTHY | {"slo:error_budget:remaining": -0.1}, ()), (HEALTHY, ("page",)), ({}, ())],
    ids=["spent", "alerting", "no metrics"],
)
def test_report_exits_1_when_something_is_wrong(flask_command, serve, series, alerts):
    url = serve(prometheus(series, alerts))
    assert flask_command("slo", "report", "--prometheus", url, app=shop()).exit_code == 1


def test_report_of_an_app_without_objectives_says_how_to_declare_them(flask_command):
    done = flask_command("slo", "report", "--prometheus", "http://127.0.0.1:9", app=Flask("bare"))
    assert done.exit_code == 1
    assert "SvcInfra(slos=" in done.stderr
