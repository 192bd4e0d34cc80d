"""Objectives and the app they are declared for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from flask import Flask

from flask_svc_infra import SLO, ConfigurationError, SvcInfra
from flask_svc_infra.config import DEFAULT_BUCKETS
from flask_svc_infra.mounts import settings_of
from flask_svc_infra.obs import add_observability
from flask_svc_infra.obs.objectives import declare_slos, scope_of, slos_of

LATENCY = SLO("latency", objective=0.99, latency=0.3)


def exposed_bounds(app: Flask) -> set[str]:
    @app.get("/x")
    def x():
        return "x"

    client = app.test_client()
    client.get("/x")
    text = client.get("/metrics").get_data(as_text=True)
    lines = [line for line in text.splitlines() if line.startswith("http_request_duration_seconds_bucket")]
    return {line.split('le="')[1].split('"')[0] for line in lines}


def test_the_public_name_is_lazy_and_brings_no_framework():
    code = (
        "import sys; from flask_svc_infra import SLO; SLO('a', objective=0.9); print('flask' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_latency_becomes_a_bucket_of_the_scrape():
    app = Flask(__name__)
    SvcInfra(app, slos=[LATENCY])
    assert "0.3" in exposed_bounds(app)
    assert settings_of(app).metrics_buckets == tuple(sorted({*DEFAULT_BUCKETS, 0.3}))


def test_objectives_of_one_app_leave_another_alone():
    one, other = Flask("one"), Flask("other")
    SvcInfra(one, slos=[LATENCY])
    SvcInfra(other)
    assert "0.3" not in exposed_bounds(other)
    assert slos_of(one) == (LATENCY,)
    assert slos_of(other) == ()


def test_a_shared_extension_declares_its_objectives_for_every_app():
    infra = SvcInfra(slos=[LATENCY])
    apps = [Flask("a"), Flask("b")]
    for app in apps:
        infra.init_app(app)
    assert [slos_of(app) for app in apps] == [(LATENCY,), (LATENCY,)]


def test_metrics_that_exist_already_are_told_the_nearest_bounds():
    app = Flask(__name__)
    add_observability(app)
    with pytest.raises(ConfigurationError, match=r"Use 0\.25 or 0\.5"):
        SvcInfra(app, slos=[LATENCY], metrics=False)
    assert slos_of(app) == ()


def test_bad_objectives_are_refused_before_any_app_is_touched():
    with pytest.raises(ConfigurationError, match="two SLOs called 'latency'"):
        SvcInfra(Flask(__name__), slos=[LATENCY, LATENCY])


def test_objectives_declared_twice_are_refused_and_the_first_stay():
    app = Flask(__name__)
    declare_slos(app, [LATENCY])
    with pytest.raises(ConfigurationError, match="two SLOs"):
        declare_slos(app, [SLO("latency", objective=0.5)])
    assert slos_of(app) == (LATENCY,)


def test_the_scope_of_an_app_knows_its_probes():
    app = Flask(__name__)
    app.config["SVC_INFRA_HEALTH_PREFIX"] = "/status"
    assert scope_of(app, job="web").customers()[-1] == ("path", "!~", "(/status|/_ops)([/|].*)?")
