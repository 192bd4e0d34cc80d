"""Every code block of the original's operations, resilience and observability pages, in Flask, runs."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import os
import re
import time
from decimal import Decimal
from pathlib import Path

import pytest
from contract._parts import Boom, eventually, faster_than
from flask import Flask, request

from flask_svc_infra.config import Settings


class Remote:
    """A dependency that works until told otherwise."""

    def __init__(self, answer="answer"):
        self.answer, self.up, self.calls = answer, True, 0

    def call(self, *args, **kwargs):
        self.calls += 1
        if not self.up:
            raise ConnectionError("remote is down")
        return self.answer

    get = charge = search = reserve = fetch = call


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("MAINTENANCE_MODE", "CIRCUIT_OPEN", "SQL_URL", "REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


# --- ops.md -------------------------------------------------------------------------------------------------


def test_ops_quick_start(postgres, valkey, monkeypatch):
    monkeypatch.setenv("SQL_URL", postgres.url)
    monkeypatch.setenv("REDIS_URL", valkey.url)

    from flask_svc_infra.health import HealthRegistry, add_health_routes, check_database, check_redis
    from flask_svc_infra.ops import add_maintenance_mode, add_probes

    app = Flask(__name__)
    add_probes(app)
    registry = HealthRegistry()
    registry.add("database", check_database(os.getenv("SQL_URL")), critical=True)
    registry.add("redis", check_redis(os.getenv("REDIS_URL")), critical=False)
    add_health_routes(app, registry)
    add_maintenance_mode(app)

    client = app.test_client()
    response = client.get("/_health/ready")
    assert (response.status_code, response.json["status"]) == (200, "healthy")
    assert [c["name"] for c in response.json["checks"]] == ["database", "redis"]
    assert client.get("/_ops/ready").json == {"status": "ok"}


def test_ops_quick_start_with_nothing_configured():
    from flask_svc_infra.health import HealthRegistry, add_health_routes, check_database, check_redis

    app = Flask(__name__)
    registry = HealthRegistry()
    registry.add("database", check_database(os.getenv("SQL_URL")), critical=True)
    registry.add("redis", check_redis(os.getenv("REDIS_URL")), critical=False)
    add_health_routes(app, registry)
    response = app.test_client().get("/_health/ready")
    assert response.status_code == 503
    assert all("not configured" in c["message"] for c in response.json["checks"])


def test_ops_detailed_health_checks(postgres, valkey, web):
    from flask_svc_infra.health import (
        HealthRegistry,
        add_health_routes,
        check_database,
        check_redis,
        check_tcp,
        check_url,
    )

    app = Flask(__name__)
    registry = HealthRegistry()
    registry.add("database", check_database(postgres.url), critical=True)
    registry.add("cache", check_redis(valkey.url), critical=False)
    registry.add("payment-api", check_url(web.url + "/v1/health"))
    registry.add("queue", check_tcp("127.0.0.1", web.port))
    add_health_routes(app, registry)
    client = app.test_client()
    assert client.get("/_health/live").status_code == 200
    assert client.get("/_health/ready").json["status"] == "healthy"
    assert client.get("/_health/startup").json == {"status": "ok"}
    assert client.get("/_health/checks/payment-api").status_code == 200


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [("green", "healthy"), ("yellow", "degraded"), ("red", "unhealthy"), (None, "unhealthy")],
)
def test_ops_custom_health_check(web, cluster, expected):
    import requests

    from flask_svc_infra.health import HealthCheckResult, HealthRegistry, HealthStatus

    registry = HealthRegistry()
    web.body = f'{{"status": "{cluster}"}}'.encode() if cluster else b"no json"

    def check_elasticsearch() -> HealthCheckResult:
        try:
            resp = requests.get(f"{web.url}/_cluster/health", timeout=5.0)
            data = resp.json()
            latency = resp.elapsed.total_seconds() * 1000
            if data.get("status") == "green":
                return HealthCheckResult(
                    name="elasticsearch",
                    status=HealthStatus.HEALTHY,
                    latency_ms=latency,
                    details={"cluster_status": data["status"]},
                )
            if data.get("status") == "yellow":
                return HealthCheckResult(
                    name="elasticsearch",
                    status=HealthStatus.DEGRADED,
                    latency_ms=latency,
                    message="replicas missing",
                )
            return HealthCheckResult(
                name="elasticsearch",
                status=HealthStatus.UNHEALTHY,
                latency_ms=latency,
                message=f"cluster is {data.get('status')}",
            )
        except Exception as e:
            return HealthCheckResult(
                name="elasticsearch", status=HealthStatus.UNHEALTHY, latency_ms=0, message=str(e)
            )

    registry.add("elasticsearch", check_elasticsearch)
    assert registry.check_one("elasticsearch").status == expected


def test_ops_startup_dependency_waiting(postgres, valkey):
    from flask_svc_infra.health import add_startup_probe, check_database, check_redis

    with faster_than(5):
        add_startup_probe(
            Flask(__name__),
            checks=[check_database(postgres.url), check_redis(valkey.url)],
            timeout=60.0,
            interval=2.0,
        )


def test_ops_waiting_with_the_registry():
    from flask_svc_infra.health import HealthRegistry, HealthStatus

    registry = HealthRegistry()
    registry.add("db", lambda: False)

    def wait_for_deps():
        if not registry.wait_until_healthy(timeout=0.05, interval=0.02):
            result = registry.check_all()
            failed = [c.name for c in result.checks if c.status != HealthStatus.HEALTHY]
            raise RuntimeError(f"Dependencies not ready: {failed}")

    with pytest.raises(RuntimeError, match=r"Dependencies not ready: \['db'\]"):
        wait_for_deps()


def test_ops_circuit_breaker_as_a_context_manager():
    from flask_svc_infra.resilience import CircuitBreaker, CircuitBreakerError

    breaker = CircuitBreaker(
        name="payment-api",
        failure_threshold=5,
        recovery_timeout=30.0,
        half_open_max_calls=3,
        success_threshold=2,
    )
    bank, later, reasons = Remote("charged"), [], []

    def pay(amount: Decimal):
        try:
            with breaker:
                return bank.charge(amount)
        except CircuitBreakerError as e:
            reasons.append(f"paying later: {e}")
            later.append(amount)
            return "later"

    assert pay(Decimal(1)) == "charged"
    bank.up = False
    for _ in range(5):
        with pytest.raises(ConnectionError):
            pay(Decimal(2))
    assert pay(Decimal(3)) == "later"
    assert later == [Decimal(3)]
    assert reasons[0].startswith("paying later: circuit 'payment-api' is open; retry after ")


def test_ops_decorator_and_statistics():
    from flask_svc_infra.resilience import CircuitBreaker

    breaker, remote = CircuitBreaker("x"), Remote()

    @breaker.protect
    def ask():
        return remote.call()

    assert ask() == "answer"
    s = breaker.stats
    assert (s.total_calls, s.successful_calls, s.failed_calls, s.rejected_calls, s.state_changes) == (
        1,
        1,
        0,
        0,
        0,
    )


def test_ops_environment_based_circuit(monkeypatch):
    from flask_svc_infra.ops import circuit_breaker_dependency

    app, external_api = Flask(__name__), Remote({"data": 1})

    @app.get("/api/data")
    @circuit_breaker_dependency()
    def get_data():
        return external_api.fetch()

    client = app.test_client()
    assert client.get("/api/data").json == {"data": 1}
    monkeypatch.setenv("CIRCUIT_OPEN", "1")
    assert client.get("/api/data").status_code == 503
    assert external_api.calls == 1


def test_ops_per_service_breakers():
    from flask_svc_infra.resilience import CircuitBreaker, CircuitBreakerError

    payment_breaker = CircuitBreaker(name="payment", failure_threshold=3)
    inventory_breaker = CircuitBreaker(name="inventory", failure_threshold=5)
    stripe, inventory_service = Remote(), Remote("reserved")
    stripe.up = False

    @payment_breaker.protect
    def charge_payment(amount):
        return stripe.charge(amount=amount)

    @inventory_breaker.protect
    def reserve_inventory(items):
        return inventory_service.reserve(items)

    for _ in range(3):
        with pytest.raises(ConnectionError):
            charge_payment(1)
    with pytest.raises(CircuitBreakerError):
        charge_payment(1)
    assert reserve_inventory([1]) == "reserved"


def test_ops_maintenance_mode_and_its_programmatic_control():
    from flask_svc_infra.ops import add_maintenance_mode

    app = Flask(__name__)
    app.add_url_rule("/orders", "orders", lambda: "ordered", methods=["POST"])
    add_maintenance_mode(app, env_var="MAINTENANCE_MODE", exempt_prefixes=("/_health", "/_ops"))
    client = app.test_client()
    try:
        os.environ["MAINTENANCE_MODE"] = "1"
        assert client.post("/orders").json == {"detail": "maintenance"}
        os.environ["MAINTENANCE_MODE"] = ""
        assert client.post("/orders").get_data() == b"ordered"
    finally:
        os.environ.pop("MAINTENANCE_MODE", None)


def test_ops_route_classification():
    from flask_svc_infra.obs import add_observability

    app = Flask(__name__)
    app.add_url_rule("/admin/users", "users", lambda: "users")

    def route_classifier(path: str, method: str) -> str:
        if path.startswith("/admin"):
            return "admin"
        if path.startswith("/api/internal"):
            return "internal"
        if path.startswith("/_"):
            return "system"
        return "public"

    add_observability(app, route_classifier=route_classifier)
    client = app.test_client()
    client.get("/admin/users")
    text = client.get("/metrics").get_data(as_text=True)
    assert 'http_requests_total{method="GET",path="/admin/users|admin",status="200"} 1.0' in text


def test_ops_graceful_degradation():
    from flask_svc_infra.resilience import CircuitBreaker, CircuitBreakerError

    ml_breaker, ml_service = CircuitBreaker("ml", failure_threshold=1), Remote("personal")

    def get_recommendations(user_id: str):
        try:
            with ml_breaker:
                return ml_service.get(user_id)
        except CircuitBreakerError:
            return "popular"

    assert get_recommendations("ann") == "personal"
    ml_service.up = False
    with pytest.raises(ConnectionError):
        get_recommendations("ann")
    assert get_recommendations("ann") == "popular"


def test_ops_fallback_responses():
    from flask_svc_infra.resilience import CircuitBreaker, CircuitBreakerError

    app, elasticsearch = Flask(__name__), Remote({"results": ["hit"]})
    search_breaker = CircuitBreaker(name="search", failure_threshold=3)

    @app.get("/search")
    def search():
        try:
            with search_breaker:
                return elasticsearch.search(request.args["q"])
        except CircuitBreakerError:
            return {"results": ["from the database"]}
        except Exception:
            return {"results": [], "fallback": True}

    client = app.test_client()
    assert client.get("/search?q=x").json == {"results": ["hit"]}
    elasticsearch.up = False
    for _ in range(3):
        assert client.get("/search?q=x").json == {"results": [], "fallback": True}
    assert client.get("/search?q=x").json == {"results": ["from the database"]}


def test_ops_dependency_isolation():
    from flask_svc_infra.resilience import CircuitBreaker, CircuitBreakerError

    app, tracked = Flask(__name__), Remote()
    tracked.up = False
    analytics_breaker = CircuitBreaker(name="analytics", failure_threshold=2, recovery_timeout=60.0)

    @app.post("/order")
    def create_order():
        result = {"order": 1}
        try:
            with analytics_breaker:
                tracked.call(result)
        except CircuitBreakerError:
            pass  # an order without statistics is an order
        except ConnectionError:
            result["tracked"] = False
        return result

    client = app.test_client()
    assert client.post("/order").json == {"order": 1, "tracked": False}
    assert client.post("/order").json == {"order": 1, "tracked": False}
    assert client.post("/order").json == {"order": 1}


def test_ops_troubleshooting_a_stuck_circuit():
    from flask_svc_infra.resilience import CircuitBreaker

    breaker = CircuitBreaker("x", failure_threshold=1)
    with pytest.raises(Boom), breaker:
        raise Boom
    assert f"{breaker.state}" == "open"
    assert 29 < breaker._remaining_timeout() <= 30
    assert "failed_calls=1" in f"{breaker.stats}"
    breaker.reset()
    assert f"{breaker.state}" == "closed"


# --- resilience.md ------------------------------------------------------------------------------------------


def test_resilience_quick_start():
    from flask_svc_infra.resilience import CircuitBreaker, with_retry

    external_api, payment_service = Remote("data"), Remote("charged")

    @with_retry(max_attempts=3, base_delay=0.1)
    async def fetch_data():
        return external_api.get("/data")

    breaker = CircuitBreaker("payment-service", failure_threshold=5)

    async def pay():
        async with breaker:
            return payment_service.charge(1)

    assert asyncio.run(fetch_data()) == "data"
    assert asyncio.run(pay()) == "charged"


def test_resilience_retry_callback():
    from flask_svc_infra.resilience import with_retry

    told, api = [], Remote("data")
    api.up = False

    def on_retry(attempt: int, exc: Exception) -> None:
        told.append(f"{attempt}: {exc}")
        api.up = attempt >= 2

    @with_retry(max_attempts=3, base_delay=0.001, on_retry=on_retry)
    async def fetch():
        return api.get("/data")

    assert asyncio.run(fetch()) == "data"
    assert told == ["1: remote is down", "2: remote is down"]


def test_resilience_sync_retry(web):
    import requests

    from flask_svc_infra.resilience import retry_sync

    web.body = b'{"a": 1}'

    @retry_sync(max_attempts=3, base_delay=0.5)
    def fetch_config():
        return requests.get(web.url + "/config", timeout=5).json()

    assert fetch_config() == {"a": 1}


def test_resilience_checking_the_state():
    from flask_svc_infra.resilience import CircuitBreaker, CircuitState

    breaker, api = CircuitBreaker("api", failure_threshold=1), Remote("live")

    def fetch():
        if breaker.state == CircuitState.OPEN:
            return "cached"
        with breaker:
            return api.get("/data")

    assert fetch() == "live"
    api.up = False
    with pytest.raises(ConnectionError):
        fetch()
    assert fetch() == "cached"


def test_resilience_handling_the_error():
    from flask_svc_infra.resilience import CircuitBreaker, CircuitBreakerError

    breaker, api, notes = CircuitBreaker("api", failure_threshold=1), Remote(), []
    api.up = False

    def fetch():
        try:
            with breaker:
                return api.call()
        except CircuitBreakerError as e:
            notes.append(f"{e.name} {e.state.value}")
            if e.remaining_timeout:
                notes.append(f"again in {e.remaining_timeout:.0f}s")
            return "fallback"

    with pytest.raises(ConnectionError):
        fetch()
    assert fetch() == "fallback"
    assert notes == ["api open", "again in 30s"]


@pytest.mark.parametrize(("threshold", "timeout"), [(10, 10.0), (3, 60.0)])
def test_resilience_thresholds_without_a_name(threshold, timeout):
    from flask_svc_infra.resilience import CircuitBreaker

    breaker = CircuitBreaker(failure_threshold=threshold, recovery_timeout=timeout)
    for _ in range(threshold):
        with pytest.raises(Boom), breaker:
            raise Boom
    assert breaker.state == "open"
    assert timeout - 1 < breaker.remaining_timeout <= timeout


# --- observability.md ---------------------------------------------------------------------------------------


def test_observability_with_options():
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from flask_svc_infra.obs import add_observability

    engine = sqlalchemy.create_engine("sqlite://")
    app = Flask(__name__)
    app.add_url_rule("/healthz", "healthz", lambda: "ok")
    add_observability(
        app,
        db_engines=[engine],
        metrics_path="/metrics",
        skip_metric_paths=["/metrics", "/health", "/healthz"],
    )
    client = app.test_client()
    client.get("/healthz")
    text = client.get("/metrics").get_data(as_text=True)
    assert 'path="/healthz",status="200"' not in text
    engine.dispose()


def test_observability_advanced_health_registry(postgres, valkey, web):
    from flask_svc_infra.health import (
        HealthRegistry,
        add_health_routes,
        check_database,
        check_redis,
        check_tcp,
        check_url,
    )

    web.status = 503
    registry = HealthRegistry()
    registry.add("database", check_database(postgres.url), critical=True, timeout=5.0)
    registry.add("redis", check_redis(valkey.url), critical=False)
    registry.add("external_api", check_url(web.url + "/health", expected_status=200), critical=False)
    registry.add("postgres_port", check_tcp("127.0.0.1", web.port), critical=True)
    app = Flask(__name__)
    add_health_routes(app, registry, prefix="/_health")
    response = app.test_client().get("/_health/ready")
    assert (response.status_code, response.json["status"]) == (200, "degraded")


def test_observability_wait_in_the_factory():
    from flask_svc_infra.health import HealthRegistry

    registry = HealthRegistry()
    began = time.monotonic()
    registry.add("db", lambda: time.monotonic() > began + 0.05)

    def create_app():
        if not registry.wait_until_healthy(timeout=60, interval=0.02):
            raise RuntimeError("Dependencies not ready")
        return Flask(__name__)

    assert create_app()
    assert eventually(lambda: registry.check_all().status == "healthy")


def test_observability_custom_service_check():
    from flask_svc_infra.health import HealthCheckResult, HealthRegistry, HealthStatus

    class Answer:
        ok, latency_ms = False, 12.0

    registry = HealthRegistry()

    def check_custom_service() -> HealthCheckResult:
        response = Answer()
        if response.ok:
            return HealthCheckResult("custom_service", HealthStatus.HEALTHY, response.latency_ms)
        return HealthCheckResult(
            name="custom_service",
            status=HealthStatus.DEGRADED,
            latency_ms=response.latency_ms,
            message="slow today",
        )

    registry.add("custom_service", check_custom_service, critical=True)
    result = registry.check_all()
    assert result.status == HealthStatus.DEGRADED
    assert result.checks[0].message == "slow today"


# --- our own page for those who come from there -------------------------------------------------------------


DIFFERENCES = Path(__file__).resolve().parents[2] / "docs" / "differences.md"
BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", DIFFERENCES.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block_of_the_differences_page_runs(block, capsys):
    exec(compile(block, str(DIFFERENCES), "exec"), {"__name__": "differences"})
    assert capsys.readouterr().out == "healthy\n"


def test_differences_page_names_every_module_and_setting_that_exists_and_no_other():
    text = DIFFERENCES.read_text(encoding="utf-8")
    for module in set(re.findall(r"\bflask_svc_infra(?:\.\w+)+", text)):
        parts = module.split(".")
        found = importlib.import_module(".".join(parts[:2]))
        for name in parts[2:]:
            found = getattr(found, name)
    known = {"SVC_INFRA_" + field.name.upper() for field in dataclasses.fields(Settings)}
    foreign = {"SVC_INFRA_DISABLE_PROMETHEUS"}
    assert set(re.findall(r"\bSVC_INFRA_[A-Z_]+[A-Z]", text)) - foreign <= known
