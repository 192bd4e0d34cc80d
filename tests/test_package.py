"""The package itself: what importing it costs, what it shows, what the wheel carries."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import pytest

import flask_svc_infra

HEAVY = {"flask", "werkzeug", "prometheus_client", "redis", "psycopg2", "requests", "tenacity", "asyncio"}


def imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return set(out.split())


def test_importing_the_package_imports_no_flask_and_no_driver():
    assert not imported_by("import flask_svc_infra") & HEAVY


@pytest.mark.parametrize("module", ["health", "resilience"])
def test_the_domain_imports_no_framework_driver_or_metrics(module):
    loaded = imported_by(f"import flask_svc_infra.{module}")
    assert not loaded & {"flask", "werkzeug", "prometheus_client", "redis", "psycopg2", "requests"}


def test_all_is_sorted_and_every_name_in_it_resolves():
    assert flask_svc_infra.__all__ == sorted(flask_svc_infra.__all__)
    for name in flask_svc_infra.__all__:
        assert getattr(flask_svc_infra, name) is not None
    assert set(flask_svc_infra.__all__) <= set(dir(flask_svc_infra))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'SvcInfrastructure'"):
        _ = flask_svc_infra.SvcInfrastructure


def test_the_version_is_that_of_the_distribution():
    assert flask_svc_infra.__version__.count(".") == 2


def test_the_wheel_carries_the_marker_and_the_dashboard():
    package = files("flask_svc_infra")
    assert package.joinpath("py.typed").is_file()
    assert package.joinpath("obs/grafana/dashboards/http-overview.json").is_file()
