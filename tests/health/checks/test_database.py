"""check_database against a real PostgreSQL, whole and broken."""

import subprocess
import sys
import time
from pathlib import Path

import psycopg2
import pytest
from support.forks import in_child

from flask_svc_infra import ConfigurationError, MissingDriverError
from flask_svc_infra.health import HealthRegistry, HealthStatus, check_database

HEALTHY, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.UNHEALTHY
KEEP = pytest.mark.parametrize("keep", [False, True], ids=["fresh", "kept"])


def asked(check, timeout=1.0):
    """Ask once through a registry; return the result and the seconds it took."""
    registry = HealthRegistry()
    registry.add("db", check, timeout=timeout)
    began = time.monotonic()
    return registry.check_one("db"), time.monotonic() - began


@pytest.mark.parametrize("url", [None, ""])
def test_no_url_is_unhealthy_not_configured(url):
    result = check_database(url)()
    assert (result.name, result.status) == ("database", UNHEALTHY)
    assert "not configured" in result.message


@KEEP
def test_running_server_is_healthy_again_and_again(postgres, keep):
    check = check_database(postgres.url, keep_connection=keep)
    assert check.name == check.__name__ == "database"
    for _ in range(3):
        result = check()
        assert (result.name, result.status, result.message) == ("database", HEALTHY, None)
        assert result.latency_ms > 0


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+asyncpg", "postgresql+psycopg"]
)
def test_schemes_of_sqlalchemy_and_heroku_are_understood(postgres, scheme):
    assert check_database(postgres.url.replace("postgresql", scheme, 1))().status is HEALTHY


def test_connection_is_closed_after_each_run(postgres):
    with psycopg2.connect(postgres.url) as watcher, watcher.cursor() as cursor:
        check = check_database(postgres.url)
        for _ in range(3):
            check()
        time.sleep(0.1)
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flask-svc-infra-check'"
        )
        assert cursor.fetchone() == (0,)
    watcher.close()


def test_kept_connection_is_one_and_idle(postgres):
    with psycopg2.connect(postgres.url) as watcher, watcher.cursor() as cursor:
        check = check_database(postgres.url, keep_connection=True)
        for _ in range(3):
            assert check().status is HEALTHY
        cursor.execute("SELECT state FROM pg_stat_activity WHERE application_name = 'flask-svc-infra-check'")
        assert cursor.fetchall() == [("idle",)]
    watcher.close()


@KEEP
def test_stopped_server_is_unhealthy_at_the_timeout(postgres, keep):
    check = check_database(postgres.url, keep_connection=keep)
    assert check().status is HEALTHY
    postgres.stop()
    result, seconds = asked(check, timeout=0.3)
    assert result.status is UNHEALTHY
    assert "timed out" in result.message
    assert seconds < 0.5
    postgres.cont()
    assert check().status is HEALTHY


def test_driver_gives_up_by_itself_at_its_own_timeout(postgres):
    postgres.stop()
    check = check_database(postgres.url, timeout=0.2)
    began = time.monotonic()
    result = check()
    assert time.monotonic() - began < 0.4
    assert result.status is UNHEALTHY
    assert "timeout" in result.message


@KEEP
def test_killed_server_is_unhealthy_at_once_and_healthy_after_its_restart(postgres, keep):
    check = check_database(postgres.url, keep_connection=keep)
    assert check().status is HEALTHY
    postgres.kill()
    result, seconds = asked(check)
    assert result.status is UNHEALTHY
    assert seconds < 0.5
    postgres.start()
    assert check().status is HEALTHY


def test_kept_connection_survives_a_restart_unnoticed(postgres):
    check = check_database(postgres.url, keep_connection=True)
    assert check().status is HEALTHY
    postgres.restart()
    assert check().status is HEALTHY


def test_kept_connection_is_left_to_the_parent_after_a_fork(postgres):
    check = check_database(postgres.url, keep_connection=True)
    assert check().status is HEALTHY
    assert in_child(lambda: check().status is HEALTHY)
    with psycopg2.connect(postgres.url) as watcher, watcher.cursor() as cursor:
        assert check().status is HEALTHY
        cursor.execute(
            "SELECT min(backend_start) < now() - interval '0.0001 s', count(*) FROM pg_stat_activity "
            "WHERE application_name = 'flask-svc-infra-check'"
        )
        assert cursor.fetchone() == (True, 1)
    watcher.close()


@KEEP
@pytest.mark.parametrize("fault", ["hang", "reset", "half", "refuse", "cut"])
def test_faulty_network_is_unhealthy_in_time_and_healthy_when_healed(postgres, keep, fault):
    proxy = postgres.proxy()
    check = check_database(proxy.url, keep_connection=keep)
    assert check().status is HEALTHY
    getattr(proxy, fault)()
    result, seconds = asked(check, timeout=0.4)
    if fault == "cut" or (keep and fault == "refuse"):  # a new connection passes; an open one goes on
        assert result.status is HEALTHY
    else:
        assert result.status is UNHEALTHY
    assert seconds < 0.6
    proxy.heal()
    assert check().status is HEALTHY


def test_slow_network_is_healthy_within_the_timeout_and_shows_in_the_latency(postgres):
    proxy = postgres.proxy()
    proxy.delay(0.05)
    result, _ = asked(check_database(proxy.url), timeout=3)
    assert result.status is HEALTHY
    assert result.latency_ms > 50


def test_wrong_password_is_unhealthy_and_shows_nobodys_password(postgres):
    with psycopg2.connect(postgres.url) as owner, owner.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS guarded")
        cursor.execute("CREATE ROLE guarded LOGIN PASSWORD 'right-horse'")
        cursor.execute("SHOW hba_file")
        hba = Path(cursor.fetchone()[0])
    owner.close()
    before = hba.read_text(encoding="utf-8")
    try:
        hba.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + before, encoding="utf-8")
        _reload(postgres)
        url = postgres.url.replace("postgres@", "guarded:{}@", 1)
        assert check_database(url.format("right-horse"))().status is HEALTHY
        result = check_database(url.format("wrong-horse"))()
        assert result.status is UNHEALTHY
        assert "password authentication failed" in result.message
        assert "horse" not in result.message
        result = check_database(url.replace(":{}", ""))()
        assert result.status is UNHEALTHY
        assert "no password supplied" in result.message
    finally:
        hba.write_text(before, encoding="utf-8")
        _reload(postgres)


def test_tls_that_the_server_does_not_offer_is_unhealthy(postgres):
    result = check_database(postgres.url + "?sslmode=require")()
    assert result.status is UNHEALTHY
    assert "SSL" in result.message
    assert (
        check_database(postgres.url.replace("postgresql", "postgresql+asyncpg", 1) + "?ssl=require")().status
        is UNHEALTHY
    )


def test_tls_that_the_server_demands_is_named(postgres):
    with psycopg2.connect(postgres.url) as owner, owner.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS sealed")
        cursor.execute("CREATE ROLE sealed LOGIN")
        cursor.execute("SHOW hba_file")
        hba = Path(cursor.fetchone()[0])
    owner.close()
    before = hba.read_text(encoding="utf-8")
    try:
        hba.write_text("hostnossl all sealed all reject\n" + before, encoding="utf-8")
        _reload(postgres)
        result = check_database(postgres.url.replace("postgres@", "sealed@", 1))()
        assert result.status is UNHEALTHY
        assert "no encryption" in result.message
    finally:
        hba.write_text(before, encoding="utf-8")
        _reload(postgres)


def _reload(postgres):
    with psycopg2.connect(postgres.url) as owner, owner.cursor() as cursor:
        cursor.execute("SELECT pg_reload_conf()")
    owner.close()
    time.sleep(0.1)


def test_refused_connection_is_one_line_without_the_password(closed_port):
    result = check_database(f"postgresql://shop:hunter22@127.0.0.1:{closed_port}/shop")()
    assert result.status is UNHEALTHY
    assert "refused" in result.message
    assert "hunter22" not in result.message
    assert "\n" not in result.message


def test_server_that_speaks_no_postgres_is_unhealthy(listen):
    port = listen(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")).port
    result, seconds = asked(check_database(f"postgresql://127.0.0.1:{port}/x"))
    assert result.status is UNHEALTHY
    assert seconds < 1.2


@pytest.mark.parametrize(
    "url",
    [
        "not a url hunter22",
        "mysql://shop:hunter22@db/shop",
        "postgresql://shop:hunter22@db:port/shop",
        "postgresql://shop:hunter22@db:70000/shop",
        "postgresql://shop:hunter22@db/shop?nonsense=1",
        "postgresql://shop:hunter22@[::1/shop",
        "postgresql:/shop:hunter22@db",
        7,
    ],
)
def test_malformed_url_is_refused_without_its_secrets(url):
    with pytest.raises(ConfigurationError, match="malformed") as caught:
        check_database(url)
    shown = str(caught.value) + repr(caught.value) + str(caught.value.__cause__) + repr(caught.value.__dict__)
    assert "hunter22" not in shown
    assert caught.value.__context__ is None


@pytest.mark.parametrize("timeout", [0, -1, "5", True])
def test_timeout_that_is_none_is_refused(timeout):
    with pytest.raises(ConfigurationError, match="timeout"):
        check_database("postgresql://db/x", timeout=timeout)


@pytest.mark.parametrize("url", [None, "postgresql://db/x"])
@pytest.mark.parametrize(
    "options", [{"keep_connection": "False"}, {"keep_connection": 1}, {"timeout": float("nan")}]
)
def test_option_that_cannot_work_is_refused_whether_there_is_a_url_or_not(url, options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        check_database(url, **options)


def test_missing_driver_is_an_error_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(MissingDriverError, match=r"psycopg2.*pip install") as caught:
        check_database("postgresql://db/x")
    assert caught.value.module == "psycopg2"


def test_driver_is_not_imported_before_a_check_is_made():
    program = (
        "import sys, flask_svc_infra.health as h; h.check_database; h.HealthRegistry; "
        "print(sorted({'psycopg2', 'redis', 'requests', 'flask'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "[]\n"
