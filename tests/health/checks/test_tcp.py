"""check_tcp against real sockets."""

import time

import pytest
from support.processes import eventually

from flask_svc_infra import ConfigurationError
from flask_svc_infra.health import HealthRegistry, HealthStatus, check_tcp


def test_open_port_is_healthy_and_the_connection_closed(listen):
    server = listen()
    check = check_tcp("127.0.0.1", server.port)
    result = check()
    assert check.name == result.name == f"127.0.0.1:{server.port}"
    assert (result.status, result.message) == (HealthStatus.HEALTHY, None)
    (connection,) = eventually(lambda: list(server.connections))
    assert connection.recv(1) == b""


def test_closed_port_is_unhealthy_and_says_so(closed_port):
    result = check_tcp("127.0.0.1", closed_port)()
    assert result.status is HealthStatus.UNHEALTHY
    assert "refused" in result.message


def test_every_address_of_a_name_is_tried(listen):
    server = listen()  # on IPv4 alone, and localhost may well mean IPv6 first
    assert check_tcp("localhost", server.port)().status is HealthStatus.HEALTHY


def test_unknown_host_is_unhealthy():
    result = check_tcp("no-such-host.invalid", 80)()
    assert result.status is HealthStatus.UNHEALTHY
    assert result.message


def test_full_accept_queue_is_a_timeout():
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        queued = []
        for _ in range(3):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
            queued.append(waiting)
        time.sleep(0.05)
        began = time.monotonic()
        result = check_tcp("127.0.0.1", port, timeout=0.2)()
        assert time.monotonic() - began < 0.4
        assert result.status is HealthStatus.UNHEALTHY
        assert "timeout" in result.message.lower()
        registry = HealthRegistry()
        registry.add("queue", check_tcp("127.0.0.1", port), timeout=0.2)
        assert "timed out" in registry.check_one("queue").message
        for waiting in queued:
            waiting.close()


@pytest.mark.parametrize("host", ["", " ", None, "http://h", "h/path", "user@h", 7])
def test_host_that_is_none_is_refused(host):
    with pytest.raises(ConfigurationError, match="host"):
        check_tcp(host, 80)


@pytest.mark.parametrize("port", [0, -1, 65536, "80", None, True, 1.5])
def test_port_that_is_none_is_refused(port):
    with pytest.raises(ConfigurationError, match="port"):
        check_tcp("h", port)
