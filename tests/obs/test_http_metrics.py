"""Requests are counted once, under bounded labels, and timed to the end of their response."""

from __future__ import annotations

import gc
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, abort, request
from obs.reading import Samples, scrape
from support.prometheus import binary

from flask_svc_infra.mounts import RULE_KEY, entry_of

Make = Callable[..., Flask]


def test_request_is_counted_under_its_rule_method_and_status(make_app: Make) -> None:
    client = make_app().test_client()
    client.get("/items/1")
    client.get("/items/2")
    client.post("/items")
    found = scrape(client)
    assert found("http_requests_total", method="GET", path="/items/<int:item>", status="200") == 2
    assert found("http_requests_total", method="POST", path="/items", status="201") == 1
    assert found("http_request_duration_seconds_count", method="GET", path="/items/<int:item>") == 2
    assert found("http_request_duration_seconds_bucket", path="/items/<int:item>", le="+Inf") == 2


def test_labels_are_exactly_those_of_the_contract(make_app: Make) -> None:
    client = make_app().test_client()
    client.get("/items/1")
    found = scrape(client)
    assert set(found.find("http_requests_total")[0].labels) == {"method", "path", "status"}
    assert set(found.find("http_request_duration_seconds_count")[0].labels) == {"method", "path"}
    assert set(found.find("http_requests_in_progress")[0].labels) == {"method"}


def test_ten_thousand_paths_and_a_hundred_methods_add_two_label_sets_at_most(make_app: Make) -> None:
    app = make_app(compat="svc-infra")
    client = app.test_client()
    client.get("/items/1")
    before = _label_sets(scrape(client))
    for n in range(10_000):
        _call(app, f"/random/{n}")[0].close()
    for n in range(100):
        client.open("/items/1", method=f"INVENTED{n}")
    found = scrape(client)
    assert found("http_requests_total", path="<unmatched>", method="GET", status="404") == 10_000
    assert found("http_requests_total", path="<unmatched>", method="OTHER", status="405") == 100
    after = _label_sets(found)
    assert after.keys() == before.keys()
    grown = {name: len(sets - before[name]) for name, sets in after.items()}
    assert max(grown.values()) == grown["http_requests"] == 2
    assert {s.labels["method"] for s in found.find("http_requests_in_progress")} == {"GET", "OTHER"}


def _label_sets(samples: Samples) -> dict[str, set[frozenset[tuple[str, str]]]]:
    """Return each family's label sets; the buckets of one histogram are one."""
    return {
        family.name: {frozenset(s.labels.items() - {("le", s.labels.get("le", ""))}) for s in family.samples}
        for family in samples.families
        if not family.name.startswith("python_")
    }


def test_method_is_read_as_flask_reads_it(make_app: Make) -> None:
    app = make_app()
    client = app.test_client()
    client.open("/items/1", environ_overrides={"REQUEST_METHOD": "get"})
    assert scrape(client)("http_requests_total", method="GET", path="/items/<int:item>", status="200") == 1


def test_slash_redirect_is_unmatched(make_app: Make) -> None:
    app = make_app()
    app.add_url_rule("/folder/", "folder", lambda: "ok")
    client = app.test_client()
    assert client.get("/folder").status_code == 308
    assert scrape(client)("http_requests_total", path="<unmatched>", status="308") == 1


def test_unhandled_error_is_a_500_of_its_rule(make_app: Make) -> None:
    client = make_app().test_client()
    assert client.get("/boom").status_code == 500
    assert scrape(client)("http_requests_total", path="/boom", status="500") == 1


def test_propagated_error_is_a_500_of_its_rule(make_app: Make) -> None:
    app = make_app(config={"TESTING": True})
    client = app.test_client()
    with pytest.raises(RuntimeError):
        client.get("/boom")
    found = scrape(client)
    assert found("http_requests_total", path="/boom", method="GET", status="500") == 1
    assert found("http_requests_in_progress") == 0


def test_propagated_error_without_a_rule_is_unmatched(make_app: Make) -> None:
    app = make_app(config={"TESTING": True})

    @app.before_request
    def refuse() -> None:
        raise RuntimeError("before")

    client = app.test_client()
    with pytest.raises(RuntimeError):
        client.get("/nowhere")
    assert scrape(client)("http_requests_total", path="<unmatched>", status="500") == 1


def test_request_refused_by_an_earlier_hook_is_counted_once(make_app: Make) -> None:
    app = make_app()
    app.before_request_funcs.setdefault(None, []).insert(0, lambda: abort(401))
    client = app.test_client()
    client.get("/items/1")
    found = scrape(client)
    assert found("http_requests_total", path="/items/<int:item>", status="401") == 1
    assert found("http_requests_in_progress") == 0


def test_head_and_options_are_counted_as_themselves(make_app: Make) -> None:
    client = make_app().test_client()
    client.head("/items/1")
    client.options("/items/1")
    found = scrape(client)
    assert found("http_requests_total", method="HEAD", path="/items/<int:item>", status="200") == 1
    assert found("http_requests_total", method="OPTIONS", path="/items/<int:item>", status="200") == 1


def test_in_progress_counts_requests_that_are_being_answered(make_app: Make) -> None:
    app = make_app()
    inside, go = threading.Event(), threading.Event()

    @app.get("/slow")
    def slow() -> str:
        inside.set()
        assert go.wait(10)
        return "done"

    thread = threading.Thread(target=lambda: app.test_client().get("/slow"))
    thread.start()
    try:
        assert inside.wait(10)
        assert scrape(app.test_client())("http_requests_in_progress", method="GET") == 1
    finally:
        go.set()
        thread.join()
    assert scrape(app.test_client())("http_requests_in_progress", method="GET") == 0


class TestStreams:
    def test_stream_is_timed_to_its_end(self, make_app: Make) -> None:
        app = make_app()

        @app.get("/stream")
        def stream() -> Iterator[str]:
            yield "a"
            time.sleep(0.06)
            yield "b"

        client = app.test_client()
        assert client.get("/stream").data == b"ab"
        found = scrape(client)
        assert found("http_request_duration_seconds_sum", path="/stream") >= 0.06
        assert found("http_requests_total", path="/stream", status="200") == 1

    def test_stream_in_progress_until_it_ends(self, make_app: Make) -> None:
        app = make_app()

        @app.get("/stream")
        def stream() -> Iterator[str]:
            yield "a"
            yield "b"

        client = app.test_client()
        reply = client.get("/stream")
        assert scrape(client)("http_requests_in_progress", method="GET") == 1
        reply.close()
        assert scrape(client)("http_requests_in_progress", method="GET") == 0

    def test_client_that_leaves_counts_as_what_it_was_sent(self, make_app: Make) -> None:
        app, closed = make_app(), []

        @app.get("/stream")
        def stream() -> Iterator[str]:
            try:
                while True:
                    yield "a"
            finally:
                closed.append(True)

        client = app.test_client()
        reply = client.get("/stream")
        next(iter(reply.response))
        reply.close()
        assert closed == [True]
        assert scrape(client)("http_requests_total", path="/stream", status="200") == 1

    def test_stream_that_breaks_counts_as_500(self, make_app: Make) -> None:
        app = make_app()

        @app.get("/stream")
        def stream() -> Iterator[str]:
            yield "a"
            raise OSError("disk")

        client = app.test_client()
        with pytest.raises(OSError, match="disk"):
            _ = client.get("/stream").data
        found = scrape(client)
        assert found("http_requests_total", path="/stream", status="500") == 1
        assert found("http_requests_total", path="/stream", status="200") == 0

    def test_stream_nobody_closes_is_recorded_at_the_next_scrape(self, make_app: Make) -> None:
        app = make_app()
        app.add_url_rule("/stream", "stream", lambda: iter(["a", "b"]))
        client = app.test_client()
        reply = client.get("/stream")
        del reply
        gc.collect()
        found = scrape(client)
        assert found("http_requests_total", path="/stream", status="200") == 1
        assert found("http_requests_in_progress", method="GET") == 0

    def test_stream_is_closed_once_and_counted_once(self, make_app: Make) -> None:
        app = make_app()
        app.add_url_rule("/stream", "stream", lambda: iter(["a"]))
        client = app.test_client()
        reply = client.get("/stream")
        assert reply.data == b"a"
        reply.close()
        assert scrape(client)("http_requests_total", path="/stream") == 1


class _FileWrapper:
    """What a server that can sendfile(2) offers; it knows its own kind only."""

    def __init__(self, file: Any, size: int = 8192) -> None:
        self.file = file
        self.size = size
        self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.file.read(self.size), b"")


def _call(app: Flask, path: str, **environ: Any) -> tuple[Any, list[Any]]:
    from werkzeug.test import create_environ

    started: list[Any] = []
    body = app.wsgi_app(
        create_environ(path, environ_overrides=environ),
        lambda *args: started.append(args) or (lambda _: None),
    )
    return body, started


def test_file_wrapper_reaches_the_server_and_is_timed_to_its_close(make_app: Make, tmp_path: Any) -> None:
    from flask import send_file

    (tmp_path / "big").write_bytes(b"x" * 100_000)
    app = make_app()
    app.add_url_rule("/file", "file", lambda: send_file(tmp_path / "big"))
    body, _ = _call(app, "/file", **{"wsgi.file_wrapper": _FileWrapper})
    assert type(body) is _FileWrapper
    assert scrape(app.test_client())("http_requests_total", path="/file", status="200") == 0
    time.sleep(0.03)
    body.close()
    assert body.file.closed
    found = scrape(app.test_client())
    assert found("http_requests_total", path="/file", status="200") == 1
    assert found("http_request_duration_seconds_sum", path="/file") >= 0.03


def test_complete_body_is_handed_on_as_it_is(make_app: Make) -> None:
    app = make_app()
    inner: list[Any] = []
    entry = entry_of(app)
    flask_app = entry._inner

    def remember(environ: Any, start_response: Any) -> Any:
        inner.append(flask_app(environ, start_response))
        return inner[-1]

    entry.shortcut(lambda _inner: remember)
    body, _ = _call(app, "/items/1")
    assert body is inner[0]


def test_last_start_response_counts(make_app: Make) -> None:
    app = make_app()

    def raw(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        try:
            raise RuntimeError("late")
        except RuntimeError:
            import sys

            start_response("502 Bad Gateway", [], sys.exc_info())
        return [b"sorry"]

    entry_of(app).shortcut(lambda _inner: raw)
    _call(app, "/items/1")
    entry_of(app).shortcut(None)
    assert scrape(app.test_client())("http_requests_total", status="502") == 1


def test_hijacked_connection_is_a_101_and_no_error(make_app: Make) -> None:
    app = make_app()

    @app.get("/socket")
    def socket() -> Response:
        class Taken(Response):
            def __call__(self, *_: Any) -> Any:
                raise StopIteration

        return Taken()

    with pytest.raises(StopIteration):
        _call(app, "/socket")
    found = scrape(app.test_client())
    assert found("http_requests_total", path="/socket", status="101") == 1
    assert found("http_requests_total", path="/socket", status="500") == 0


def test_websocket_upgrade_a_view_does_not_speak_is_counted_as_refused(make_app: Make) -> None:
    client = make_app().test_client()
    reply = client.get("/items/1", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert reply.status_code == 400
    found = scrape(client)
    assert found("http_requests_total", path="<unmatched>", status="400") == 1
    assert found("http_requests_in_progress") == 0


def test_body_that_is_none_is_a_500_and_no_leak(make_app: Make) -> None:
    app = make_app()

    def bodiless(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return None

    entry_of(app).shortcut(lambda _inner: bodiless)
    with pytest.raises(TypeError):
        _call(app, "/items/1")
    entry_of(app).shortcut(None)
    found = scrape(app.test_client())
    assert found("http_requests_total", status="500") == 1
    assert found("http_requests_in_progress") == 0


def test_exit_of_a_worker_in_the_middle_of_a_request_is_counted(make_app: Make) -> None:
    app = make_app()

    @app.get("/timeout")
    def timeout() -> str:
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        app.test_client().get("/timeout")
    found = scrape(app.test_client())
    assert found("http_requests_total", path="/timeout", status="500") == 1
    assert found("http_requests_in_progress") == 0


HOSTILE: list[tuple[str, dict[str, str]]] = [
    ("/%00%0A%0D/../x", {}),
    ("/", {"HTTP_HOST": 'evil"} 1\nhttp_requests_total{x="'}),
    ("/", {"HTTP_HOST": "\udcff\udcfe"}),
    ("/", {"REQUEST_METHOD": "M" * 8192}),
    ("/", {"PATH_INFO": "/\xff\xfe\x00\n"}),
    ("/", {"REQUEST_METHOD": 'GET"} 1\n'}),
]


@pytest.mark.parametrize(("path", "overrides"), HOSTILE)
def test_hostile_request_leaves_a_valid_exposition(
    make_app: Make, path: str, overrides: dict[str, str]
) -> None:
    app = make_app()
    client = app.test_client()
    body, _ = _call(app, path, **overrides)
    list(body)
    found = scrape(client)
    for sample in found.find("http_requests_total"):
        assert sample.labels["path"] in {"<unmatched>", "/items/<int:item>", "/items", "/boom"}
        assert sample.labels["method"] in {"GET", "POST", "OTHER"}
    assert sum(s.value for s in found.find("http_requests_total")) == 1


def test_prometheus_itself_reads_what_hostile_requests_leave(make_app: Make) -> None:
    app = make_app(route_classifier=lambda path, method: 'a"b\\c\nd')
    for path, overrides in HOSTILE:
        list(_call(app, path, **overrides)[0])
    text = scrape(app.test_client()).text
    assert text.count('path="<unmatched>|unmatched",status="') >= 2
    command = [binary("promtool"), "check", "metrics"]
    told = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    # 3: it was read, and there is a remark on a name; users' own counters have some.
    assert told.returncode in (0, 3), told.stderr
    assert "error while" not in told.stderr
    broken = subprocess.run(
        command, input=text + 'x{y="', capture_output=True, text=True, timeout=60, check=False
    )
    assert broken.returncode == 1


def test_invalid_status_does_not_become_a_label(make_app: Make) -> None:
    app = make_app()

    def odd(environ: Any, start_response: Any) -> list[bytes]:
        start_response(f"{environ['QUERY_STRING']} what", [])
        return [b""]

    entry_of(app).shortcut(lambda _inner: odd)
    for n in range(30):
        _call(app, f"/?x{n}")
    entry_of(app).shortcut(None)
    assert scrape(app.test_client())("http_requests_total", status="invalid") == 30


class TestWhatIsNotCounted:
    def test_metrics_path_never_is(self, make_app: Make) -> None:
        client = make_app().test_client()
        for _ in range(3):
            scrape(client)
        client.post("/metrics")
        client.head("/metrics")
        found = scrape(client)
        assert not any("metrics" in s.labels.get("path", "") for s in found.all)
        assert sum(s.value for s in found.find("http_requests_total")) == 0

    def test_skip_paths_match_whole_segments(self, make_app: Make) -> None:
        app = make_app(skip_metric_paths=["/internal"])
        for n, rule in enumerate(("/internal", "/internal/deep", "/internals")):
            app.add_url_rule(rule, f"skipped{n}", lambda: "ok")
        client = app.test_client()
        for path in ("/internal", "/internal/deep", "/internals"):
            client.get(path)
        found = scrape(client)
        assert not found.has("http_requests_total", path="/internal")
        assert not found.has("http_requests_total", path="/internal/deep")
        assert found("http_requests_total", path="/internals", status="200") == 1

    def test_a_skip_path_does_not_uncover_the_metrics_path(self, make_app: Make) -> None:
        client = make_app(skip_metric_paths=["/health"], metrics_path="/custom/metrics").test_client()
        scrape(client, "/custom/metrics")
        assert sum(s.value for s in scrape(client, "/custom/metrics").find("http_requests_total")) == 0
        assert client.get("/metrics").status_code == 404


def test_probe_answered_before_flask_is_counted_under_its_rule(make_app: Make) -> None:
    app = make_app()

    def shortcut(inner: Any) -> Any:
        def call(environ: Any, start_response: Any) -> Any:
            if environ["PATH_INFO"].startswith("/_health/checks/"):
                environ[RULE_KEY] = "/_health/checks/<name>"
                start_response("503 Service Unavailable", [("Content-Length", "0")])
                return [b""]
            return inner(environ, start_response)

        return call

    entry_of(app).shortcut(shortcut)
    client = app.test_client()
    client.get("/_health/checks/a")
    client.get("/_health/checks/b")
    assert scrape(client)("http_requests_total", path="/_health/checks/<name>", status="503") == 2


class TestErrorsFromBirth:
    def test_every_rule_and_method_has_its_500_and_503(self, make_app: Make) -> None:
        found = scrape(make_app().test_client())
        for path, method in (("/items/<int:item>", "GET"), ("/items", "POST"), ("/boom", "GET")):
            for status in ("500", "503"):
                assert found.has("http_requests_total", path=path, method=method, status=status)
        assert not found.has("http_requests_total", method="HEAD")
        assert not found.has("http_requests_total", method="OPTIONS")

    def test_rules_added_later_too_but_not_static_files(self, make_app: Make) -> None:
        app = make_app()
        scrape(app.test_client())
        app.add_url_rule("/late", "late", lambda: "ok", methods=["PUT", "PURGE"])
        app.add_url_rule("/static/<path:filename>", "static", lambda filename: filename)
        found = scrape(app.test_client())
        assert found.has("http_requests_total", path="/late", method="PUT", status="500")
        assert found.has("http_requests_total", path="/late", method="OTHER", status="503")
        assert not found.has("http_requests_total", path="/static/<path:filename>")

    def test_first_error_is_an_increase(self, make_app: Make) -> None:
        client = make_app().test_client()
        before = scrape(client)("http_requests_total", path="/boom", status="500")
        client.get("/boom")
        assert scrape(client)("http_requests_total", path="/boom", status="500") - before == 1


class TestClassifier:
    def test_class_is_on_every_metric_that_has_a_path(self, make_app: Make) -> None:
        client = make_app(route_classifier=lambda path, method: "public").test_client()
        client.get("/items/1")
        found = scrape(client)
        paths = {s.labels["path"] for s in found.all if "path" in s.labels}
        assert paths == {"/items/<int:item>|public", "/items|public", "/boom|public"}

    def test_it_is_given_the_rule_once_for_each_method(self, make_app: Make) -> None:
        calls: list[tuple[str, str]] = []

        def classify(path: str, method: str) -> str:
            calls.append((path, method))
            return "public"

        client = make_app(route_classifier=classify).test_client()
        for n in range(5):
            client.get(f"/items/{n}")
            client.head(f"/items/{n}")
            client.get("/nowhere")
        scrape(client)
        scrape(client)
        assert calls.count(("/items/<int:item>", "GET")) == 1
        assert calls.count(("/items/<int:item>", "HEAD")) == 1
        assert len(calls) == len(set(calls)) == 4

    def test_it_is_called_once_by_many_threads(self, make_app: Make) -> None:
        calls: list[str] = []
        barrier = threading.Barrier(8)

        def classify(path: str, _method: str) -> str:
            time.sleep(0.01)
            calls.append(path)
            return "public"

        app = make_app(route_classifier=classify)

        def hit() -> None:
            barrier.wait(10)
            app.test_client().get("/items/1")

        threads = [threading.Thread(target=hit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert calls == ["/items/<int:item>"]

    def test_unmatched_has_a_class_of_its_own(self, make_app: Make) -> None:
        client = make_app(route_classifier=lambda path, method: "public").test_client()
        client.get("/nowhere")
        assert scrape(client)("http_requests_total", path="<unmatched>|unmatched", status="404") == 1

    @pytest.mark.parametrize("bad", [lambda path, method: 1 / 0, lambda path, method: None])
    def test_bad_classifier_costs_a_log_line_and_no_request(
        self, make_app: Make, bad: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = make_app(route_classifier=bad).test_client()
        assert client.get("/items/1").status_code == 200
        assert client.post("/items").status_code == 201
        found = scrape(client)
        assert found("http_requests_total", path="/items/<int:item>|unclassified", status="200") == 1
        assert sum("route classifier" in record.getMessage() for record in caplog.records) == 1


def test_counts_are_exact_under_threads(make_app: Make) -> None:
    app = make_app()
    barrier = threading.Barrier(8)

    def hit() -> None:
        client = app.test_client()
        barrier.wait(10)
        for n in range(50):
            client.get(f"/items/{n}")

    threads = [threading.Thread(target=hit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = scrape(app.test_client())
    assert found("http_requests_total", path="/items/<int:item>", status="200") == 400
    assert found("http_request_duration_seconds_count", path="/items/<int:item>") == 400
    assert found("http_requests_in_progress") == 0


def test_app_mounted_below_ours_counts_under_its_own_rules(make_app: Make) -> None:
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    app, admin = make_app(), Flask("admin", static_folder=None)
    admin.add_url_rule("/users/<name>", "users", lambda name: request.script_root + name)
    entry = entry_of(app)
    entry.shortcut(lambda inner: DispatcherMiddleware(inner, {"/admin": admin}))
    client = app.test_client()
    assert client.get("/admin/users/ann").text == "/adminann"
    assert scrape(client)("http_requests_total", path="/users/<name>", status="200") == 1
