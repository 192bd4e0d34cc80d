"""Counters that rules and panels take increases of exist before the first event."""

from __future__ import annotations

from flask import Flask

from flask_svc_infra import SvcInfra


def test_transitions_of_a_circuit_exist_before_the_first_one():
    app = Flask(__name__)
    infra = SvcInfra(app)
    infra.breaker("born-at-zero")
    text = app.test_client().get("/metrics").get_data(as_text=True)
    for state in ("closed", "half_open", "open"):
        assert f'circuit_breaker_transitions_total{{name="born-at-zero",state="{state}"}} 0.0' in text


def test_skipped_files_exist_before_the_first_one():
    app = Flask(__name__)
    SvcInfra(app)
    text = app.test_client().get("/metrics").get_data(as_text=True)
    assert "svc_infra_metric_files_skipped_total 0.0" in text
