"""Gates and the handler that answer for open circuits."""

from __future__ import annotations

import inspect

import pytest
from flask import Blueprint, Flask
from flask.views import MethodView

from flask_svc_infra.errors import CircuitBreakerError, ConfigurationError
from flask_svc_infra.mounts import mounts_of
from flask_svc_infra.ops import (
    add_circuit_error_handler,
    add_circuit_gate,
    add_probes,
    circuit_breaker_dependency,
    circuit_gate,
)
from flask_svc_infra.resilience import Bulkhead, CircuitBreaker

FLAG = "CIRCUIT_OPEN"
OPEN = (503, {"detail": "circuit open"})


def said(reply):
    return reply.status_code, reply.json


@pytest.fixture
def app():
    app = Flask("app")
    add_probes(app)

    @app.get("/sync")
    @circuit_breaker_dependency()
    def guarded():
        return {"ok": True}

    @app.get("/async")
    @circuit_breaker_dependency()
    async def guarded_async():
        return {"ok": True}

    @app.route("/free", methods=["GET", "POST"])
    def free():
        return {"ok": True}

    return app


@pytest.mark.needs("asgiref")
@pytest.mark.parametrize("path", ["/sync", "/async"])
@pytest.mark.parametrize("value", ["1", "true", " YES "])
def test_a_decorated_view_is_refused_while_the_variable_is_on(app, monkeypatch, path, value):
    client = app.test_client()
    assert client.get(path).status_code == 200
    monkeypatch.setenv(FLAG, value)
    reply = client.get(path)
    assert said(reply) == OPEN
    assert reply.headers["Retry-After"] == "30"
    assert client.get("/free").status_code == 200
    monkeypatch.delenv(FLAG)
    assert client.get(path).status_code == 200


def test_decoration_keeps_the_views_name_kind_and_arguments():
    gate = circuit_breaker_dependency()

    @gate
    def view(name, *, page=1):
        """Show it."""

    @gate
    async def async_view():
        pass

    assert (view.__name__, view.__doc__) == ("view", "Show it.")
    assert str(inspect.signature(view)) == "(name, *, page=1)"
    assert inspect.iscoroutinefunction(async_view)
    assert not inspect.iscoroutinefunction(view)


def test_a_decorated_view_gets_its_arguments(app):
    @app.get("/items/<int:item>")
    @circuit_breaker_dependency()
    def item(item):
        return {"item": item}

    assert app.test_client().get("/items/7").json == {"item": 7}


def test_class_based_views_take_the_gate_as_a_decorator(app, monkeypatch):
    class Things(MethodView):
        decorators = [circuit_breaker_dependency()]

        def get(self):
            return {"ok": True}

    app.add_url_rule("/things", view_func=Things.as_view("things"))
    assert app.test_client().get("/things").status_code == 200
    monkeypatch.setenv(FLAG, "1")
    assert said(app.test_client().get("/things")) == OPEN


def test_a_blueprint_takes_the_gate_as_a_hook(app, monkeypatch):
    api = Blueprint("api", "api")
    api.before_request(circuit_breaker_dependency())
    api.add_url_rule("/data", "data", lambda: {"ok": True})
    app.register_blueprint(api, url_prefix="/api")
    client = app.test_client()
    assert client.get("/api/data").status_code == 200
    monkeypatch.setenv(FLAG, "1")
    assert said(client.get("/api/data")) == OPEN
    assert client.get("/free").status_code == 200


def test_the_whole_apps_gate_refuses_everything_but_probes_and_metrics(app, monkeypatch):
    add_circuit_gate(app)
    mounts_of(app).metrics_paths = ("/metrics",)
    app.add_url_rule("/metrics", "metrics", lambda: "metrics")
    monkeypatch.setenv(FLAG, "1")
    client = app.test_client()
    assert said(client.get("/free")) == OPEN
    assert said(client.post("/free")) == OPEN
    assert said(client.get("/nowhere")) == OPEN
    assert client.get("/_ops/live").status_code == 200
    assert client.post("/_ops/live").status_code == 405
    assert client.get("/metrics").status_code == 200
    assert said(client.get("/_opsy")) == OPEN
    monkeypatch.setenv(FLAG, "0")
    assert client.get("/free").status_code == 200


def test_the_whole_apps_gate_is_put_up_once(app):
    add_circuit_gate(app)
    with pytest.raises(RuntimeError, match="circuit gate is already mounted"):
        add_circuit_gate(app)


def test_an_unreadable_value_is_off_with_one_warning(app, monkeypatch, caplog):
    monkeypatch.setenv(FLAG, "banana")
    assert [app.test_client().get("/sync").status_code for _ in range(3)] == [200, 200, 200]
    assert [r.getMessage()[:25] for r in caplog.records] == ["CIRCUIT_OPEN is 'banana',"]


class Breaker:
    """A breaker in whatever state the test wants."""

    def __init__(self):
        self.state, self.remaining_timeout, self.looks = "closed", None, 0


@pytest.mark.parametrize(
    ("state", "remaining", "wait"),
    [
        ("closed", None, None),
        ("half_open", None, None),
        ("open", 0.0, None),  # a trial is due
        ("open", 12.2, "13"),
        ("open", 0.01, "1"),
        ("open", None, "30"),  # forced open
    ],
)
def test_the_door_is_shut_while_a_breaker_is_open_and_no_trial_is_due(app, state, remaining, wait):
    breaker = Breaker()
    bp = Blueprint("pay", "pay")
    bp.before_request(circuit_gate(breaker))
    bp.add_url_rule("/pay", "pay", lambda: {"ok": True})
    app.register_blueprint(bp)
    breaker.state, breaker.remaining_timeout = state, remaining
    reply = app.test_client().get("/pay")
    if wait is None:
        assert reply.status_code == 200
    else:
        assert said(reply) == OPEN
        assert reply.headers["Retry-After"] == wait


@pytest.mark.parametrize(
    ("remaining", "wait"),
    [(12.0, "12"), (12.1, "13"), (0.2, "1"), (0.0, "1"), (None, "30"), (float("inf"), "30")],
)
def test_an_unhandled_breaker_error_becomes_503_with_the_time_to_wait(app, remaining, wait):
    add_circuit_error_handler(app)

    @app.get("/charge")
    def charge():
        raise CircuitBreakerError("payments", state="open", remaining_timeout=remaining)

    reply = app.test_client().get("/charge")
    assert said(reply) == OPEN
    assert reply.headers["Retry-After"] == wait


def test_a_full_bulkhead_that_no_view_handled_becomes_503_not_500(app):
    add_circuit_error_handler(app)
    reports = Bulkhead("reports", max_concurrent=1)
    app.add_url_rule("/report", "report", reports.protect(lambda: "report"))
    with reports:
        reply = app.test_client().get("/report")
    assert said(reply) == (503, {"detail": "bulkhead full"})
    assert reply.headers["Retry-After"] == "1"
    assert app.test_client().get("/report").status_code == 200


def test_other_errors_are_not_touched(app):
    add_circuit_error_handler(app)
    app.add_url_rule("/bad", "bad", lambda: 1 / 0)
    assert app.test_client().get("/bad").status_code == 500


def test_the_apps_own_handler_wins_whether_registered_before_or_after():
    for ours_first in (True, False):
        app = Flask("app")
        if ours_first:
            add_circuit_error_handler(app)
        app.register_error_handler(CircuitBreakerError, lambda error: ("theirs", 418))
        if not ours_first:
            add_circuit_error_handler(app)

        @app.get("/charge")
        def charge():
            raise CircuitBreakerError("payments", state="open")

        assert app.test_client().get("/charge").status_code == 418


def test_the_handler_stands_beside_a_catch_all_of_the_app(app):
    app.register_error_handler(Exception, lambda error: ("all", 500))
    add_circuit_error_handler(app)
    add_circuit_error_handler(app)

    @app.get("/charge")
    def charge():
        raise CircuitBreakerError("payments", state="open")

    assert app.test_client().get("/charge").status_code == 503


def test_a_gate_for_what_is_no_breaker_is_refused():
    with pytest.raises(ConfigurationError, match="given a str, which is no circuit breaker"):
        circuit_gate("payments")


def test_a_gate_stands_before_a_real_breaker_and_lets_its_trials_through(app, clock):
    breaker = CircuitBreaker(
        "payments", failure_threshold=1, recovery_timeout=30, success_threshold=1, clock=clock
    )
    app.add_url_rule("/pay", "pay", circuit_gate(breaker)(breaker.protect(lambda: "paid")))
    client = app.test_client()
    with pytest.raises(ZeroDivisionError), breaker:
        1 / 0  # noqa: B018
    assert said(client.get("/pay")) == OPEN
    assert client.get("/pay").headers["Retry-After"] == "30"
    assert breaker.stats.rejected_calls == 0
    clock.advance(30)
    assert client.get("/pay").text == "paid"
    assert breaker.state == "closed"
    breaker.force_open(reason="test")
    assert client.get("/pay").headers["Retry-After"] == "30"
