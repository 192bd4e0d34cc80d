"""check_url against real HTTP servers, whole and broken."""

import sys
import time

import pytest

from flask_svc_infra import ConfigurationError, MissingDriverError
from flask_svc_infra.health import HealthRegistry, HealthStatus, check_url

HEALTHY, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.UNHEALTHY


def asked(check, timeout=1.0):
    registry = HealthRegistry()
    registry.add("api", check, timeout=timeout)
    began = time.monotonic()
    return registry.check_one("api"), time.monotonic() - began


def test_expected_status_is_healthy(web):
    check = check_url(web.url + "/health")
    result = check()
    assert check.name == result.name == "127.0.0.1"
    assert (result.status, result.details) == (HEALTHY, {"status_code": 200})
    assert [(seen.method, seen.path) for seen in web.requests] == [("GET", "/health")]


def test_other_status_is_unhealthy_and_named(web):
    web.status = 503
    result = check_url(web.url)()
    assert (result.status, result.message) == (UNHEALTHY, "Expected status 200, got 503")
    assert result.details == {"status_code": 503}


def test_expected_status_method_and_headers_are_the_callers(web):
    web.status = 204
    result = check_url(
        web.url, method="head", expected_status=204, headers={"Authorization": "Bearer abc123"}
    )()
    assert result.status is HEALTHY
    assert web.requests[0].method == "HEAD"
    assert web.requests[0].headers["Authorization"] == "Bearer abc123"


def test_redirect_is_an_answer_and_not_followed(web):
    web.status, web.headers = 302, {"Location": web.url + "/login"}
    assert check_url(web.url)().message == "Expected status 200, got 302"
    assert check_url(web.url, expected_status=302)().status is HEALTHY
    assert len(web.requests) == 2


def test_slow_answer_is_a_timeout(web):
    web.delay = 5
    result, seconds = asked(check_url(web.url), timeout=0.2)
    assert result.status is UNHEALTHY
    assert "timed out" in result.message
    assert seconds < 0.4
    began = time.monotonic()
    result = check_url(web.url, timeout=0.2)()
    assert time.monotonic() - began < 0.5
    assert "timeout" in result.message.lower()


def test_body_that_drips_is_not_waited_for(web):
    web.body, web.drip = b"x" * 100, 0.5
    result, seconds = asked(check_url(web.url))
    assert result.status is HEALTHY
    assert seconds < 0.5


def test_head_that_drips_does_not_pass_the_registered_timeout(listen):
    def drip(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X-Slow: yes\r\n")
            time.sleep(0.05)

    result, seconds = asked(check_url(f"http://127.0.0.1:{listen(drip).port}/"), timeout=0.3)
    assert result.status is UNHEALTHY
    assert "timed out" in result.message
    assert seconds < 0.5


@pytest.mark.parametrize("fault", ["hang", "reset", "half", "refuse"])
def test_faulty_network_is_unhealthy_in_time_and_healthy_when_healed(web, fault_proxy, fault):
    proxy = fault_proxy("127.0.0.1", web.port)
    check = check_url(f"http://127.0.0.1:{proxy.port}/")
    assert check().status is HEALTHY
    getattr(proxy, fault)()
    result, seconds = asked(check, timeout=0.4)
    if fault == "half":  # the head fits into it
        assert result.status in (HEALTHY, UNHEALTHY)
    else:
        assert result.status is UNHEALTHY
    assert seconds < 0.6
    proxy.heal()
    assert check().status is HEALTHY


def test_refused_connection_says_so_without_the_url(closed_port):
    url = f"http://user:hunter22@127.0.0.1:{closed_port}/services/T000SECRET?key=abcd1234"
    result = check_url(url, headers={"X-Api-Key": "topsecret"})()
    assert result.status is UNHEALTHY
    assert "refused" in result.message
    for secret in ("hunter22", "T000SECRET", "abcd1234", "topsecret"):
        assert secret not in result.message


def test_unknown_host_is_unhealthy():
    result, _ = asked(check_url("http://no-such-host.invalid/"), timeout=5)
    assert result.status is UNHEALTHY
    assert result.message


def test_server_that_speaks_no_http_is_unhealthy(listen):
    port = listen(lambda connection: connection.sendall(b"+PONG\r\n")).port
    assert asked(check_url(f"http://127.0.0.1:{port}/"))[0].status is UNHEALTHY


def test_connections_are_closed_after_each_run(listen):
    def talk(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = listen(talk)
    check_url(f"http://127.0.0.1:{server.port}/")()
    assert server.connections[0].recv(1) == b""


@pytest.mark.parametrize("url", [None, ""])
def test_no_url_is_unhealthy_not_configured(url):
    result = check_url(url)()
    assert (result.name, result.status) == ("url", UNHEALTHY)
    assert "not configured" in result.message
    with pytest.raises(ConfigurationError, match="expected_status"):
        check_url(url, expected_status=99)


@pytest.mark.parametrize(
    "url",
    [
        "api:8080/health",
        "ftp://user:hunter22@h/",
        "http://",
        "http://user:hunter22@h:port/",
        "http://a b/",
        7,
    ],
)
def test_malformed_url_is_refused_without_its_secrets(url):
    with pytest.raises(ConfigurationError, match="malformed") as caught:
        check_url(url)
    assert "hunter22" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "options",
    [
        {"method": ""},
        {"method": "GET / HTTP/1.1"},
        {"expected_status": 99},
        {"expected_status": True},
        {"headers": ["a"]},
        {"headers": {"A": 1}},
        {"timeout": 0},
    ],
)
def test_option_that_cannot_work_is_refused(options):
    with pytest.raises(ConfigurationError):
        check_url("http://api/", **options)


def test_header_value_with_a_line_break_is_refused_without_showing_it():
    with pytest.raises(ConfigurationError) as caught:
        check_url("http://api/", headers={"Authorization": "hunter22\r\nX: y"})
    assert "hunter22" not in str(caught.value)


def test_missing_driver_is_an_error_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(MissingDriverError, match=r"requests.*pip install"):
        check_url("http://api/")
