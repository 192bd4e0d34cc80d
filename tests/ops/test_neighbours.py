"""Together with the extensions a Flask service already has."""

from __future__ import annotations

import apiflask
import flask_smorest
import marshmallow
import pytest
from flask import Blueprint, Flask
from flask.views import MethodView
from support.neighbours import csrf, limiter, proxy_fix, talisman

from flask_svc_infra import SvcInfra
from flask_svc_infra.health import HealthRegistry, add_health_routes
from flask_svc_infra.ops import add_circuit_gate, add_maintenance_mode, add_probes, openapi_paths

PROBES = ["/_ops/live", "/_ops/ready", "/_ops/startup", "/_health/live", "/_health/ready", "/_health/startup"]
SEEN = [*PROBES, "/_health/checks/{name}", "/_health/groups/{name}"]


NEIGHBOURS = [limiter, talisman, csrf, proxy_fix]


def service(neighbours, *, ours_first):
    app = Flask("service")
    app.add_url_rule("/orders", "orders", lambda: "ok", methods=["GET", "POST"])
    if ours_first:
        SvcInfra(app)
    for neighbour in neighbours:
        neighbour(app)
    if not ours_first:
        SvcInfra(app)
    return app.test_client()


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "ours last"])
@pytest.mark.parametrize(
    "neighbours",
    [*[[one] for one in NEIGHBOURS], NEIGHBOURS],
    ids=lambda part: "+".join(n.__name__ for n in part),
)
def test_no_neighbour_can_fail_a_probe_or_be_failed_by_a_gate(neighbours, ours_first, monkeypatch):
    client = service(neighbours, ours_first=ours_first)
    for path in PROBES * 4:
        assert client.get(path).status_code == 200, path
        assert client.head(path).status_code == 200, path
    monkeypatch.setenv("MAINTENANCE_MODE", "1")
    refused = client.post("/orders")
    assert (refused.status_code, refused.json) == (503, {"detail": "maintenance"})
    assert refused.headers["Retry-After"] == "60"
    monkeypatch.setenv("CIRCUIT_OPEN", "1")
    refused = client.get("/orders")
    assert (refused.status_code, refused.json) == (503, {"detail": "circuit open"})
    assert [client.get(path).status_code for path in PROBES] == [200] * len(PROBES)


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "ours last"])
def test_the_neighbours_still_do_their_work(ours_first):
    limited = service([limiter], ours_first=ours_first)
    assert [limited.get("/orders").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert service([talisman], ours_first=ours_first).get("/orders").status_code == 302
    assert service([csrf], ours_first=ours_first).post("/orders").status_code == 400


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "ours last"])
def test_probes_work_under_a_prefix_a_proxy_took_away(ours_first):
    client = service([proxy_fix], ours_first=ours_first)
    headers = {"X-Forwarded-Prefix": "/shop", "X-Forwarded-Proto": "https", "X-Forwarded-For": "10.1.2.3"}
    assert [client.get(path, headers=headers).status_code for path in PROBES] == [200] * len(PROBES)


def mount(app, **options):
    add_probes(app, **options)
    add_health_routes(app, HealthRegistry(), **options)
    add_maintenance_mode(app)
    add_circuit_gate(app)


def test_apiflasks_document_shows_the_probes_when_asked():
    app = apiflask.APIFlask("app")
    mount(app, include_in_schema=True)
    paths = app.spec["paths"]
    assert set(SEEN) <= set(paths)
    assert {"200", "503"} <= set(paths["/_health/ready"]["get"]["responses"])
    assert list(paths["/_ops/live"]["get"]["responses"]) == ["200"]
    assert paths["/_ops/live"]["get"]["summary"]


def test_apiflasks_document_keeps_them_out_by_default():
    app = apiflask.APIFlask("app")

    @app.get("/orders")
    def orders():
        return {}

    bp = apiflask.APIBlueprint("own", "own")
    bp.before_request(lambda: None)
    app.register_blueprint(bp)
    mount(app)
    assert list(app.spec["paths"]) == ["/orders"]
    assert app.test_client().get("/docs").status_code == 200


def test_apiflask_works_with_the_whole_extension(monkeypatch):
    app = apiflask.APIFlask("app")
    SvcInfra(app)

    @app.post("/orders")
    def orders():
        return {}

    client = app.test_client()
    assert client.post("/orders").status_code == 200
    assert client.get("/openapi.json").json["paths"].keys() == {"/orders"}
    monkeypatch.setenv("MAINTENANCE_MODE", "1")
    assert client.post("/orders").json == {"detail": "maintenance"}
    assert client.get("/_ops/ready").status_code == 200


def smorest():
    app = Flask("app")
    app.config.update(API_TITLE="shop", API_VERSION="v1", OPENAPI_VERSION="3.0.3")
    api = flask_smorest.Api(app)
    blueprint = flask_smorest.Blueprint("orders", "orders", url_prefix="/orders")

    class Order(marshmallow.Schema):
        number = marshmallow.fields.Int()

    @blueprint.route("/")
    class Orders(MethodView):
        @blueprint.response(200, Order)
        def get(self):
            return {"number": 1}

        @blueprint.arguments(Order)
        @blueprint.response(201, Order)
        def post(self, order):
            return order

    api.register_blueprint(blueprint)
    return app, api


def test_flask_smorests_document_takes_the_probes_in():
    app, api = smorest()
    mount(app, include_in_schema=True)
    api.spec.options["paths"] = openapi_paths(app)
    paths = api.spec.to_dict()["paths"]
    assert set(SEEN) < set(paths)
    assert "/orders/" in paths
    assert paths["/_health/checks/{name}"]["get"]["parameters"][0]["name"] == "name"


def test_flask_smorest_keeps_them_out_by_default_and_is_gated(monkeypatch):
    app, api = smorest()
    SvcInfra(app)
    assert openapi_paths(app) == {}
    assert set(api.spec.to_dict()["paths"]) == {"/orders/"}
    client = app.test_client()
    assert client.post("/orders/", json={"number": 2}).status_code == 201
    monkeypatch.setenv("MAINTENANCE_MODE", "1")
    assert client.post("/orders/", json={"number": 2}).json == {"detail": "maintenance"}
    assert client.get("/orders/").status_code == 200


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "ours last"])
def test_all_neighbours_at_once_fail_no_probe_and_lose_no_document(ours_first, monkeypatch):
    app = apiflask.APIFlask("app")
    app.config.update(API_TITLE="shop", API_VERSION="v1", OPENAPI_VERSION="3.0.3")
    if ours_first:
        SvcInfra(app)
    for neighbour in NEIGHBOURS:
        neighbour(app)
    api = flask_smorest.Api(app)
    if not ours_first:
        SvcInfra(app)
    blueprint = flask_smorest.Blueprint("orders", "orders", url_prefix="/orders")
    blueprint.route("/", methods=["GET", "POST"])(lambda: "ok")
    api.register_blueprint(blueprint)
    client = app.test_client()
    for path in PROBES * 4:
        assert client.get(path).status_code == 200, path
    assert client.get("/orders/").status_code == 302  # Talisman
    assert client.post("/orders/", base_url="https://localhost").status_code == 400  # CSRFProtect
    assert not [path for path in (*app.spec["paths"], *api.spec.to_dict()["paths"]) if path in SEEN]
    monkeypatch.setenv("MAINTENANCE_MODE", "1")
    assert client.post("/orders/").json == {"detail": "maintenance"}
    assert [client.get(path).status_code for path in PROBES] == [200] * len(PROBES)


def test_flask_smorest_puts_errors_of_open_circuits_through():
    from flask_svc_infra.resilience import CircuitBreaker

    app, _ = smorest()
    infra = SvcInfra(app)
    breaker = infra.breaker("payments")
    assert isinstance(breaker, CircuitBreaker)
    breaker.force_open(reason="test")
    bp = Blueprint("pay", "pay")
    bp.add_url_rule("/pay", "pay", breaker.protect(lambda: "paid"))
    app.register_blueprint(bp)
    reply = app.test_client().get("/pay")
    assert (reply.status_code, reply.json, reply.headers["Retry-After"]) == (
        503,
        {"detail": "circuit open"},
        "30",
    )
