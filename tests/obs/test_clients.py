"""Outgoing requests are counted by host, and measuring them can be taken back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import requests
from obs.reading import Samples, scrape

from flask_svc_infra import MissingDriverError
from flask_svc_infra.obs import clients
from flask_svc_infra.obs.clients import instrument_httpx, instrument_requests


@pytest.fixture
def read(make_app: Callable[..., Any]) -> Callable[[], Samples]:
    client = make_app().test_client()
    return lambda: scrape(client)


@pytest.fixture
def host(web: Any) -> str:
    return str(web.url).removeprefix("http://")


@pytest.fixture(autouse=True)
def fresh_hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(clients, "_hosts", set())
    yield
    assert not clients._patches, "a test left requests or httpx patched"


def test_requests_are_counted_by_method_host_and_status(web: Any, host: str, read: Any) -> None:
    stop = instrument_requests()
    requests.get(web.url, timeout=5)
    web.status = 503
    requests.post(web.url, timeout=5)
    stop()
    requests.get(web.url, timeout=5)
    found = read()
    assert found("http_client_requests_total", method="GET", host=host, status="200") == 1
    assert found("http_client_requests_total", method="POST", host=host, status="503") == 1
    assert found("http_client_requests_total", host=host) == 2
    assert found("http_client_request_duration_seconds_count", host=host) == 2


def test_no_response_counts_as_error(read: Any) -> None:
    stop = instrument_requests()
    with pytest.raises(requests.ConnectionError):
        requests.get("http://127.0.0.1:9/", timeout=2)
    stop()
    assert read()("http_client_requests_total", host="127.0.0.1:9", status="error") == 1


def test_measuring_twice_measures_once_until_both_stop(web: Any, host: str, read: Any) -> None:
    first, second = instrument_requests(), instrument_requests()
    requests.get(web.url, timeout=5)
    first()
    first()
    requests.get(web.url, timeout=5)
    second()
    requests.get(web.url, timeout=5)
    assert read()("http_client_requests_total", host=host) == 2
    assert "get_adapter" in vars(requests.Session)
    assert not hasattr(requests.Session.get_adapter, "__wrapped__")


def test_one_session_alone(web: Any, host: str, read: Any) -> None:
    with requests.Session() as measured, requests.Session() as other:
        stop = instrument_requests(measured)
        measured.get(web.url, timeout=5)
        other.get(web.url, timeout=5)
        both = instrument_requests()
        measured.get(web.url, timeout=5)
        both()
        stop()
        measured.get(web.url, timeout=5)
        assert "get_adapter" not in vars(measured)
    assert read()("http_client_requests_total", host=host) == 2


def test_each_hop_of_a_redirect_is_an_exchange(web: Any, host: str, read: Any) -> None:
    web.status, web.headers = 302, {"Location": web.url + "/end"}
    stop = instrument_requests()
    with pytest.raises(requests.TooManyRedirects), requests.Session() as session:
        session.max_redirects = 2
        session.get(web.url, timeout=5)
    stop()
    assert read()("http_client_requests_total", host=host, status="302") == 3


def test_someone_elses_later_patch_survives(web: Any, host: str, read: Any, monkeypatch: Any) -> None:
    stop = instrument_requests()
    ours = requests.Session.get_adapter

    def theirs(self, url):
        return ours(self, url)

    monkeypatch.setattr(requests.Session, "get_adapter", theirs)
    stop()
    requests.get(web.url, timeout=5)
    assert read()("http_client_requests_total", host=host) == 0
    monkeypatch.undo()
    requests.Session.get_adapter = ours.__wrapped__  # type: ignore[method-assign, attr-defined]


def test_httpx_sync_and_async(web: Any, host: str, read: Any) -> None:
    stop = instrument_httpx()
    again = instrument_httpx()
    httpx.get(web.url)

    async def fetch() -> None:
        async with httpx.AsyncClient() as client:
            await client.get(web.url)
            with pytest.raises(httpx.ConnectError):
                await client.put("http://127.0.0.1:9/")

    asyncio.run(fetch())
    again()
    stop()
    httpx.get(web.url)
    found = read()
    assert found("http_client_requests_total", method="GET", host=host, status="200") == 2
    assert found("http_client_requests_total", method="PUT", host="127.0.0.1:9", status="error") == 1


def test_hosts_past_the_limit_share_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "MOST_HOSTS", 2)
    labels = [clients._host_label(f"http://h{n}.example/x") for n in range(4)]
    assert labels == ["h0.example", "h1.example", "other", "other"]
    assert clients._host_label("https://h1.example/y") == "h1.example"


@pytest.mark.parametrize("url", ["", "http://", "http://[bad", "nonsense", "http://h:port/"])
def test_strange_url_is_unknown(url: str) -> None:
    assert clients._host_label(url) == "unknown"


def test_credentials_do_not_become_a_label() -> None:
    assert clients._host_label("http://user:secret@api.example:8080/x?token=1") == "api.example:8080"


@pytest.mark.parametrize(
    ("instrument", "module", "cure"),
    [
        (instrument_requests, "requests", r"pip install 'flask-svc-infra\[http\]'"),
        (instrument_httpx, "httpx", "pip install httpx"),
    ],
)
def test_missing_library_is_an_error_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, instrument: Callable[[], object], module: str, cure: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDriverError, match=cure):
        instrument()
