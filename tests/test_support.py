"""The ground the tests stand on holds: servers stop, die and come back, and nothing outlives the run."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import psycopg2
import pytest
import redis
from support.processes import alive, eventually
from support.prometheus import promtool
from support.web import WebServer, request

TESTS = Path(__file__).parent


def _select_one(url):
    connection = psycopg2.connect(url, connect_timeout=2)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return cursor.fetchone()[0]
    finally:
        connection.close()


def _client(url, **options):
    return redis.Redis.from_url(url, socket_timeout=0.3, socket_connect_timeout=0.3, **options)


def test_postgres_comes_back_on_its_port_after_kill_and_restart(postgres):
    assert _select_one(postgres.url) == 1
    postgres.kill()
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        _select_one(postgres.url)
    postgres.restart()
    assert _select_one(postgres.url) == 1


def test_postgres_comes_back_though_a_backend_outlives_its_master(postgres):
    """A backend has a session of its own: one forked while the server is killed keeps the shared memory."""
    connection = psycopg2.connect(postgres.url)
    backend = connection.get_backend_pid()
    os.kill(backend, signal.SIGSTOP)
    os.kill(postgres.pid, signal.SIGKILL)
    eventually(lambda: not alive(postgres.pid))
    postgres.restart()
    connection.close()
    assert not alive(backend)
    assert _select_one(postgres.url) == 1


def test_stopped_postgres_takes_connections_and_answers_none(postgres):
    postgres.stop()
    with socket.create_connection((postgres.host, postgres.port), timeout=1) as connection:
        connection.settimeout(0.2)
        connection.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
        with pytest.raises(TimeoutError):
            connection.recv(1)
    postgres.cont()
    assert _select_one(postgres.url) == 1


def test_shared_servers_are_healed_between_tests(postgres, valkey):
    """The tests around this one leave the servers killed or stopped; this one finds them well and empty."""
    assert _select_one(postgres.url) == 1
    assert valkey.command("DBSIZE") == b":0"
    valkey.command("SET left behind")
    postgres.kill()
    valkey.stop()


def test_shared_servers_are_healed_between_tests_again(postgres, valkey):
    test_shared_servers_are_healed_between_tests(postgres, valkey)


def test_valkey_hangs_when_stopped_and_refuses_when_killed(valkey):
    with _client(valkey.url) as client:
        assert client.ping()
    valkey.stop()
    with _client(valkey.url, retry=None) as client, pytest.raises(redis.TimeoutError):
        client.ping()
    valkey.kill()
    with _client(valkey.url, retry=None) as client, pytest.raises(redis.ConnectionError):
        client.ping()
    valkey.restart()
    assert valkey.command("PING") == b"+PONG"


def test_private_servers_are_not_the_shared_ones(private_valkey, private_postgres, valkey, postgres):
    assert private_valkey.url != valkey.url
    assert private_postgres.url != postgres.url
    assert _select_one(private_postgres.url) == 1


def test_proxy_passes_what_it_is_not_told_to_break(web, fault_proxy):
    proxy = fault_proxy("127.0.0.1", web.port, url=web.url)
    assert request(proxy.url).text == "ok"


def test_proxy_delays_hangs_resets_halves_refuses_and_heals(web, fault_proxy):
    proxy = fault_proxy("127.0.0.1", web.port, url=web.url)
    proxy.delay(30)
    with pytest.raises(TimeoutError):
        request(proxy.url, timeout=0.1)
    proxy.hang()
    with pytest.raises(TimeoutError):
        request(proxy.url, timeout=0.1)
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        request(proxy.url)
    proxy.half()
    web.body = b"x" * 1000
    with pytest.raises(http.client.IncompleteRead):
        request(proxy.url)
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        request(proxy.url)
    proxy.heal()
    assert request(proxy.url).status == 200


def test_proxy_cuts_open_connections_once(valkey):
    proxy = valkey.proxy()
    with socket.create_connection((proxy.host, proxy.port), timeout=2) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(100) == b"+PONG\r\n"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    with _client(proxy.url) as client:
        assert client.ping()


def test_web_server_answers_as_it_is_set(web):
    web.status, web.body, web.headers = 503, b"down", {"Retry-After": "7"}
    reply = request(f"{web.url}/x?y=1", "POST", body="sent")
    assert (reply.status, reply.text, reply.headers["Retry-After"]) == (503, "down", "7")
    assert [(seen.method, seen.path, seen.body) for seen in web.requests] == [("POST", "/x?y=1", b"sent")]


def test_web_server_delays_and_drips(web):
    web.drip = 30
    with pytest.raises(TimeoutError):
        request(web.url, timeout=0.1)
    web.drip, web.delay = 0, 30
    with pytest.raises(TimeoutError):
        request(web.url, timeout=0.1)


def test_gunicorn_serves_from_every_worker_and_stops_clean(gunicorn):
    server = gunicorn(
        source="""
        import os
        from flask import Flask
        app = Flask(__name__)
        app.add_url_rule("/", view_func=lambda: str(os.getpid()))
        """,
        workers=2,
        worker_class="gthread",
        threads=2,
    )
    workers = server.pids()
    assert len(workers) == 2
    assert int(server.wait_ready("/").text) in workers
    assert server.stop() == 0
    assert not any(alive(pid) for pid in [server.master_pid, *workers])


def test_gunicorn_that_cannot_start_shows_its_log(gunicorn):
    with pytest.raises(RuntimeError, match="before it was up") as caught:
        gunicorn(app="no_such_module:app", preload=True)
    assert "no_such_module" in "".join(caught.value.__notes__)


def test_nothing_outlives_a_killed_test_process(tmp_path):
    script = textwrap.dedent("""
        import sys, time
        from support.postgres import PostgresServer
        from support.valkey import ValkeyServer
        postgres, valkey = PostgresServer(), ValkeyServer()
        valkey.stop()
        print(postgres.pid, valkey.pid, flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS), "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not any(alive(pid) for pid in pids), message=f"{pids} outlived the test process")


@pytest.mark.slow
def test_prometheus_scrapes_a_target_and_alertmanager_passes_its_alert_on(
    prometheus, alertmanager, web, tmp_path
):
    web.body, web.headers = b"shop_orders 7\n", {"Content-Type": "text/plain; version=0.0.4"}
    rules = tmp_path / "rules.yml"
    rule = {"alert": "TooManyOrders", "expr": "shop_orders > 5"}
    rules.write_text(json.dumps({"groups": [{"name": "test", "rules": [rule]}]}))
    assert promtool("check", "rules", rules).returncode == 0
    with WebServer() as pager:
        manager = alertmanager(webhook=pager.url)
        server = prometheus(targets=[f"127.0.0.1:{web.port}"], rules=[rules], alertmanager=manager.address)
        eventually(lambda: server.value("shop_orders") == 7, timeout=30)
        eventually(
            lambda: [a["labels"]["alertname"] for a in server.alerts()] == ["TooManyOrders"], timeout=10
        )
        eventually(lambda: any(b"TooManyOrders" in seen.body for seen in pager.requests), timeout=20)
