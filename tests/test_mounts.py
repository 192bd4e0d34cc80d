"""What is mounted on an app: found by path, claimed once, layered in a fixed order."""

from __future__ import annotations

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.mounts import Answer, Hold, Mounts, Probe, entry_of, mounts_of, settings_of, under


def probe(rule, kind="live"):
    return Probe(rule=rule, kind=kind, answer=lambda environ: Answer(200, b"{}"))


@pytest.fixture
def mounts():
    mounts = Mounts()
    mounts.probes["/_ops/live"] = probe("/_ops/live", "static")
    mounts.probe_prefixes["/_health/checks/"] = probe("/_health/checks/<name>", "check")
    mounts.metrics_paths = ("/metrics",)
    return mounts


@pytest.mark.parametrize(
    "path", ["/_ops/live", "/_ops/live/", "/_health/checks/database", "/_health/checks/database/", "/metrics"]
)
def test_mounted_paths_are_served(mounts, path):
    assert mounts.serves(path)


@pytest.mark.parametrize(
    "path",
    [
        "/_ops",
        "/_ops/",
        "/_ops/live//",
        "/_opsy/live",
        "/_health/checks/",
        "/_health/checks/a/b",
        "/metrics/x",
    ],
)
def test_neighbours_of_mounted_paths_are_not_served(mounts, path):
    assert not mounts.serves(path)


def test_a_place_is_claimed_once_and_the_second_taker_gets_the_cure(mounts):
    mounts.claim("probes under '/_ops'", "Give the second another prefix.")
    with pytest.raises(RuntimeError, match=r"already mounted on this app.*another prefix"):
        mounts.claim("probes under '/_ops'", "Give the second another prefix.")
    mounts.release("probes under '/_ops'")
    mounts.claim("probes under '/_ops'", "Give the second another prefix.")


def test_a_hold_speaks_for_its_kinds_only_and_while_it_has_a_reason(mounts):
    reason = ["draining"]
    mounts.holds += (Hold("drain", frozenset({"ready"}), lambda: reason[0]),)
    assert mounts.held("ready") == "draining"
    assert mounts.held("live") is None
    reason[0] = None
    assert mounts.held("ready") is None


def test_every_app_has_mounts_of_its_own():
    one, other = Flask("one"), Flask("other")
    assert mounts_of(one) is mounts_of(one)
    assert mounts_of(one) is not mounts_of(other)


def test_another_extension_under_our_key_is_an_error_and_not_overwritten():
    app = Flask("app")
    app.extensions["svc_infra"] = "theirs"
    with pytest.raises(RuntimeError, match="holds a str, not ours"):
        mounts_of(app)
    assert app.extensions["svc_infra"] == "theirs"


def test_settings_are_read_once():
    app = Flask("app")
    app.config["SVC_INFRA_METRICS_PATH"] = "/m"
    assert settings_of(app).metrics_path == "/m"
    app.config["SVC_INFRA_METRICS_PATH"] = "/late"
    assert settings_of(app).metrics_path == "/m"


def test_bad_settings_are_refused():
    app = Flask("app")
    app.config["SVC_INFRA_NOPE"] = 1
    with pytest.raises(ConfigurationError):
        settings_of(app)


@pytest.mark.parametrize("first", ["observe", "shortcut"])
def test_metrics_lie_around_the_short_cut_in_whatever_order_they_are_added(first):
    app = Flask("app")
    order = []

    def layer(name):
        def factory(inner):
            def call(environ, start_response):
                order.append(name)
                return inner(environ, start_response)

            return call

        return factory

    for name in [first, "shortcut" if first == "observe" else "observe"]:
        getattr(entry_of(app), name)(layer(name))
    app.test_client().get("/")
    assert order == ["observe", "shortcut"]
    entry_of(app).observe(None)
    order.clear()
    app.test_client().get("/")
    assert order == ["shortcut"]


def test_the_entry_is_installed_once():
    app = Flask("app")
    entry = entry_of(app)
    assert entry_of(app) is entry is app.wsgi_app


SEGMENTS = st.lists(st.text("ab_", min_size=1, max_size=3), min_size=1, max_size=4)


@given(SEGMENTS, SEGMENTS)
def test_a_path_lies_under_a_prefix_exactly_when_its_segments_begin_with_the_prefixs(path, prefix):
    assert under("/" + "/".join(path), "/" + "/".join(prefix)) == (path[: len(prefix)] == prefix)
