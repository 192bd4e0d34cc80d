"""Coming from elsewhere: svc-infra's metric names, and prometheus-flask-exporter's decorators."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from obs.reading import scrape

from flask_svc_infra.errors import ConfigurationError, MissingDriverError
from flask_svc_infra.obs import add_observability
from flask_svc_infra.obs.exporter import make_exporter

Make = Callable[..., Flask]


class TestSvcInfraNames:
    def test_same_numbers_under_both_names(self, make_app: Make) -> None:
        client = make_app(compat="svc-infra").test_client()
        client.get("/items/1")
        client.get("/nowhere")
        found = scrape(client)
        labels = {"method": "GET", "route": "/items/<int:item>"}
        assert found("http_server_requests_total", **labels, code="200") == 1
        assert found("http_requests_total", method="GET", path="/items/<int:item>", status="200") == 1
        assert found("http_server_request_duration_seconds_count", **labels) == 1
        assert found("http_server_request_duration_seconds_bucket", **labels, le="+Inf") == 1
        assert found("http_server_requests_total", route="<unmatched>", code="404") == 1

    def test_sizes_of_bodies_and_streams(self, make_app: Make) -> None:
        app = make_app(compat="svc-infra")
        app.add_url_rule("/stream", "stream", lambda: iter(["a" * 300, "b" * 300]))
        client = app.test_client()
        client.get("/items/1")
        with client.get("/stream") as reply:
            assert len(reply.data) == 600
        found = scrape(client)
        assert found("http_server_response_size_bytes_sum", route="/items/<int:item>") == len("item 1")
        assert found("http_server_response_size_bytes_sum", route="/stream") == 600
        assert found("http_server_inflight_requests") == 0

    def test_in_flight_by_route(self, make_app: Make) -> None:
        app = make_app(compat="svc-infra")
        inside, go = threading.Event(), threading.Event()

        @app.get("/slow")
        def slow() -> str:
            inside.set()
            assert go.wait(10)
            return "done"

        thread = threading.Thread(target=lambda: app.test_client().get("/slow"))
        thread.start()
        try:
            assert inside.wait(10)
            assert scrape(app.test_client())("http_server_inflight_requests", route="/slow") == 1
        finally:
            go.set()
            thread.join()
        assert scrape(app.test_client())("http_server_inflight_requests", route="/slow") == 0

    def test_exceptions_are_counted_where_they_are_propagated_too(self, make_app: Make) -> None:
        app = make_app(compat="svc-infra")
        app.test_client().get("/boom")
        app.testing = True
        with pytest.raises(RuntimeError):
            app.test_client().get("/boom")
        found = scrape(app.test_client())
        assert found("http_server_exceptions_total", route="/boom", method="GET") == 2
        assert found("http_server_inflight_requests") == 0

    def test_classes_are_on_the_routes(self, make_app: Make) -> None:
        client = make_app(compat="svc-infra", route_classifier=lambda path, method: "public").test_client()
        client.get("/items/1")
        found = scrape(client)
        assert found("http_server_requests_total", route="/items/<int:item>|public", code="200") == 1
        assert found.has("http_server_response_size_bytes_sum", route="/items/<int:item>|public")

    def test_undone_it_listens_no_more(self, mode: str) -> None:
        from flask import got_request_exception, request_started

        app = Flask("compat", static_folder=None)
        add_observability(app, compat="svc-infra")()
        assert not list(request_started.receivers_for(app))
        assert not list(got_request_exception.receivers_for(app))

    def test_not_asked_for_they_are_not_there(self, make_app: Make) -> None:
        client = make_app().test_client()
        client.get("/items/1")
        assert "http_server" not in scrape(client).text

    def test_unknown_one_is_refused(self, make_app: Make) -> None:
        with pytest.raises(ConfigurationError, match="svc-infra"):
            make_app(compat="prometheus")


class TestExporter:
    @pytest.fixture(autouse=True)
    def one_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)

    def test_decorators_of_a_module_made_before_any_app_work(self) -> None:
        metrics = make_exporter()

        @metrics.counter("orders", "Orders.", labels={"status": lambda r: r.status_code})
        @metrics.histogram("order_seconds", "Seconds.")
        @metrics.gauge("orders_in_progress", "Now.")
        def order() -> str:
            return "ordered"

        app = Flask("shop", static_folder=None)
        app.add_url_rule("/order", "order", order)
        add_observability(app, registries=[metrics.registry])
        client = app.test_client()
        assert client.get("/order").text == "ordered"
        client.get("/order")
        found = scrape(client)
        assert found("orders_total", status="200") == 2
        assert found("order_seconds_count") == 2
        assert found("orders_in_progress") == 0
        assert found("http_requests_total", path="/order", status="200") == 2
        assert not [s for s in found.all if s.name.startswith("flask_")]

    def test_registry_appended_later_is_shown(self) -> None:
        registries: list[Any] = []
        app = Flask("later", static_folder=None)
        add_observability(app, registries=registries)
        metrics = make_exporter()
        registries.append(metrics.registry)
        metrics.info("shop_info", "The shop.", version="1.0")
        assert scrape(app.test_client())("shop_info", version="1.0") == 1

    def test_missing_exporter_is_an_error_with_the_cure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "prometheus_flask_exporter", None)
        with pytest.raises(MissingDriverError, match=r"flask-svc-infra\[exporter\]"):
            make_exporter()

    def test_extension_offers_it_before_and_after_init_app(self) -> None:
        from flask_svc_infra import SvcInfra

        infra = SvcInfra()
        app = Flask("infra", static_folder=None)

        @app.get("/early")
        @infra.exporter.counter("early", "Early.")
        def early() -> str:
            return "early"

        infra.init_app(app)

        @app.get("/late")
        @infra.exporter.counter("late", "Late.")
        def late() -> str:
            return "late"

        client = app.test_client()
        client.get("/early")
        client.get("/late")
        found = scrape(client)
        assert (found("early_total"), found("late_total")) == (1, 1)
        assert infra.exporter is infra.exporter
