"""The facade holds every public name, under the same name."""

from __future__ import annotations

import inspect

import pytest

from flask_svc_infra import aio, health, resilience

TWINS = {
    "HealthRegistry",
    "add_dependency_health",
    "add_health_routes",
    "add_startup_probe",
    *(name for name in health.__all__ if name.startswith("check_")),
}


def test_every_name_of_health_and_resilience_is_here():
    assert set(aio.__all__) == {*health.__all__, *resilience.__all__}
    assert all(hasattr(aio, name) for name in aio.__all__)


@pytest.mark.parametrize("name", sorted({*health.__all__, *resilience.__all__} - TWINS))
def test_what_needs_no_twin_is_the_same_object(name):
    origin = health if name in health.__all__ else resilience
    assert getattr(aio, name) is getattr(origin, name)


@pytest.mark.parametrize("name", sorted(TWINS - {"HealthRegistry"}))
def test_a_twin_keeps_signature_and_docstring(name):
    twin, origin = getattr(aio, name), getattr(health, name)
    assert inspect.signature(twin) == inspect.signature(origin)
    assert inspect.getdoc(twin) == inspect.getdoc(origin)
