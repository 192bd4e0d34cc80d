"""What may be a check: a function that can be called as it is."""

import functools
import os
import re
from unittest.mock import AsyncMock, Mock

import pytest
from flask import Flask

from flask_svc_infra import ConfigurationError, aio, health
from flask_svc_infra.health import HealthRegistry, add_dependency_health, add_startup_probe, check_tcp
from flask_svc_infra.health.functions import name_of

FACTORIES = [getattr(health, name) for name in health.__all__ if name.startswith("check_")]


def healthy():
    return True


def test_check_that_cannot_be_called_is_refused():
    with pytest.raises(ConfigurationError, match="cannot be called"):
        HealthRegistry().add("db", "postgresql://")


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: factory.__name__)
def test_factory_that_was_not_called_is_refused_with_the_cure(factory):
    """``add("db", check_database)`` would be found out by the first probe, in production."""
    app = Flask("shop")
    cure = f"nothing was registered. Call it: {factory.__name__}("
    for add in (
        HealthRegistry().add,
        aio.HealthRegistry().add,
        lambda name, check: add_dependency_health(app, name, check),
        lambda name, check: aio.add_dependency_health(app, name, check),
        lambda name, check: add_startup_probe(app, [healthy, check], timeout=0),
    ):
        for each in (factory, getattr(aio, factory.__name__)):
            with pytest.raises(ConfigurationError, match=re.escape(cure)):
                add("db", each)
    assert "svc_infra_health" not in app.blueprints


def test_cure_for_a_factory_names_its_arguments():
    with pytest.raises(ConfigurationError, match=re.escape("Call it: check_tcp(host, port).")):
        HealthRegistry().add("broker", check_tcp)


class Client:
    def ping(self, host, *, patience):
        return True

    def ready(self, host="db", *rest, patience=1.0, **options):
        return True


@pytest.mark.parametrize("check", [Client.ping, Client().ping, lambda client: True, os.path.exists])
def test_function_that_needs_arguments_is_refused(check):
    registry = HealthRegistry()
    with pytest.raises(ConfigurationError, match=r"'db' .* needs .*; nothing was registered"):
        registry.add("db", check)
    with pytest.raises(ConfigurationError, match="check 2 of add_startup_probe"):
        add_startup_probe(Flask("shop"), [healthy, check], timeout=0)
    assert registry.checks == []


@pytest.mark.parametrize(
    "check",
    [
        Client().ready,
        functools.partial(Client().ping, "db", patience=1),
        Mock(return_value=True),
        AsyncMock(return_value=True),
        check_tcp("127.0.0.1", 1),
        bool,  # tells nothing of what it takes
        dict,
    ],
)
def test_whatever_can_be_called_without_arguments_is_registered(check):
    registry = HealthRegistry()
    registry.add("db", check)
    assert [each.name for each in registry.checks] == ["db"]


def test_check_without_a_name_is_called_by_its_function_then_its_type():
    class Check:
        def __call__(self):
            return True

    assert name_of(healthy) == "healthy"
    assert name_of(Check()) == "Check"
    named = Check()
    named.name = "mine"
    assert name_of(named) == "mine"
