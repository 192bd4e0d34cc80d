"""OpenTelemetry: circuits on the span, the trace in the exemplar, and nothing where nothing traces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from obs.reading import scrape
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client.openmetrics import parser as openmetrics

from flask_svc_infra.obs import tracing
from flask_svc_infra.resilience import CircuitBreaker, CircuitBreakerError

Make = Callable[..., Flask]


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans: InMemorySpanExporter) -> Any:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider.get_tracer("tests")


@pytest.fixture(autouse=True)
def followed() -> Iterator[None]:
    tracing.follow_circuits()
    yield
    tracing.unfollow_circuits()


def test_transitions_and_rejections_become_span_events(tracer: Any, spans: InMemorySpanExporter) -> None:
    breaker = CircuitBreaker("traced", failure_threshold=1, recovery_timeout=60)
    tracing.follow_circuits()  # a second time makes no second event
    with tracer.start_as_current_span("order"):
        with pytest.raises(OSError), breaker:
            raise OSError("down")
        with pytest.raises(CircuitBreakerError), breaker:
            pass
    (span,) = spans.get_finished_spans()
    transition, rejection = [e for e in span.events if e.name.startswith("circuit_breaker.")]
    assert transition.name == "circuit_breaker.transition"
    assert (
        dict(transition.attributes or {}).items()
        >= {
            "circuit_breaker.name": "traced",
            "circuit_breaker.old_state": "closed",
            "circuit_breaker.state": "open",
            "circuit_breaker.forced": False,
        }.items()
    )
    assert rejection.name == "circuit_breaker.rejection"
    assert dict(rejection.attributes or {})["circuit_breaker.state"] == "open"
    assert 0 < dict(rejection.attributes or {})["circuit_breaker.remaining_timeout"] <= 60


def test_without_a_span_nothing_happens() -> None:
    breaker = CircuitBreaker("untraced", failure_threshold=1, recovery_timeout=60)
    breaker.force_open(reason="test")
    with pytest.raises(CircuitBreakerError) as raised, breaker:
        pass
    assert raised.value.name == "untraced"


def traced(app: Flask, tracer: Any) -> None:
    @app.before_request
    def begin() -> None:
        from flask import g

        g.span = tracer.start_as_current_span("request")
        g.span.__enter__()

    @app.teardown_request
    def end(_: Any) -> None:
        from flask import g

        g.span.__exit__(None, None, None)


def exemplars(app: Flask) -> list[Any]:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    text = app.test_client().get("/metrics", headers=accept).text
    found = openmetrics.text_string_to_metric_families(text)
    return [s.exemplar for family in found for s in family.samples if s.exemplar]


def test_bucket_carries_the_trace_of_its_latest_request(make_app: Make, tracer: Any, spans: Any) -> None:
    app = make_app()
    scrape(app.test_client())  # notices that OpenTelemetry is there
    traced(app, tracer)
    app.test_client().get("/items/1")
    (exemplar,) = exemplars(app)
    context = spans.get_finished_spans()[-1].context
    assert exemplar.labels == {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
    }
    assert 0 < exemplar.value < 5


def test_trace_that_is_not_sampled_is_no_example(make_app: Make) -> None:
    app = make_app()
    scrape(app.test_client())
    traced(app, TracerProvider(sampler=ALWAYS_OFF).get_tracer("off"))
    app.test_client().get("/items/1")
    assert exemplars(app) == []


def test_text_format_has_no_exemplars(make_app: Make, tracer: Any) -> None:
    app = make_app()
    scrape(app.test_client())
    traced(app, tracer)
    app.test_client().get("/items/1")
    assert "trace_id" not in app.test_client().get("/metrics").text


def test_nothing_is_imported_and_nothing_replaced_where_nothing_traces() -> None:
    code = (
        "import sys\n"
        "from flask import Flask\n"
        "from flask_svc_infra.obs import add_observability, tracing\n"
        "from flask_svc_infra.resilience.engine import Engine\n"
        "app = Flask('x'); before = Engine._refuse; add_observability(app)\n"
        "client = app.test_client(); client.get('/'); client.get('/metrics')\n"
        "assert Engine._refuse is before\n"
        "assert tracing.exemplar_source() is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_current_span_survives_a_streamed_response(make_app: Make, tracer: Any) -> None:
    app = make_app()
    app.add_url_rule("/stream", "stream", lambda: iter(["a", "b"]))
    scrape(app.test_client())
    traced(app, tracer)
    assert app.test_client().get("/stream").data == b"ab"
    assert len(exemplars(app)) == 1
    assert not trace.get_current_span().is_recording()
