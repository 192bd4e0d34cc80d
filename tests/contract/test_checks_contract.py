"""The four built-in checks, each against the real thing: PostgreSQL, Valkey, HTTP, TCP."""

from __future__ import annotations

import inspect
import json
import logging
import socket
import threading
import time
from pathlib import Path

import pytest
from contract._parts import HEALTHY, UNHEALTHY, eventually, faster_than, run_python

from flask_svc_infra.errors import ConfigurationError, MissingDriverError
from flask_svc_infra.health import (
    HealthCheckResult,
    HealthRegistry,
    check_database,
    check_redis,
    check_tcp,
    check_url,
)


@pytest.fixture
def refused_port():
    """A port nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def silent():
    """A server that accepts and then says nothing; ``.open`` counts connections not yet given up."""

    class Silent:
        def __init__(self):
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]
            self.accepted = self.gone = 0
            threading.Thread(target=self._accept, daemon=True).start()

        def _accept(self):
            while True:
                try:
                    connection, _ = self.listener.accept()
                except OSError:
                    return
                self.accepted += 1
                threading.Thread(target=self._hold, args=(connection,), daemon=True).start()

        def _hold(self, connection):
            with connection:
                try:
                    while connection.recv(4096):
                        pass
                except OSError:
                    pass
            self.gone += 1

    server = Silent()
    yield server
    server.listener.close()


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "name"),
    [
        (check_database("postgresql://shop@localhost/shop"), "database"),
        (check_database(None), "database"),
        (check_redis("redis://localhost:6379/0"), "redis"),
        (check_url("http://api-service:8080/health"), "api-service"),
        (check_url("https://user:secret99@api.example/health"), "api.example"),
        (check_tcp("rabbitmq", 5672), "rabbitmq:5672"),
    ],
    ids=["database", "database-none", "redis", "url", "url-userinfo", "tcp"],
)
def test_factory_function_has_a_name_before_it_is_registered(check, name):
    assert callable(check)
    assert check.name == name
    assert not inspect.iscoroutinefunction(check)


def test_called_directly_the_result_bears_the_checks_name(refused_port):
    result = check_tcp("127.0.0.1", refused_port)()
    assert isinstance(result, HealthCheckResult)
    assert result.name == f"127.0.0.1:{refused_port}"


def test_registered_name_wins_over_the_factorys(refused_port):
    registry = HealthRegistry()
    registry.add("queue", check_tcp("127.0.0.1", refused_port))
    assert registry.check_one("queue").name == "queue"


# --- not configured, malformed, no driver -------------------------------------------------------------------


@pytest.mark.parametrize("factory", [check_database, check_redis, check_url])
@pytest.mark.parametrize("url", [None, ""])
def test_no_url_is_unhealthy_not_configured(factory, url):
    result = factory(url)()
    assert result.status is UNHEALTHY
    assert "not configured" in result.message


@pytest.mark.parametrize(
    ("factory", "url"),
    [
        (check_database, "mysql://shop:hunter2secret@db/shop"),
        (check_database, "shop:hunter2secret@db/shop"),
        (check_database, "postgresql://shop:hunter2secret@db:notaport/shop"),
        (check_database, "postgresql://shop:hunter2secret@db:99999999/shop"),
        (check_database, "postgresql+nosuchdriver://shop:hunter2secret@db/shop"),
        (check_redis, "http://:hunter2secret@cache:6379"),
        (check_redis, ":hunter2secret@cache:6379"),
        (check_redis, "redis://:hunter2secret@cache:notaport/0"),
        (check_url, "ftp://svc:hunter2secret@api/health"),
        (check_url, "svc:hunter2secret@api/health"),
        (check_url, "http://svc:hunter2secret@api:notaport/health"),
        (check_url, "http:///hunter2secret"),
    ],
)
def test_malformed_url_is_refused_at_creation_without_its_secrets(factory, url):
    with pytest.raises(ConfigurationError) as caught:
        factory(url)
    assert isinstance(caught.value, ValueError)
    error = caught.value
    while error is not None:
        assert "hunter2secret" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize(
    ("module", "make", "extra"),
    [
        ("psycopg2", "check_database('postgresql://u@h/d')", "postgres"),
        ("redis", "check_redis('redis://h')", "redis"),
        ("requests", "check_url('http://h/')", "http"),
    ],
)
def test_missing_driver_is_an_error_with_the_cure_at_creation(module, make, extra):
    out = run_python(f"""
        import sys
        sys.modules["{module}"] = None
        from flask_svc_infra.health import check_database, check_redis, check_url
        from flask_svc_infra.errors import MissingDriverError
        try:
            {make}
        except ImportError as error:
            assert isinstance(error, MissingDriverError)
            print(error)
        else:
            raise SystemExit("no error")
    """)
    assert f"'{module}'" in out
    assert "pip install" in out
    assert extra in out
    assert issubclass(MissingDriverError, ImportError)


def test_tcp_check_needs_no_driver_at_all():
    run_python("""
        import sys
        for name in ("psycopg2", "redis", "requests"):
            sys.modules[name] = None
        from flask_svc_infra.health import check_tcp
        assert check_tcp("127.0.0.1", 1)().status == "unhealthy"
    """)


# --- PostgreSQL ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+asyncpg"])
def test_database_is_healthy_under_every_accepted_scheme(postgres, scheme):
    url = scheme + "://" + postgres.url.split("://", 1)[1]
    result = check_database(url)()
    assert result.status is HEALTHY, result.message
    assert result.name == "database"
    assert result.latency_ms > 0


def test_database_that_is_away_is_unhealthy(refused_port):
    result = check_database(f"postgresql://shop:hunter2secret@127.0.0.1:{refused_port}/shop")()
    assert result.status is UNHEALTHY
    assert result.message
    assert "hunter2secret" not in json.dumps(result.to_dict())


def test_database_host_that_does_not_exist_is_unhealthy():
    assert check_database("postgresql://no-such-host.invalid/test", timeout=3)().status is UNHEALTHY


def test_stopped_database_is_unhealthy_within_the_registered_timeout(postgres):
    registry = HealthRegistry()
    registry.add("database", check_database(postgres.url), timeout=0.5)
    assert registry.check_one("database").status is HEALTHY
    postgres.stop()
    with faster_than(3):
        assert registry.check_one("database").status is UNHEALTHY
    postgres.cont()
    assert eventually(lambda: registry.check_one("database").status is HEALTHY)


def test_wrong_database_name_is_unhealthy_with_the_servers_words(postgres):
    url = postgres.url.rsplit("/", 1)[0] + "/no_such_database"
    result = check_database(url)()
    assert result.status is UNHEALTHY
    assert "no_such_database" in result.message


# --- Redis --------------------------------------------------------------------------------------------------


def test_redis_is_healthy(valkey):
    result = check_redis(valkey.url)()
    assert result.status is HEALTHY, result.message
    assert result.name == "redis"


def test_redis_that_is_away_is_unhealthy(refused_port):
    with faster_than(4):
        result = check_redis(f"redis://:hunter2secret@127.0.0.1:{refused_port}/0")()
    assert result.status is UNHEALTHY
    assert "hunter2secret" not in json.dumps(result.to_dict())


def test_stopped_redis_is_unhealthy_within_the_registered_timeout_and_recovers(valkey):
    registry = HealthRegistry()
    registry.add("cache", check_redis(valkey.url), timeout=0.4)
    assert registry.check_one("cache").status is HEALTHY
    valkey.stop()
    with faster_than(3):
        assert registry.check_one("cache").status is UNHEALTHY
    valkey.cont()
    assert eventually(lambda: registry.check_one("cache").status is HEALTHY)


def test_killed_and_restarted_redis_is_seen_both_times(valkey):
    check = check_redis(valkey.url)
    valkey.kill()
    assert check().status is UNHEALTHY
    valkey.restart()
    assert eventually(lambda: check().status is HEALTHY)


def test_server_that_is_no_redis_is_unhealthy(web):
    result = check_redis(f"redis://127.0.0.1:{web.port}/0", timeout=1.0)()
    assert result.status is UNHEALTHY


# --- HTTP ---------------------------------------------------------------------------------------------------


def test_url_is_healthy_at_the_expected_status(web):
    result = check_url(web.url + "/health")()
    assert result.status is HEALTHY
    assert result.details == {"status_code": 200}
    assert web.requests[0].method == "GET"
    assert web.requests[0].path == "/health"


def test_url_with_another_status_is_unhealthy_and_says_both(web):
    web.status = 503
    result = check_url(web.url, expected_status=200)()
    assert result.status is UNHEALTHY
    assert "Expected status 200" in result.message
    assert "503" in result.message
    assert result.details == {"status_code": 503}


def test_url_may_expect_another_status(web):
    web.status = 204
    assert check_url(web.url, expected_status=204)().status is HEALTHY
    assert check_url(web.url)().status is UNHEALTHY


def test_url_check_sends_method_and_headers(web):
    check_url(web.url, method="HEAD", headers={"Authorization": "Bearer token99"})()
    assert web.requests[0].method == "HEAD"
    assert web.requests[0].headers["Authorization"] == "Bearer token99"


def test_redirect_is_judged_by_its_own_status(web):
    web.status, web.headers = 302, {"Location": "http://127.0.0.1:1/elsewhere"}
    assert check_url(web.url, expected_status=302)().status is HEALTHY
    assert len(web.requests) == 1


def test_url_that_refuses_is_unhealthy(refused_port):
    result = check_url(f"http://127.0.0.1:{refused_port}/health")()
    assert result.status is UNHEALTHY
    assert result.message


def test_slow_url_runs_into_the_explicit_timeout(web):
    web.delay = 8.0
    with faster_than(3):
        result = check_url(web.url, timeout=0.2)()
    assert result.status is UNHEALTHY
    assert "timeout" in result.message.lower()


def test_explicit_timeout_is_the_drivers_and_leaves_the_registered_one_alone(web):
    web.delay = 8.0
    registry = HealthRegistry()
    registry.add("api", check_url(web.url, timeout=0.2), timeout=8.0)
    with faster_than(3):
        assert registry.check_one("api").status is UNHEALTHY


def test_registered_timeout_bounds_the_run_whatever_the_driver_was_told(silent):
    registry = HealthRegistry()
    registry.add("api", check_url(f"http://127.0.0.1:{silent.port}/", timeout=8.0), timeout=0.2)
    with faster_than(3):
        assert registry.check_one("api").status is UNHEALTHY


@pytest.mark.parametrize(
    "make",
    [
        lambda port: check_url(f"http://127.0.0.1:{port}/"),
        lambda port: check_redis(f"redis://127.0.0.1:{port}/0"),
        lambda port: check_database(f"postgresql://u@127.0.0.1:{port}/d"),
    ],
    ids=["url", "redis", "database"],
)
def test_registered_timeout_reaches_the_driver(silent, make):
    """The driver itself gives up about then: its connection is gone, not merely no longer waited for."""
    registry = HealthRegistry()
    registry.add("dep", make(silent.port), timeout=1.0)
    with faster_than(3):
        assert registry.check_one("dep").status is UNHEALTHY
    assert silent.accepted >= 1
    assert eventually(lambda: silent.gone == silent.accepted, within=2.5)


# --- TCP ----------------------------------------------------------------------------------------------------


def test_open_port_is_healthy(web):
    result = check_tcp("127.0.0.1", web.port)()
    assert result.status is HEALTHY
    assert result.name == f"127.0.0.1:{web.port}"


def test_closed_port_is_unhealthy(refused_port):
    assert check_tcp("127.0.0.1", refused_port)().status is UNHEALTHY


def test_unknown_host_is_unhealthy():
    assert check_tcp("no-such-host.invalid", 5672, timeout=3)().status is UNHEALTHY


def test_tcp_connect_that_hangs_runs_into_its_timeout():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):  # fill the accept queue: further SYNs are dropped
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        time.sleep(0.05)
        with faster_than(3):
            result = check_tcp("127.0.0.1", port, timeout=0.2)()
        for filler in fillers:
            filler.close()
    assert result.status is UNHEALTHY
    assert "timeout" in result.message.lower()


def test_tcp_check_closes_its_connection(silent):
    for _ in range(5):
        assert check_tcp("127.0.0.1", silent.port)().status is HEALTHY
    assert eventually(lambda: silent.gone == silent.accepted == 5)


# --- the process --------------------------------------------------------------------------------------------


def test_checks_leak_no_file_descriptors(postgres, valkey, web):
    checks = [
        check_database(postgres.url),
        check_redis(valkey.url),
        check_url(web.url),
        check_tcp("127.0.0.1", web.port),
    ]
    for check in checks:
        check()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        for check in checks:
            assert check().status is HEALTHY
    assert eventually(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before + 2)


def test_no_secret_is_logged_by_a_failing_check(refused_port, caplog):
    registry = HealthRegistry()
    registry.add("db", check_database(f"postgresql://shop:hunter2secret@127.0.0.1:{refused_port}/shop"))
    registry.add("cache", check_redis(f"redis://:hunter2secret@127.0.0.1:{refused_port}/0"))
    registry.add("api", check_url(f"http://svc:hunter2secret@127.0.0.1:{refused_port}/?token=hunter2secret"))
    with caplog.at_level(logging.DEBUG):
        result = registry.check_all()
    assert result.status is UNHEALTHY
    assert "hunter2secret" not in caplog.text
    assert "hunter2secret" not in json.dumps(result.to_dict())
    assert "hunter2secret" not in repr(result)
    assert "hunter2secret" not in repr(registry.checks)


@pytest.mark.slow
def test_outside_a_registry_a_check_gives_up_after_five_seconds(silent):
    """All three wait at the same time, so this takes five seconds and not fifteen."""
    checks = [
        check_url(f"http://127.0.0.1:{silent.port}/"),
        check_redis(f"redis://127.0.0.1:{silent.port}/0"),
        check_database(f"postgresql://u@127.0.0.1:{silent.port}/d"),
    ]
    began, took = time.monotonic(), []

    def run(check):
        assert check().status is UNHEALTHY
        took.append(time.monotonic() - began)

    threads = [threading.Thread(target=run, args=(check,)) for check in checks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert len(took) == 3
    assert all(4.5 < seconds < 7 for seconds in took), took
