"""What a scrape is answered: format, compression, whom, and with whose metrics."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, abort
from obs.reading import Samples, scrape
from prometheus_client import REGISTRY, CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics import parser as openmetrics
from werkzeug.datastructures import WWWAuthenticate

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.mounts import mounts_of
from flask_svc_infra.obs import add_observability
from flask_svc_infra.obs.exposition import _accepts_gzip

Make = Callable[..., Flask]
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"}


def test_text_format_is_the_default(make_app: Make) -> None:
    reply = make_app().test_client().get("/metrics")
    assert reply.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert reply.headers["Cache-Control"] == "no-store"


def test_openmetrics_is_given_to_who_asks(make_app: Make) -> None:
    client = make_app().test_client()
    client.get("/items/1")
    reply = client.get("/metrics", headers=OPENMETRICS)
    assert reply.content_type.startswith("application/openmetrics-text")
    families = {family.name for family in openmetrics.text_string_to_metric_families(reply.text)}
    assert {"http_requests", "http_request_duration_seconds"} <= families
    assert reply.text.endswith("# EOF\n")


def test_gzip_is_given_to_who_accepts_it(make_app: Make) -> None:
    client = make_app().test_client()
    for n in range(50):
        client.get(f"/items/{n}")
    reply = client.get("/metrics", headers={"Accept-Encoding": "gzip"})
    assert reply.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in reply.headers["Vary"]
    assert Samples(gzip.decompress(reply.data).decode())("http_requests_total", status="200") == 50
    assert "Content-Encoding" not in client.get("/metrics").headers


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("GZIP", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("notgzip", False),
        ("gzip;q=x", False),
        ("gzip;q=1.2.3", False),
    ],
)
def test_accept_encoding_is_read_as_rfc_9110_says(header: str, accepted: bool) -> None:
    assert _accepts_gzip(header) is accepted


def test_head_answers_like_get_without_a_body(make_app: Make) -> None:
    reply = make_app().test_client().head("/metrics")
    assert (reply.status_code, reply.data) == (200, b"")
    assert int(reply.headers["Content-Length"]) > 0


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("DELETE", 405), ("OPTIONS", 200)])
def test_other_methods_are_told_which_to_use(make_app: Make, method: str, status: int) -> None:
    reply = make_app().test_client().open("/metrics", method=method)
    assert reply.status_code == status
    assert reply.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_names_can_be_asked_for(make_app: Make) -> None:
    client = make_app().test_client()
    client.get("/items/1")
    found = scrape(client, "/metrics?name[]=http_requests_total&name[]=http_request_duration_seconds")
    assert {s.name for s in found.all} == {
        "http_requests_total",
        "http_request_duration_seconds_bucket",
        "http_request_duration_seconds_count",
        "http_request_duration_seconds_sum",
    }


def test_no_hook_of_the_app_can_break_a_scrape(make_app: Make) -> None:
    app = make_app()

    @app.before_request
    def refuse() -> tuple[str, int]:
        return "log in first", 401

    @app.after_request
    def break_it(_: Any) -> Any:
        raise RuntimeError("after")

    scrape(app.test_client())


class TestAuthorize:
    def test_it_decides(self, make_app: Make) -> None:
        seen: list[tuple[str, str]] = []

        def may(request: Any, action: str) -> bool:
            seen.append((request.path, action))
            return request.headers.get("Authorization") == "Bearer s3cret"

        client = make_app(authorize=may).test_client()
        assert client.get("/metrics").status_code == 403
        scrape(client, headers={"Authorization": "Bearer s3cret"})
        assert seen == [("/metrics", "metrics")] * 2

    def test_one_that_raises_refuses(self, make_app: Make, caplog: pytest.LogCaptureFixture) -> None:
        client = make_app(authorize=lambda request, action: 1 / 0).test_client()
        assert client.get("/metrics").status_code == 403
        assert "authorize raised" in caplog.text

    def test_an_http_exception_of_its_own_is_the_answer(self, make_app: Make) -> None:
        def may(_request: Any, _action: str) -> bool:
            abort(401, www_authenticate=WWWAuthenticate("basic", {"realm": "metrics"}))

        client = make_app(authorize=may).test_client()
        reply = client.get("/metrics")
        assert reply.status_code == 401
        assert reply.headers["WWW-Authenticate"] == "Basic realm=metrics"
        assert int(reply.headers["Content-Length"]) == len(reply.data) > 0

    def test_a_coroutine_is_no_yes(self, make_app: Make, caplog: pytest.LogCaptureFixture) -> None:
        async def may(_request: Any, _action: str) -> bool:
            return True

        with pytest.raises(ConfigurationError, match="plain function"):
            make_app(authorize=may)
        client = make_app(authorize=lambda request, action: may(request, action)).test_client()  # noqa: PLW0108
        assert client.get("/metrics").status_code == 403
        assert "nobody awaits" in caplog.text

    def test_what_is_no_function_is_refused(self, make_app: Make) -> None:
        with pytest.raises(ConfigurationError, match="authorize"):
            make_app(authorize="admin")


class TestUsersMetrics:
    @pytest.fixture(autouse=True)
    def one_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)

    @pytest.fixture
    def app(self) -> Flask:
        app = Flask("users", static_folder=None)
        add_observability(app)
        return app

    def test_default_registry_is_shown(self, app: Flask) -> None:
        counter = Counter("obs_test_jobs", "Jobs.")
        try:
            counter.inc(3)
            found = scrape(app.test_client())
            assert found("obs_test_jobs_total") == 3
            assert found.has("process_resident_memory_bytes")
        finally:
            REGISTRY.unregister(counter)

    def test_clashing_name_is_left_out_and_said_once(
        self, app: Flask, caplog: pytest.LogCaptureFixture
    ) -> None:
        counter = Counter("circuit_breaker_calls", "Somebody else's.", ["x"])
        try:
            from flask_svc_infra.resilience import CircuitBreaker

            breaker = CircuitBreaker("obs-clash")
            breaker.call(int)
            counter.labels("x").inc(99)
            for _ in range(2):
                found = scrape(app.test_client())
            assert found("circuit_breaker_calls_total", name="obs-clash", outcome="success") == 1
            assert not found.has("circuit_breaker_calls_total", x="x")
            assert sum("circuit_breaker_calls" in r.getMessage() for r in caplog.records) == 1
        finally:
            REGISTRY.unregister(counter)

    def test_apps_own_registry_is_shown_by_that_app_alone(self, app: Flask) -> None:
        other = Flask("other", static_folder=None)
        add_observability(other)
        Counter("obs_test_private", "Private.", registry=mounts_of(app).parts["obs.registry"]).inc()
        assert scrape(app.test_client())("obs_test_private_total") == 1
        assert not scrape(other.test_client()).has("obs_test_private_total")

    def test_name_of_ours_is_refused_in_the_apps_registry(self, app: Flask) -> None:
        with pytest.raises(ValueError, match="Duplicated"):
            Counter("http_requests", "n", registry=mounts_of(app).parts["obs.registry"])

    def test_apps_registry_answers_get_sample_value(self, app: Flask) -> None:
        app.test_client().get("/nowhere")
        registry: CollectorRegistry = mounts_of(app).parts["obs.registry"]
        labels = {"method": "GET", "path": "<unmatched>", "status": "404"}
        assert registry.get_sample_value("http_requests_total", labels) == 1

    def test_collector_that_raises_costs_its_own_metrics(
        self, app: Flask, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken:
            def collect(self) -> Any:
                yield GaugeMetricFamily("obs_test_half", "h", value=1)
                raise RuntimeError("broken")

        class Fine:
            def collect(self) -> Any:
                yield GaugeMetricFamily("obs_test_fine", "f", value=1)

        registry = mounts_of(app).parts["obs.registry"]
        registry._auto_describe = False
        registry.register(Broken())
        registry.register(Fine())
        with caplog.at_level(logging.ERROR):
            found = scrape(app.test_client())
        assert found("obs_test_fine") == 1
        assert not found.has("obs_test_half")
        assert "the scrape goes on without it" in caplog.text


class TestMounting:
    def test_second_time_is_an_error_with_the_cure(self, make_app: Make) -> None:
        app = make_app()
        with pytest.raises(RuntimeError, match="once per app"):
            add_observability(app)
        scrape(app.test_client())

    def test_path_that_is_served_already_is_an_error_with_the_cure(self, mode: str) -> None:
        app = Flask("taken", static_folder=None)
        app.add_url_rule("/metrics", "theirs", lambda: "theirs")
        with pytest.raises(RuntimeError, match="'theirs'"):
            add_observability(app)
        assert app.test_client().get("/metrics").text == "theirs"

    @pytest.mark.parametrize("path", ["metrics", "", 5, "/me trics", "/<x>"])
    def test_path_that_cannot_work_is_refused(self, mode: str, path: Any) -> None:
        with pytest.raises(ConfigurationError):
            add_observability(Flask("x"), metrics_path=path)

    @pytest.mark.parametrize("paths", ["/health", ["health"], [5]])
    def test_skip_paths_that_cannot_work_are_refused(self, mode: str, paths: Any) -> None:
        app = Flask("x")
        with pytest.raises(ConfigurationError):
            add_observability(app, skip_metric_paths=paths)
        add_observability(app)()

    def test_undone_and_done_again(self, mode: str) -> None:
        app = Flask("again", static_folder=None)
        undo = add_observability(app)
        assert "/metrics" in mounts_of(app).metrics_paths
        undo()
        undo()
        assert mounts_of(app).metrics_paths == ()
        assert app.test_client().get("/metrics").status_code == 404
        again = add_observability(app)
        scrape(app.test_client())
        undo()
        scrape(app.test_client())
        again()

    def test_switched_off_it_does_nothing(self, mode: str) -> None:
        app = Flask("off", static_folder=None)
        app.config["SVC_INFRA_METRICS_ENABLED"] = False
        undo = add_observability(app)
        assert app.test_client().get("/metrics").status_code == 404
        undo()

    def test_buckets_are_the_settings(self, mode: str) -> None:
        app = Flask("buckets", static_folder=None)
        app.config["SVC_INFRA_METRICS_BUCKETS"] = "0.5,2"
        add_observability(app)
        app.test_client().get("/")
        found = scrape(app.test_client())
        bounds = [s.labels["le"] for s in found.find("http_request_duration_seconds_bucket")]
        assert bounds == ["0.5", "2.0", "+Inf"]

    def test_scraped_in_maintenance(self, make_app: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        from flask_svc_infra.ops import add_maintenance_mode

        app = make_app()
        add_maintenance_mode(app)
        client = app.test_client()
        assert scrape(client)("maintenance_mode", mode="off") == 1
        monkeypatch.setenv("MAINTENANCE_MODE", "1")
        found = scrape(client)
        assert found("maintenance_mode", mode="read-only") == 1
        assert found("maintenance_mode", mode="off") == 0
        assert found("maintenance_changes_total", mode="read-only", actor="env") == 1
        assert found("maintenance_changes_total") == 1
        client.post("/items")
        assert scrape(client)("http_requests_total", path="/items", status="503") == 1
