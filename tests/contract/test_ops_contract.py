"""add_probes, circuit_breaker_dependency, circuit_gate and the error handler for an open circuit."""

from __future__ import annotations

import logging
import threading

import pytest
from contract._parts import Boom, fail
from flask import Blueprint, Flask, abort, jsonify

from flask_svc_infra.ops import (
    add_circuit_error_handler,
    add_probes,
    circuit_breaker_dependency,
    circuit_gate,
)
from flask_svc_infra.resilience import CircuitBreaker, CircuitBreakerError, CircuitState

PATHS = ["/_ops/live", "/_ops/ready", "/_ops/startup"]


@pytest.fixture(autouse=True)
def _no_switches(monkeypatch):
    for name in ("CIRCUIT_OPEN", "MAINTENANCE_MODE"):
        monkeypatch.delenv(name, raising=False)


# --- probes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_basic_probe_is_always_ok(path, method):
    app = Flask(__name__)
    add_probes(app)
    response = app.test_client().open(path, method=method)
    assert response.status_code == 200
    assert response.content_type.startswith("application/json")
    assert response.headers["Cache-Control"] == "no-store"
    if method == "GET":
        assert response.json == {"status": "ok"}
    else:
        assert response.get_data() == b""


def test_probe_prefix_is_settable():
    app = Flask(__name__)
    assert add_probes(app, prefix="/internal/probes") is None
    client = app.test_client()
    assert client.get("/internal/probes/ready").json == {"status": "ok"}
    assert client.get("/_ops/ready").status_code == 404


def test_probes_are_in_the_url_map():
    app = Flask(__name__)
    add_probes(app)
    assert set(PATHS) <= {rule.rule for rule in app.url_map.iter_rules()}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_probe_allows_no_other_method(method):
    app = Flask(__name__)
    add_probes(app)
    assert app.test_client().open("/_ops/live", method=method).status_code == 405


def test_second_mount_under_one_prefix_is_refused():
    app = Flask(__name__)
    add_probes(app)
    with pytest.raises(RuntimeError, match="/_ops"):
        add_probes(app)
    add_probes(app, prefix="/_more")
    assert app.test_client().get("/_more/live").status_code == 200


def test_probes_answer_whatever_before_request_says():
    app = Flask(__name__)
    app.before_request(lambda: abort(403))
    add_probes(app)
    assert [app.test_client().get(p).status_code for p in PATHS] == [200, 200, 200]


def test_probes_may_be_added_in_two_apps():
    for name in ("one", "two"):
        app = Flask(name)
        add_probes(app)
        assert app.test_client().get("/_ops/live").status_code == 200


def test_schema_leaves_basic_probes_out_unless_asked():
    apiflask = pytest.importorskip("apiflask")
    for asked in (False, True):
        app = apiflask.APIFlask(__name__)
        add_probes(app, include_in_schema=asked)
        assert ("/_ops/live" in app.spec["paths"]) is asked


def test_openapi_paths_gives_what_to_merge_when_asked_and_nothing_else():
    from flask_svc_infra.ops import openapi_paths

    app = Flask(__name__)
    add_probes(app, prefix="/_hidden")
    add_probes(app, include_in_schema=True)
    paths = openapi_paths(app)
    assert not [path for path in paths if path.startswith("/_hidden")]
    assert set(PATHS) <= set(paths)
    assert "200" in paths["/_ops/live"]["get"]["responses"]


# --- CIRCUIT_OPEN -------------------------------------------------------------------------------------------


@pytest.fixture
def guarded():
    app = Flask(__name__)

    @app.get("/guarded")
    @circuit_breaker_dependency()
    def guarded():
        return {"ok": True}

    app.add_url_rule("/free", "free", lambda: "free")
    return app.test_client()


def test_environment_circuit_opens_and_closes_per_request(guarded, monkeypatch):
    assert guarded.get("/guarded").json == {"ok": True}
    monkeypatch.setenv("CIRCUIT_OPEN", "1")
    response = guarded.get("/guarded")
    assert (response.status_code, response.json) == (503, {"detail": "circuit open"})
    assert guarded.get("/free").status_code == 200
    monkeypatch.delenv("CIRCUIT_OPEN")
    assert guarded.get("/guarded").status_code == 200


@pytest.mark.parametrize("flag", ["1", "true", "TRUE", " true ", "yes", "On", "on\n"])
def test_flag_is_read_stripped_and_case_folded(guarded, monkeypatch, flag):
    monkeypatch.setenv("CIRCUIT_OPEN", flag)
    assert guarded.get("/guarded").status_code == 503


@pytest.mark.parametrize("flag", ["0", "false", "no", "OFF", "", "  "])
def test_off_words_are_off_without_a_warning(guarded, monkeypatch, flag, caplog):
    monkeypatch.setenv("CIRCUIT_OPEN", flag)
    with caplog.at_level(logging.WARNING):
        assert guarded.get("/guarded").status_code == 200
    assert not caplog.records


def test_any_other_word_is_off_with_one_warning(guarded, monkeypatch, caplog):
    monkeypatch.setenv("CIRCUIT_OPEN", "banana-for-ops")
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert guarded.get("/guarded").status_code == 200
    warned = [r for r in caplog.records if "banana-for-ops" in r.getMessage()]
    assert len(warned) == 1
    assert "CIRCUIT_OPEN" in warned[0].getMessage()


def test_each_unreadable_value_is_warned_about_by_itself(guarded, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING):
        for word in ("perhaps-one", "perhaps-two", "perhaps-one"):
            monkeypatch.setenv("CIRCUIT_OPEN", word)
            guarded.get("/guarded")
    assert [
        sum(word in r.getMessage() for r in caplog.records) for word in ("perhaps-one", "perhaps-two")
    ] == [1, 1]


def test_dependency_works_as_a_before_request_hook_of_a_blueprint(monkeypatch):
    app = Flask(__name__)
    bp = Blueprint("api", __name__, url_prefix="/api")
    bp.before_request(circuit_breaker_dependency())
    bp.add_url_rule("/data", "data", lambda: {"data": 1})
    app.register_blueprint(bp)
    app.add_url_rule("/free", "free", lambda: "free")
    client = app.test_client()
    assert client.get("/api/data").status_code == 200
    monkeypatch.setenv("CIRCUIT_OPEN", "1")
    response = client.get("/api/data")
    assert (response.status_code, response.json) == (503, {"detail": "circuit open"})
    assert client.get("/free").status_code == 200


def test_dependency_works_as_a_before_request_hook_of_the_app(monkeypatch):
    app = Flask(__name__)
    app.before_request(circuit_breaker_dependency())
    app.add_url_rule("/", "home", lambda: "home")
    monkeypatch.setenv("CIRCUIT_OPEN", "1")
    assert app.test_client().get("/").status_code == 503


def test_dependency_keeps_the_views_name_arguments_and_return():
    app = Flask(__name__)

    @app.route("/items/<int:item>", methods=["GET", "POST"])
    @circuit_breaker_dependency()
    def show_item(item):
        """Show one item."""
        return jsonify(item=item), 201, {"X-Own": "yes"}

    assert show_item.__name__ == "show_item"
    assert show_item.__doc__ == "Show one item."
    response = app.test_client().post("/items/7")
    assert (response.status_code, response.json, response.headers["X-Own"]) == (201, {"item": 7}, "yes")


@pytest.mark.needs("asgiref")
def test_dependency_guards_an_async_view(monkeypatch):
    app = Flask(__name__)

    @app.get("/data")
    @circuit_breaker_dependency()
    async def data():
        return {"ok": True}

    client = app.test_client()
    assert client.get("/data").json == {"ok": True}
    monkeypatch.setenv("CIRCUIT_OPEN", "1")
    assert client.get("/data").status_code == 503


# --- circuit_gate -------------------------------------------------------------------------------------------


def test_circuit_gate_refuses_at_the_door_while_open():
    breaker = CircuitBreaker("billing", failure_threshold=1, recovery_timeout=30.0)
    app = Flask(__name__)
    bp = Blueprint("billing", __name__, url_prefix="/billing")
    bp.before_request(circuit_gate(breaker))
    bp.add_url_rule("/", "home", lambda: "home")
    app.register_blueprint(bp)
    client = app.test_client()
    assert client.get("/billing/").status_code == 200
    fail(breaker)
    response = client.get("/billing/")
    assert response.status_code == 503
    assert 1 <= int(response.headers["Retry-After"]) <= 30


# --- an unhandled CircuitBreakerError -----------------------------------------------------------------------


def app_raising(error):
    app = Flask(__name__)
    add_circuit_error_handler(app)

    @app.get("/")
    def view():
        raise error

    return app.test_client()


@pytest.mark.parametrize(
    ("remaining", "retry_after"), [(12.2, "13"), (12.0, "12"), (0.2, "1"), (0.0, "1"), (None, "30")]
)
def test_unhandled_open_circuit_is_503_with_retry_after(remaining, retry_after):
    client = app_raising(CircuitBreakerError("billing", state=CircuitState.OPEN, remaining_timeout=remaining))
    response = client.get("/")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == retry_after
    assert response.content_type.startswith("application/json")


def test_error_handler_leaves_other_errors_alone():
    client = app_raising(Boom("x"))
    assert client.get("/").status_code == 500


def test_error_handler_answers_for_a_real_breaker():
    breaker = CircuitBreaker("billing", failure_threshold=1, recovery_timeout=30.0)
    app = Flask(__name__)
    add_circuit_error_handler(app)

    @app.get("/")
    @breaker.protect
    def view():
        raise Boom

    client = app.test_client()
    assert client.get("/").status_code == 500
    assert client.get("/").status_code == 503


# --- hooks under load ---------------------------------------------------------------------------------------


def test_flag_may_be_switched_from_another_thread_during_requests(guarded, monkeypatch):
    stop, codes = threading.Event(), []

    def ask():
        client = guarded.application.test_client()
        while not stop.is_set():
            codes.append(client.get("/guarded").status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    for flag in ("1", "0") * 5:
        monkeypatch.setenv("CIRCUIT_OPEN", flag)
    stop.set()
    thread.join(5)
    assert set(codes) <= {200, 503}
