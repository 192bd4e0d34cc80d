"""The plain probes: always 200, whatever the app's hooks, hosts and mounts do."""

from __future__ import annotations

import pytest
from flask import Blueprint, Flask, abort, url_for
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.mounts import RULE_KEY, Answer, Probe, entry_of, mounts_of
from flask_svc_infra.ops import add_probes, openapi_paths
from flask_svc_infra.shortcut import flask_path

PATHS = ["/_ops/live", "/_ops/ready", "/_ops/startup"]


@pytest.fixture
def app():
    app = Flask("app")
    add_probes(app)
    return app


@pytest.mark.parametrize("path", PATHS)
def test_probe_answers_ok_and_forbids_caching(app, path):
    reply = app.test_client().get(path)
    assert (reply.status_code, reply.json) == (200, {"status": "ok"})
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.mimetype == "application/json"


@pytest.mark.parametrize("path", PATHS)
def test_head_answers_like_get_without_a_body(app, path):
    get, head = app.test_client().get(path), app.test_client().head(path)
    assert head.status_code == 200
    assert head.data == b""
    assert dict(head.headers) == dict(get.headers)
    assert int(head.headers["Content-Length"]) == len(get.data)


@pytest.mark.parametrize("path", PATHS)
def test_no_hook_of_the_app_can_fail_a_probe(app, path):
    app.before_request(lambda: abort(401))
    app.after_request(lambda response: abort(500))
    assert app.test_client().get(path).status_code == 200
    assert app.test_client().get("/").status_code == 500


def test_view_gives_the_same_answer_as_the_short_cut(app):
    short = app.test_client().get("/_ops/live")
    entry_of(app).shortcut(None)
    view = app.test_client().get("/_ops/live")
    assert (view.status_code, view.data) == (short.status_code, short.data)
    assert dict(view.headers) == dict(short.headers)


def test_other_methods_are_left_to_flask(app):
    client = app.test_client()
    assert client.post("/_ops/live").status_code == 405
    options = client.options("/_ops/live")
    assert options.status_code == 200
    assert set(options.allow) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    "path", ["/_ops", "/_ops/", "/_ops/live/x", "/_ops/livex", "/_OPS/live", "/_opsy/live"]
)
def test_neighbouring_paths_are_not_probes(app, path):
    assert app.test_client().get(path).status_code == 404


@pytest.mark.parametrize("path", ["/_ops/%6cive", "/_ops/live?x=1", "/_ops/live/"])
def test_the_same_path_spelled_otherwise_is_the_same_probe(app, path):
    app.before_request(lambda: abort(401))
    assert app.test_client().get(path).status_code == 200


def test_doubled_leading_slashes_count_as_one_as_in_flask(app):
    app.before_request(lambda: abort(401))
    assert app.test_client().get("/", environ_overrides={"PATH_INFO": "//_ops/live"}).status_code == 200


def test_a_doubled_slash_inside_is_redirected_as_flask_does(app):
    assert app.test_client().get("/_ops//live").status_code == 308


def test_probe_works_behind_a_script_name_mount(app):
    client = Client(DispatcherMiddleware(Flask("other"), {"/shop": app}))
    assert client.get("/shop/_ops/live").status_code == 200
    assert client.get("/_ops/live").status_code == 404


def test_a_trusted_host_check_cannot_fail_a_probe(app):
    app.config["TRUSTED_HOSTS"] = ["shop.example"]
    assert app.test_client().get("/_ops/live", headers={"Host": "10.1.2.3:8000"}).status_code == 200


def test_url_for_knows_the_probes(app):
    with app.test_request_context():
        assert url_for("svc_infra_ops.live") == "/_ops/live"


def test_the_rule_is_left_for_the_metrics(app):
    seen = {}
    entry = entry_of(app)

    def observe(inner):
        def call(environ, start_response):
            body = inner(environ, start_response)
            seen[environ["PATH_INFO"]] = environ.get(RULE_KEY)
            return body

        return call

    entry.observe(observe)
    app.test_client().get("/_ops/live")
    app.test_client().get("/nothing")
    assert seen == {"/_ops/live": "/_ops/live", "/nothing": None}


def test_probes_mounted_later_by_others_are_answered_too(app):
    probe = Probe("/_x/checks/<name>", "check", lambda environ: Answer(503, b"{}", headers=(("Age", "1"),)))
    mounts_of(app).probe_prefixes["/_x/checks/"] = probe
    reply = app.test_client().get("/_x/checks/größe")
    assert (reply.status_code, reply.headers["Age"]) == (503, "1")


def test_two_sets_of_probes_live_side_by_side():
    app = Flask("app")
    add_probes(app)
    add_probes(app, prefix="/_other")
    add_probes(app, prefix="")
    client = app.test_client()
    assert [client.get(f"{prefix}/live").status_code for prefix in ("/_ops", "/_other", "")] == [
        200,
        200,
        200,
    ]


def test_a_blueprint_of_the_users_with_our_name_is_no_obstacle():
    app = Flask("app")
    app.register_blueprint(Blueprint("svc_infra_ops", "theirs"))
    add_probes(app)
    assert app.test_client().get("/_ops/live").status_code == 200


def test_a_second_mount_under_one_prefix_is_refused_with_the_cure(app):
    with pytest.raises(RuntimeError, match=r"'/_ops' is already mounted.*another prefix"):
        add_probes(app)


@pytest.mark.parametrize("prefix", ["_ops", "/_ops/", "/", "//x", "/<name>"])
def test_a_prefix_no_path_can_have_is_refused_and_mounts_nothing(prefix):
    app = Flask("app")
    with pytest.raises(ConfigurationError, match="nothing was mounted"):
        add_probes(app, prefix=prefix)
    assert mounts_of(app).probes == {}
    add_probes(app)


def test_several_apps_have_probes_of_their_own():
    one, other = Flask("one"), Flask("other")
    add_probes(one)
    add_probes(other, prefix="/_o")
    assert one.test_client().get("/_o/live").status_code == 404
    assert other.test_client().get("/_o/live").status_code == 200


def test_probes_added_too_late_are_refused_and_not_half_mounted():
    app = Flask("app")
    app.add_url_rule("/", "index", lambda: "ok")
    app.test_client().get("/")
    with pytest.raises(RuntimeError, match="served its first request"):
        add_probes(app)
    assert app.test_client().get("/_ops/live").status_code == 404


PIECES = ["/", "//", "_ops", "live", "ready", "LIVE", ".", "..", ";", "\\", " ", "%2f", "\u00e9", "x", ""]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_the_short_cut_answers_exactly_what_flask_would(path_info):
    both, flask_alone = Flask("both"), Flask("alone")
    for app in (both, flask_alone):
        app.add_url_rule("/<path:rest>", "rest", lambda rest: (rest, 404))
        add_probes(app)
    entry_of(flask_alone).shortcut(None)
    replies = [
        app.test_client().get("/", environ_overrides={"PATH_INFO": path_info}) for app in (both, flask_alone)
    ]
    assert replies[0].status_code == replies[1].status_code
    assert replies[0].data == replies[1].data


def test_schema_holds_the_probes_only_when_asked():
    quiet, loud = Flask("quiet"), Flask("loud")
    add_probes(quiet)
    add_probes(loud, include_in_schema=True)
    assert openapi_paths(quiet) == {}
    paths = openapi_paths(loud)
    assert list(paths) == PATHS
    assert paths["/_ops/live"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]


@pytest.mark.parametrize(
    ("path_info", "path"),
    [
        ("/a", "/a"),
        ("", "/"),
        ("a", "/a"),
        ("//a//b", "/a//b"),
        ("/gr\u00c3\u00b6\u00c3\u009fe", "/größe"),
        ("/\u00ff", "/\ufffd"),
    ],
)
def test_paths_are_read_as_flask_reads_them(path_info, path):
    assert flask_path({"PATH_INFO": path_info}) == path
    environ = {"PATH_INFO": path_info, "REQUEST_METHOD": "GET", "wsgi.url_scheme": "http", "HTTP_HOST": "x"}
    assert Flask("app").request_class(environ).path == path
