"""Settings: what is accepted, what is refused and what the refusal says."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_svc_infra import ConfigurationError
from flask_svc_infra.config import DEFAULT_BUCKETS, PREFIX, Settings, parse_flag


def test_no_setting_is_required():
    settings = Settings.from_config({})
    assert settings.health_prefix == "/_health"
    assert settings.ops_prefix == "/_ops"
    assert settings.metrics_path == "/metrics"
    assert settings.metrics_enabled is True
    assert settings.metrics_buckets == DEFAULT_BUCKETS
    assert settings.health_cache_ttl == 1.0
    assert settings.detailed_on_failure is True
    assert settings.maintenance_env_var == "MAINTENANCE_MODE"
    assert settings.maintenance_retry_after == 60


def test_settings_are_frozen():
    with pytest.raises(FrozenInstanceError):
        Settings().metrics_path = "/other"


def test_keys_of_others_are_left_alone():
    assert Settings.from_config({"SECRET_KEY": "x", "SVC_OTHER": 1, "DEBUG": True}) == Settings()


def test_an_unknown_key_names_the_nearest_known_one():
    with pytest.raises(ConfigurationError, match=r"SVC_INFRA_METRIC_PATH .*SVC_INFRA_METRICS_PATH\?"):
        Settings.from_config({"SVC_INFRA_METRIC_PATH": "/metrics"})


def test_an_unknown_key_like_no_other_lists_the_known_ones():
    with pytest.raises(ConfigurationError, match="SVC_INFRA_DRAIN_SECONDS"):
        Settings.from_config({"SVC_INFRA_ZZZZZZ": 1})


def test_a_double_underscore_in_the_environment_is_explained(monkeypatch):
    monkeypatch.setenv("FLASK_SVC_INFRA__METRICS__PATH", "/m")
    app = Flask(__name__)
    app.config.from_prefixed_env()
    with pytest.raises(ConfigurationError, match="single underscores"):
        Settings.from_config(app.config)


def test_environment_values_arrive_through_from_prefixed_env(monkeypatch):
    monkeypatch.setenv("FLASK_SVC_INFRA_METRICS_ENABLED", "False")
    monkeypatch.setenv("FLASK_SVC_INFRA_METRICS_BUCKETS", "0.1,0.5,2")
    monkeypatch.setenv("FLASK_SVC_INFRA_HEALTH_CACHE_TTL", "2.5")
    monkeypatch.setenv("FLASK_SVC_INFRA_MAINTENANCE_EXEMPT_PREFIXES", "/hooks, /admin")
    monkeypatch.setenv("FLASK_SVC_INFRA_MAINTENANCE_RETRY_AFTER", "120")
    monkeypatch.setenv("FLASK_SVC_INFRA_DETAILED_ON_FAILURE", "0")
    app = Flask(__name__)
    app.config.from_prefixed_env()
    settings = Settings.from_config(app.config)
    assert settings.metrics_enabled is False
    assert settings.metrics_buckets == (0.1, 0.5, 2.0)
    assert settings.health_cache_ttl == 2.5
    assert settings.maintenance_exempt_prefixes == ("/hooks", "/admin")
    assert settings.maintenance_retry_after == 120
    assert settings.detailed_on_failure is False


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("METRICS_PATH", "metrics"),
        ("METRICS_PATH", "/"),
        ("METRICS_PATH", "/metrics/"),
        ("METRICS_PATH", "/a b"),
        ("METRICS_PATH", "/<name>"),
        ("METRICS_PATH", None),
        ("HEALTH_PREFIX", ""),
        ("OPS_PREFIX", 7),
        ("METRICS_ENABLED", "perhaps"),
        ("METRICS_ENABLED", 2),
        ("METRICS_ENABLED", None),
        ("METRICS_BUCKETS", ""),
        ("METRICS_BUCKETS", "0.5,0.1"),
        ("METRICS_BUCKETS", "0,1"),
        ("METRICS_BUCKETS", "a,b"),
        ("METRICS_BUCKETS", [1, 1]),
        ("METRICS_BUCKETS", {"a": 1}),
        ("HEALTH_CACHE_TTL", -1),
        ("HEALTH_CACHE_TTL", "soon"),
        ("HEALTH_CACHE_TTL", True),
        ("HEALTH_CACHE_TTL", float("nan")),
        ("DRAIN_SECONDS", float("inf")),
        ("MAINTENANCE_RETRY_AFTER", 0),
        ("MAINTENANCE_RETRY_AFTER", 1.5),
        ("MAINTENANCE_EXEMPT_PREFIXES", "webhooks"),
        ("MAINTENANCE_EXEMPT_PREFIXES", 3),
        ("MAINTENANCE_ENV_VAR", ""),
        ("MAINTENANCE_ENV_VAR", "A B"),
        ("MAINTENANCE_ALLOW", "10.0.0.0/99"),
        ("MAINTENANCE_ALLOW", "somewhere"),
    ],
)
def test_a_malformed_value_is_refused_with_key_value_and_cure(key, value):
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_config({PREFIX + key: value})
    message = str(refused.value)
    assert message.startswith(PREFIX + key)
    assert "nothing was mounted" in message
    assert "Set it to" in message


def test_a_refused_secret_is_not_shown():
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_config({"SVC_INFRA_MAINTENANCE_BYPASS_TOKEN": "hunter2"})
    assert "hunter2" not in str(refused.value)


def test_a_secret_is_not_in_the_repr():
    settings = Settings.from_config({"SVC_INFRA_MAINTENANCE_BYPASS_TOKEN": "correct horse battery"})
    assert settings.maintenance_bypass_token == "correct horse battery"
    assert "battery" not in repr(settings)


def test_two_parts_cannot_share_a_path():
    with pytest.raises(ConfigurationError, match="SVC_INFRA_HEALTH_PREFIX and SVC_INFRA_OPS_PREFIX"):
        Settings.from_config({"SVC_INFRA_HEALTH_PREFIX": "/_ops"})


@pytest.mark.parametrize("path", ["/_health/ready", "/_ops/live"])
def test_metrics_cannot_take_the_path_of_a_probe(path):
    with pytest.raises(ConfigurationError, match="a probe under SVC_INFRA_"):
        Settings.from_config({"SVC_INFRA_METRICS_PATH": path})


def test_networks_may_be_one_address_or_many():
    settings = Settings.from_config({"SVC_INFRA_MAINTENANCE_ALLOW": "10.0.0.0/8, ::1"})
    assert [str(network) for network in settings.maintenance_allow] == ["10.0.0.0/8", "::1/128"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        *[(text, True) for text in ("1", " TRUE ", "Yes", "on\n")],
        *[(text, False) for text in ("0", "false", "NO", "off", "", "  ")],
        *[(text, None) for text in ("2", "enabled", "t")],
    ],
)
def test_flags_are_read_stripped_and_case_folded(text, read):
    assert parse_flag(text) is read


SETTING_KEYS = [PREFIX + item.name.upper() for item in fields(Settings)]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(SETTING_KEYS) | st.text(max_size=30), ANYTHING, max_size=4))
def test_any_configuration_is_either_read_or_refused_as_a_configuration_error(config):
    try:
        settings = Settings.from_config(config)
    except ConfigurationError as refused:
        assert PREFIX.rstrip("_") in str(refused)  # noqa: PT017 - either way out is right
    else:
        assert settings.metrics_path.startswith("/")
        assert list(settings.metrics_buckets) == sorted(set(settings.metrics_buckets))


def test_every_setting_is_documented():
    page = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text(encoding="utf-8")
    for key in SETTING_KEYS:
        assert f"`{key}`" in page, f"docs/configuration.md does not mention {key}"


def test_a_token_of_digits_is_a_token_though_flask_reads_a_number():
    settings = Settings.from_config({"SVC_INFRA_MAINTENANCE_BYPASS_TOKEN": 12345678901234567890})
    assert settings.maintenance_bypass_token == "12345678901234567890"
    with pytest.raises(ConfigurationError, match="BYPASS_TOKEN has a value that cannot work"):
        Settings.from_config({"SVC_INFRA_MAINTENANCE_BYPASS_TOKEN": 1234})


def test_the_prefix_alone_makes_no_key_the_nearest():
    with pytest.raises(ConfigurationError, match="The settings are: "):
        Settings.from_config({"SVC_INFRA_FOO": "/m"})
