"""check_memcached against a real memcached, and against what is none."""

import time
from collections.abc import Iterator

import pytest
from support.processes import eventually, finish, free_port, freeze, spawn, started, thaw
from support.prometheus import binary

from flask_svc_infra import ConfigurationError
from flask_svc_infra.health import HealthStatus, check_memcached

HEALTHY, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.UNHEALTHY


@pytest.fixture
def memcached(tmp_path) -> Iterator[tuple[int, object]]:
    port, log = free_port(), tmp_path / "log"
    process = spawn(
        [binary("memcached"), "-l", "127.0.0.1", "-p", str(port), "-u", "root", "-m", "8"], log=log
    )
    with started(process, log):
        eventually(lambda: check_memcached("127.0.0.1", port)().status is HEALTHY)
    yield port, process
    finish(process)


def test_running_server_is_healthy_and_tells_its_version(memcached):
    port, _ = memcached
    check = check_memcached("127.0.0.1", port)
    result = check()
    assert (check.name, result.name, result.status) == ("memcached", "memcached", HEALTHY)
    assert result.details["version"][0].isdigit()


def test_stopped_server_is_a_timeout_and_killed_one_refuses(memcached):
    port, process = memcached
    check = check_memcached("127.0.0.1", port, timeout=0.2)
    freeze(process)
    began = time.monotonic()
    result = check()
    assert time.monotonic() - began < 0.4
    assert (result.status, "timeout" in result.message) == (UNHEALTHY, True)
    thaw(process)
    assert check().status is HEALTHY
    finish(process)
    assert "refused" in check().message


def test_server_of_another_kind_is_unhealthy(valkey):
    result = check_memcached("127.0.0.1", valkey.port)()
    assert result.status is UNHEALTHY
    assert "Expected VERSION" in result.message


def test_answer_that_drips_does_not_pass_the_timeout(listen):
    def drip(connection):
        while True:
            connection.sendall(b"V")
            time.sleep(0.05)

    began = time.monotonic()
    result = check_memcached("127.0.0.1", listen(drip).port, timeout=0.3)()
    assert time.monotonic() - began < 0.5
    assert "timeout" in result.message


def test_connection_closed_before_the_answer_is_unhealthy(listen):
    result = check_memcached("127.0.0.1", listen(lambda connection: connection.close()).port)()
    assert result.status is UNHEALTHY


def test_address_that_is_none_is_refused():
    for host, port in (("", 11211), ("h", 0)):
        with pytest.raises(ConfigurationError, match="check_memcached"):
            check_memcached(host, port)
