"""One GET with a deadline: what counts as an answer, and how long it may take."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_svc_infra.cli.fetch import LONGEST_BODY, Unreachable, fetch, parse_seconds, parse_url

from ._server import drip, reply


def ask(url: str, timeout: float = 5.0):
    return fetch(parse_url(url), timeout=timeout)


def fetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "flask-svc-infra-fetch"]


def gone(threads, within: float = 2.0) -> bool:
    for thread in threads:
        thread.join(within)
    return not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize(
    ("status", "good"),
    [
        ("200 OK", True),
        ("204 No Content", True),
        ("299 Odd", True),
        ("301 Moved", False),
        ("302 Found", False),
        ("304 Not Modified", False),
        ("404 Not Found", False),
        ("500 Internal Server Error", False),
        ("503 Service Unavailable", False),
    ],
)
def test_any_2xx_and_nothing_else_is_good(serve, status, good):
    body = b"" if status[:3] in ("204", "304") else b"{}"
    assert ask(serve(reply(status, body)).url).good is good


def test_redirect_is_not_followed(serve):
    home = serve(reply())
    away = serve(reply("302 Found", Location=home.url))
    answer = ask(away.url)
    assert (answer.status, answer.location) == (302, home.url)
    assert home.requests == []


def test_proxies_of_the_environment_are_ignored(serve, nobody, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, nobody)
    assert ask(serve(reply()).url).status == 200


def test_request_names_the_path_the_query_and_the_host(serve):
    server = serve(reply())
    ask(f"http://localhost:{server.port}/größe?a=1&b=2#part")
    head = server.requests[0].decode().split("\r\n")
    assert head[0] == "GET /gr%C3%B6%C3%9Fe?a=1&b=2 HTTP/1.1"
    assert f"Host: localhost:{server.port}" in head


def test_user_and_password_go_into_the_authorization_header_and_are_never_shown(serve):
    server = serve(reply())
    target = parse_url(f"http://me:s%40cret@127.0.0.1:{server.port}/x?token=abc")
    fetch(target, timeout=5)
    assert "Authorization: Basic bWU6c0BjcmV0" in server.requests[0].decode()
    assert target.shown == f"http://127.0.0.1:{server.port}/x"


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    ],
    ids=["status line", "reason", "header", "body", "body without length"],
)
def test_dripping_answer_ends_at_the_deadline_and_leaves_no_thread(serve, start):
    server = serve(drip(start))
    before = fetch_threads()
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"^Request timeout after 0\.3s$"):
        ask(server.url, timeout=0.3)
    assert 0.29 <= time.monotonic() - began < 3.0
    assert gone([t for t in fetch_threads() if t not in before])
    assert server.closed.wait(2)


def test_silent_server_ends_at_the_deadline(serve):
    release = threading.Event()
    server = serve(lambda connection, n: release.wait(10) and None)
    began = time.monotonic()
    with pytest.raises(Unreachable, match="timeout"):
        ask(server.url, timeout=0.2)
    assert time.monotonic() - began < 3.0
    release.set()


def test_endless_body_is_cut_at_its_longest(serve):
    def flood(connection, _):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    answer = ask(serve(flood).url)
    assert answer.good
    assert len(answer.body) == LONGEST_BODY


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "did not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "broke off after 4 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "broke off"),
    ],
)
def test_half_an_answer_is_no_answer(serve, raw, words):
    with pytest.raises(Unreachable, match=words):
        ask(serve(lambda connection, _: connection.sendall(raw)).url)


def test_refused_connection_says_so(nobody):
    with pytest.raises(Unreachable, match="Connection refused"):
        ask(nobody)


def test_unknown_host_says_so():
    with pytest.raises(Unreachable, match=r"'no-such-host\.invalid' has no address"):
        ask("http://no-such-host.invalid/")


def test_https_against_a_plain_server_says_so(serve):
    server = serve(lambda connection, _: None)
    with pytest.raises(Unreachable, match="Connection failed"):
        ask(server.url.replace("http:", "https:"), timeout=2)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000/health", "scheme is 'localhost'"),
        ("/_health/ready", "scheme is ''"),
        ("ftp://host/", "scheme is 'ftp'"),
        ("http://", "names no host"),
        ("http:///path", "names no host"),
        ("http://host:port/", "cannot be read"),
        ("http://host:70000/", "cannot be read"),
        ("http://[::1/", "cannot be read"),
        ("http://host/a b", "a space or a control character"),
        ("http://host/\r\nX: y", "a space or a control character"),
        ("", "scheme is ''"),
    ],
)
def test_bad_url_is_refused_with_the_cure(url, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse_url(url)
    assert "Write it as in" in str(caught.value)


def test_bad_url_does_not_show_its_password():
    with pytest.raises(ValueError) as caught:
        parse_url("http://me:s3cret@host:badport/")
    assert "s3cret" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_a_target_or_a_value_error(text):
    try:
        target = parse_url(text)
    except ValueError:
        return
    target.path.encode("ascii")
    assert target.host
    assert target.path.startswith("/")


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", ""])
def test_seconds_that_cannot_work_are_refused(text):
    with pytest.raises(ValueError, match="not a number of seconds above zero"):
        parse_seconds(text)


def test_ipv6_address_keeps_its_brackets():
    target = parse_url("http://[::1]:8000")
    assert (target.host, target.port, target.path, target.shown) == ("::1", 8000, "/", "http://[::1]:8000")
