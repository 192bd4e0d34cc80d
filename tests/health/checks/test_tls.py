"""TLS required, refused and distrusted: real certificates, real servers."""

import socket
import ssl
import threading
import time

import pytest
import trustme

from flask_svc_infra.health import HealthRegistry, HealthStatus, check_database, check_redis, check_url

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
HEALTHY, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.UNHEALTHY


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path_factory.mktemp("ca") / "ca.pem")
    authority.path = next(tmp_path_factory.getbasetemp().glob("ca*/ca.pem"))
    return authority


@pytest.fixture
def tls_front(authority):
    """Make a TLS port that passes what it deciphers on to a plain one."""
    listeners = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def make(backend, *, asks_first=False):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=serve, args=(listener, backend, asks_first), daemon=True).start()
        return listener.getsockname()[1]

    def serve(listener, backend, asks_first):
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=connect, args=(plain, backend, asks_first), daemon=True).start()

    def connect(plain, backend, asks_first):
        try:
            if asks_first:  # PostgreSQL's clients ask whether TLS is spoken here
                if plain.recv(8) != SSL_REQUEST:
                    plain.close()
                    return
                plain.sendall(b"S")
            with context.wrap_socket(plain, server_side=True) as client:
                with socket.create_connection(("127.0.0.1", backend)) as server:
                    threading.Thread(target=pump, args=(server, client), daemon=True).start()
                    pump(client, server)
        except OSError:
            plain.close()  # the client does not speak TLS, or does not trust us

    def pump(source, sink):
        try:
            while chunk := source.recv(65536):
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_RDWR)
        except (OSError, ValueError):
            pass  # one side left

    yield make
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def asked(check):
    registry = HealthRegistry()
    registry.add("x", check, timeout=2)
    began = time.monotonic()
    result = registry.check_one("x")
    assert time.monotonic() - began < 1.5
    return result


def test_redis_behind_tls(valkey, tls_front, authority):
    port = tls_front(valkey.port)
    assert asked(check_redis(f"redis://127.0.0.1:{port}/0")).status is UNHEALTHY
    distrusted = asked(check_redis(f"rediss://127.0.0.1:{port}/0"))
    assert distrusted.status is UNHEALTHY
    assert "certificate" in distrusted.message.casefold()
    assert asked(check_redis(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.path}")).status is HEALTHY


def test_url_behind_tls(web, tls_front, authority, monkeypatch):
    port = tls_front(web.port)
    assert asked(check_url(f"http://127.0.0.1:{port}/")).status is UNHEALTHY
    distrusted = asked(check_url(f"https://127.0.0.1:{port}/"))
    assert distrusted.status is UNHEALTHY
    assert "certificate" in distrusted.message.casefold()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.path))
    assert asked(check_url(f"https://127.0.0.1:{port}/")).status is HEALTHY


def test_postgres_behind_tls(postgres, tls_front, authority):
    url = postgres.url.replace(f":{postgres.port}/", f":{tls_front(postgres.port, asks_first=True)}/")
    assert asked(check_database(url + "?sslmode=disable")).status is UNHEALTHY
    assert asked(check_database(url + "?sslmode=require")).status is HEALTHY
    assert asked(check_database(f"{url}?sslmode=verify-full&sslrootcert={authority.path}")).status is HEALTHY
    stranger = authority.path.with_name("stranger.pem")
    trustme.CA().cert_pem.write_to_path(stranger)
    distrusted = asked(check_database(f"{url}?sslmode=verify-full&sslrootcert={stranger}"))
    assert distrusted.status is UNHEALTHY
    assert "certificate" in distrusted.message
