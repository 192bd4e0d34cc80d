"""check_redis against a real Valkey, whole and broken."""

import sys
import time

import pytest
from support.forks import in_child

from flask_svc_infra import ConfigurationError, MissingDriverError
from flask_svc_infra.health import HealthRegistry, HealthStatus, check_redis

HEALTHY, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.UNHEALTHY
KEEP = pytest.mark.parametrize("keep", [False, True], ids=["fresh", "kept"])


def asked(check, timeout=1.0):
    registry = HealthRegistry()
    registry.add("cache", check, timeout=timeout)
    began = time.monotonic()
    return registry.check_one("cache"), time.monotonic() - began


@pytest.mark.parametrize("url", [None, ""])
def test_no_url_is_unhealthy_not_configured(url):
    result = check_redis(url)()
    assert (result.name, result.status) == ("redis", UNHEALTHY)
    assert "not configured" in result.message


@KEEP
def test_running_server_is_healthy_again_and_again(valkey, keep):
    check = check_redis(valkey.url, keep_connection=keep)
    assert check.name == "redis"
    for _ in range(3):
        result = check()
        assert (result.name, result.status, result.message) == ("redis", HEALTHY, None)


def connections(valkey):
    import redis

    with redis.Redis.from_url(valkey.url) as watcher:
        return [each for each in watcher.client_list() if each["name"] == "flask-svc-infra-check"]


def test_connection_is_closed_after_each_run_and_kept_when_asked(valkey):
    check_redis(valkey.url)()
    assert connections(valkey) == []
    kept = check_redis(valkey.url, keep_connection=True)
    kept()
    (first,) = connections(valkey)
    kept()
    (second,) = connections(valkey)
    assert first["id"] == second["id"]


@KEEP
def test_stopped_server_is_unhealthy_at_the_timeout(valkey, keep):
    check = check_redis(valkey.url, keep_connection=keep)
    assert check().status is HEALTHY
    valkey.stop()
    result, seconds = asked(check, timeout=0.2)
    assert result.status is UNHEALTHY
    assert "timed out" in result.message
    assert seconds < 0.4
    valkey.cont()
    assert check().status is HEALTHY


def test_driver_gives_up_by_itself_at_its_own_timeout(valkey):
    valkey.stop()
    began = time.monotonic()
    result = check_redis(valkey.url, timeout=0.2)()
    assert time.monotonic() - began < 0.4
    assert result.status is UNHEALTHY
    assert "timeout" in result.message


@KEEP
def test_killed_server_is_unhealthy_at_once_and_healthy_after_its_restart(valkey, keep):
    check = check_redis(valkey.url, keep_connection=keep)
    assert check().status is HEALTHY
    valkey.kill()
    result, seconds = asked(check)
    assert result.status is UNHEALTHY
    assert seconds < 0.5
    valkey.start()
    assert check().status is HEALTHY


def test_kept_connection_survives_a_restart_unnoticed(valkey):
    check = check_redis(valkey.url, keep_connection=True)
    assert check().status is HEALTHY
    valkey.restart()
    assert check().status is HEALTHY


def test_kept_connection_is_not_shared_with_a_forked_child(valkey):
    check = check_redis(valkey.url, keep_connection=True)
    assert check().status is HEALTHY
    (before,) = connections(valkey)
    assert in_child(lambda: check().status is HEALTHY)
    assert check().status is HEALTHY
    (after,) = connections(valkey)
    assert before["id"] == after["id"]


@KEEP
@pytest.mark.parametrize("fault", ["hang", "reset", "half", "refuse", "cut"])
def test_faulty_network_is_unhealthy_in_time_and_healthy_when_healed(valkey, keep, fault):
    proxy = valkey.proxy()
    check = check_redis(proxy.url, keep_connection=keep)
    assert asked(check, timeout=0.4)[0].status is HEALTHY
    getattr(proxy, fault)()
    result, seconds = asked(check, timeout=0.4)
    if fault == "cut" or (keep and fault == "refuse"):  # a new connection passes; an open one goes on
        assert result.status is HEALTHY
    else:
        assert result.status is UNHEALTHY
    assert seconds < 0.6
    proxy.heal()
    assert check().status is HEALTHY


def test_wrong_password_is_unhealthy_and_shows_nobodys_password(private_valkey):
    private_valkey.command("CONFIG SET requirepass right-horse")
    url = private_valkey.url.replace("redis://", "redis://:{}@")
    assert check_redis(url.format("right-horse"))().status is HEALTHY
    for given in (url.format("wrong-horse"), private_valkey.url):
        result = check_redis(given)()
        assert result.status is UNHEALTHY
        assert result.message
        assert "horse" not in result.message


def test_tls_to_a_server_without_it_is_unhealthy_in_time(valkey):
    result, seconds = asked(check_redis(valkey.url.replace("redis://", "rediss://")))
    assert result.status is UNHEALTHY
    assert seconds < 1.2


def test_loading_server_is_unhealthy(listen):
    def talk(connection):
        while connection.recv(4096):
            connection.sendall(b"-LOADING Valkey is loading the dataset in memory\r\n" * 4)

    result, _ = asked(check_redis(f"redis://127.0.0.1:{listen(talk).port}/0"))
    assert result.status is UNHEALTHY


def test_refused_connection_is_unhealthy_without_the_password(closed_port):
    result = check_redis(f"redis://shop:hunter22@127.0.0.1:{closed_port}/0")()
    assert result.status is UNHEALTHY
    assert "refused" in result.message
    assert "hunter22" not in result.message


@pytest.mark.parametrize(
    "url",
    [
        "not a url hunter22",
        "http://shop:hunter22@cache/",
        "redis://shop:hunter22@cache:port/0",
        "redis://shop:hunter22@cache:70000/0",
        "redis://shop:hunter22@cache/zero",
        "redis://shop:hunter22@[::1/0",
        "redis://shop:hunter22@cache/0?socket_timeout=soon",
        "unix://",
        7,
    ],
)
def test_malformed_url_is_refused_without_its_secrets(url):
    with pytest.raises(ConfigurationError, match="malformed") as caught:
        check_redis(url)
    assert "hunter22" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("url", [None, "redis://cache"])
@pytest.mark.parametrize(
    "options", [{"keep_connection": "False"}, {"keep_connection": 1}, {"timeout": float("nan")}]
)
def test_option_that_cannot_work_is_refused_whether_there_is_a_url_or_not(url, options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        check_redis(url, **options)


def test_missing_driver_is_an_error_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingDriverError, match=r"redis.*pip install"):
        check_redis("redis://cache")
