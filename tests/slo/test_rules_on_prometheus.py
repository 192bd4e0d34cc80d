"""Generated rules on a real Prometheus: what many of them cost, and that odd classes meet their requests."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from support.processes import eventually

from flask_svc_infra.obs.rules import Scope, to_rule_file
from flask_svc_infra.obs.slo import SLO
from flask_svc_infra.obs.slo_rules import slo_groups

pytestmark = pytest.mark.slow

ODD = 'a|b "c" \\d {e} ü→'
SOURCE = f"""
from flask import Flask
from flask_svc_infra import SvcInfra

app = Flask(__name__, static_folder=None)
app.add_url_rule("/buy", view_func=lambda: "sold", endpoint="buy")
app.add_url_rule("/fail", view_func=lambda: ("down", 500), endpoint="fail")
classes = {{"/buy": {ODD!r}, "/fail": {ODD!r}}}
SvcInfra(app, route_classifier=lambda rule, method: classes.get(rule, "system"))
"""


@pytest.fixture
def service(gunicorn) -> Any:
    server = gunicorn(source=SOURCE, conf="python:flask_svc_infra.gunicorn")
    server.wait_ready("/_health/ready")
    return server


def test_fifty_objectives_are_evaluated_in_less_than_a_second_and_odd_classes_survive(
    service, prometheus, tmp_path
):
    rules = tmp_path / "rules.yaml"
    slos = [SLO(f"s{i}", objective=0.999, path=f"/p/{i}") for i in range(48)]
    slos += [SLO("odd", objective=0.9, route_class=ODD), SLO("like-it", objective=0.9, route_class="a")]
    text = to_rule_file(slo_groups(slos, Scope(job="app")))
    rules.write_text(re.sub(r"interval: \d+[sm]\n", "interval: 1s\n", text), encoding="utf-8")
    server = prometheus(targets=[f"127.0.0.1:{service.port}"], rules=[rules])

    def half_fails() -> bool:
        for path in ("/buy", "/fail"):
            service.get(path)
        return abs((server.value('slo:error_ratio{slo="odd", window="5m"}') or 0) - 0.5) < 0.1

    eventually(half_fails, timeout=40, interval=0.1, message="the odd class does not find its requests")
    assert server.value('slo:error_ratio{slo="like-it", window="5m"}') is None, "no request has that class"
    time.sleep(2)
    groups = server._api("rules")["groups"]
    assert len(groups) == 150
    spent = sum(group["evaluationTime"] for group in groups)
    # Evaluated once each; the wall's clock, which a busy machine stretches, is all that Prometheus tells.
    assert spent < 1, f"50 objectives took {spent:.3f} s"
