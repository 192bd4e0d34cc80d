"""``rediss://``: a store behind TLS does all that one in the clear does, its bell included."""

from __future__ import annotations

import gc
import time

import pytest
from state.conftest import open_
from support.fleet import Worker
from support.processes import eventually
from support.tls import Certificates, TlsFront

from flask_svc_infra.state import redis_urls, reporter
from flask_svc_infra.state.store import StoreError
from flask_svc_infra.state.urls import open_store

pytestmark = [
    pytest.mark.needs("redis", "trustme"),
    # CPython leaves a socket that is reset between its connecting and its handshake to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:.*ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning",
        "ignore:unclosed <ssl.SSLSocket:ResourceWarning",
    ),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def front(valkey, certificates):
    with TlsFront(valkey.port, certificates) as front:
        yield front


@pytest.fixture
def url(front, certificates):
    # Patient: what a busy machine makes slow must not look like a ring that was not heard.
    return f"rediss://127.0.0.1:{front.port}/0?ssl_ca_certs={certificates.ca}&socket_timeout=5"


@pytest.fixture
def begin(front):
    made = []

    def make(url, **options):
        worker = Worker(open_store(url))
        made.append(worker)
        worker.breaker("payments", **(options or {"failure_threshold": 2, "recovery_timeout": 60}))
        return worker

    yield make
    for worker in made:
        worker.reporter.stop()
    gc.collect()


def up(*workers):
    eventually(lambda: all(worker.reporter.up and worker.reporter._belled for worker in workers), timeout=5)


def test_a_circuit_is_one_over_tls(begin, url):
    one, other = begin(url), begin(url)
    up(one, other)
    one.fail(times=2)
    eventually(lambda: other.state() == "open", timeout=1.5)
    other.breakers["payments"].reset()
    eventually(lambda: one.state() == "closed", timeout=1.5)


def test_the_bell_rings_over_tls_and_no_ring_is_held_back(monkeypatch, valkey, begin, url):
    """What TLS has decrypted and nobody has read makes no socket readable; here no poll comes to help."""
    monkeypatch.setattr(reporter, "POLL", (60.0, 61.0))
    worker = begin(url)
    names = [f"c{number}" for number in range(150)]
    for name in names:
        worker.breaker(name)
    up(worker)
    time.sleep(0.1)
    other, took = open_store(valkey.url + "?socket_timeout=5"), []
    for name in names[:100]:
        began = time.monotonic()
        open_(other, name, recovery=60_000)
        eventually(lambda n=name: worker.state(n) == "open", timeout=2, interval=0.0005)
        took.append(time.monotonic() - began)
    for name in names[100:]:  # a burst: many rings in one record
        open_(other, name, recovery=60_000)
    eventually(lambda: {worker.state(name) for name in names} == {"open"}, timeout=2)
    other.close()
    assert sorted(took)[50] < 0.05


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("ssl_ca_certs={c.other_ca}", "CERTIFICATE_VERIFY_FAILED"),
        ("", "CERTIFICATE_VERIFY_FAILED"),
        ("ssl_ca_certs=/nowhere/ca.pem", "'/nowhere/ca.pem', which 'ssl_ca_certs' names"),
        (
            "ssl_ca_certs={c.ca}&ssl_certfile={c.ca}&ssl_keyfile=/nowhere/k",
            "'/nowhere/k', which 'ssl_keyfile'",
        ),
    ],
    ids=["of another authority", "of an authority unknown here", "no authority's file", "no key's file"],
)
@pytest.mark.usefixtures("quick_polls")
def test_a_certificate_that_cannot_be_trusted_is_a_store_that_is_down(begin, front, said, options, reason):
    certificates = front.certificates
    options = options.format(c=certificates)
    worker = begin(f"rediss://ann:hunter2secret@127.0.0.1:{front.port}/0?{options}")
    eventually(lambda: worker.reporter.met, timeout=3)
    worker.fail(times=2)
    assert worker.state() == "open"  # it decides for itself
    time.sleep(0.5)
    assert not worker.reporter.up
    (line,) = said()
    assert reason in line
    assert "hunter2secret" not in line


def test_a_certificate_may_go_unchecked(begin, front):
    up(begin(f"rediss://127.0.0.1:{front.port}/0?ssl_cert_reqs=none"))


def test_a_host_name_may_be_checked(front, certificates):
    good = open_store(
        f"rediss://localhost:{front.port}/0?ssl_ca_certs={certificates.ca}&ssl_check_hostname=true"
    )
    assert good.act("journal", {"limit": 1}) == {"entries": {}}
    good.close()
    bad = open_store(
        f"rediss://127.0.0.2:{front.port}/0?ssl_ca_certs={certificates.ca}&ssl_check_hostname=true"
    )
    with TlsFront(front.target, certificates, host="127.0.0.2", listen=front.port):
        with pytest.raises(StoreError, match=r"mismatch|not valid for"):
            bad.act("journal", {"limit": 1})


def test_a_server_may_ask_for_a_clients_certificate(valkey, certificates, begin):
    with TlsFront(valkey.port, certificates, ask_client=True) as strict:
        url = f"rediss://127.0.0.1:{strict.port}/0?ssl_ca_certs={certificates.ca}"
        stranger = open_store(url)
        with pytest.raises(StoreError):
            stranger.act("journal", {"limit": 1})
        known = f"{url}&ssl_certfile={certificates.client_certificate}&ssl_keyfile={certificates.client_key}"
        worker = begin(known)
        up(worker)
        open_(store := open_store(known), recovery=60_000)
        store.close()
        eventually(lambda: worker.state() == "open", timeout=1.5)


def test_a_slow_handshake_needs_the_urls_leave(monkeypatch, begin, front, certificates):
    """Both halves of the answer's time: redis-py holds a handshake to ``socket_timeout``."""
    monkeypatch.setattr(redis_urls, "TIMEOUT", 0.05)
    proxy = front.proxy()
    url = f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={certificates.ca}"
    proxy.delay(0.06)
    hasty, misled = open_store(url), open_store(url + "&socket_connect_timeout=2")
    for store in (hasty, misled):
        for _ in range(2):
            with pytest.raises(StoreError, match=r"timed out|Timeout"):
                store.act("journal", {"limit": 1})
        store.close()
    patient = begin(url + "&socket_timeout=0.4")
    eventually(lambda: patient.reporter.up, timeout=3)
    proxy.heal()
    back = begin(url)  # one that was too hasty comes by itself when the way is short again
    eventually(lambda: back.reporter.up, timeout=3)


@pytest.mark.parametrize("fault", ["half", "hang", "refuse", "reset"])
@pytest.mark.usefixtures("quick_polls")
def test_trouble_within_tls_is_one_line_each_way(begin, valkey, front, said, fault):
    proxy = front.proxy()
    worker = begin(f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={front.certificates.ca}")
    up(worker)
    getattr(proxy, fault)()
    proxy.cut()
    eventually(lambda: not worker.reporter.up, timeout=3)
    open_(other := open_store(valkey.url + "?socket_timeout=5"), recovery=60_000)
    other.close()
    assert worker.state() == "closed"
    proxy.heal()
    eventually(lambda: worker.state() == "open", timeout=3)
    lost, found = said()
    assert "\n" not in lost
    assert "does not answer" in lost
    assert "answers again" in found
