"""check_broker: a real Valkey, kombu's own transports, and AMQP as far as its handshake."""

import struct
import sys
import time

import pytest

from flask_svc_infra import ConfigurationError, MissingDriverError
from flask_svc_infra.health import HealthRegistry, HealthStatus, check_broker

HEALTHY, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.UNHEALTHY


def asked(check, timeout=1.0):
    registry = HealthRegistry()
    registry.add("broker", check, timeout=timeout)
    began = time.monotonic()
    return registry.check_one("broker"), time.monotonic() - began


@pytest.mark.parametrize("url", [None, ""])
def test_no_url_is_unhealthy_not_configured(url):
    result = check_broker(url)()
    assert (result.name, result.status) == ("broker", UNHEALTHY)
    assert "not configured" in result.message


def test_redis_as_a_broker(valkey):
    check = check_broker(valkey.url)
    assert (check.name, check().status) == ("broker", HEALTHY)
    valkey.stop()
    result, seconds = asked(check, timeout=0.2)
    assert (result.status, seconds < 0.4) == (UNHEALTHY, True)
    valkey.cont()
    assert check().status is HEALTHY


def test_transport_without_a_server(tmp_path):
    assert check_broker("memory://")().status is HEALTHY


def _method(cls, method, arguments=b"", channel=0):
    payload = struct.pack(">HH", cls, method) + arguments
    return struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce"


def _long(text):
    return struct.pack(">I", len(text)) + text


def rabbit(connection):
    """Speak the server's part of AMQP 0-9-1 up to an open channel, and of its closing."""
    stream = connection.makefile("rb")
    assert stream.read(8) == b"AMQP\x00\x00\x09\x01"
    start = b"\x00\x09" + _long(b"") + _long(b"AMQPLAIN PLAIN") + _long(b"en_US")
    connection.sendall(_method(10, 10, start))
    answers = {
        (10, 11): _method(10, 30, struct.pack(">HIH", 10, 131072, 0)),
        (10, 40): _method(10, 41, b"\x00"),
        (10, 50): _method(10, 51),
    }
    while header := stream.read(7):
        _, channel, size = struct.unpack(">BHI", header)
        asked_for = struct.unpack(">HH", stream.read(size + 1)[:4])
        if asked_for == (20, 10):
            connection.sendall(_method(20, 11, _long(b""), channel))
        elif asked_for == (20, 40):
            connection.sendall(_method(20, 41, channel=channel))
        elif asked_for in answers:
            connection.sendall(answers[asked_for])


def test_amqp_broker_that_opens_a_channel_is_healthy(listen):
    result = check_broker(f"amqp://guest:guest@127.0.0.1:{listen(rabbit).port}//")()
    assert (result.status, result.message) == (HEALTHY, None)


def test_amqp_broker_that_hangs_is_a_timeout(listen):
    url = f"amqp://guest:hunter22@127.0.0.1:{listen().port}//"
    result, seconds = asked(check_broker(url), timeout=0.3)
    assert (result.status, seconds < 0.5) == (UNHEALTHY, True)
    began = time.monotonic()
    result = check_broker(url, timeout=0.3)()
    assert time.monotonic() - began < 1
    assert result.status is UNHEALTHY
    assert "hunter22" not in result.message


def test_amqp_broker_that_refuses_is_unhealthy_at_once_without_the_password(closed_port):
    result, seconds = asked(check_broker(f"amqp://guest:hunter22@127.0.0.1:{closed_port}//"))
    assert (result.status, seconds < 0.5) == (UNHEALTHY, True)
    assert "refused" in result.message
    assert "hunter22" not in result.message


def test_second_of_two_brokers_is_enough(listen, closed_port):
    url = f"amqp://127.0.0.1:{closed_port}//;amqp://127.0.0.1:{listen(rabbit).port}//"
    assert check_broker(url)().status is HEALTHY


@pytest.mark.parametrize(
    "url",
    [
        "not a url hunter22",
        "nonsense://u:hunter22@h//",
        "amqp://u:hunter22@h:port//",
        "amqp://u:hunter22@[::1",
        7,
    ],
)
def test_malformed_url_is_refused_without_its_secrets(url):
    with pytest.raises(ConfigurationError, match="malformed") as caught:
        check_broker(url)
    assert "hunter22" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("url", [None, "redis://cache", "memory://"])
def test_timeout_that_is_none_is_refused_whether_there_is_a_url_or_not(url):
    with pytest.raises(ConfigurationError, match="timeout"):
        check_broker(url, timeout=0)


def test_missing_driver_is_an_error_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "kombu", None)
    with pytest.raises(MissingDriverError, match=r"kombu.*pip install"):
        check_broker("amqp://broker//")
