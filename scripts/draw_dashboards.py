"""Draw pictures of the bundled dashboards with real data, for the docs.

It starts a small service under gunicorn and a Prometheus with the generated rules, lets things go wrong for a
few minutes, and draws every panel from what Prometheus answers. The drawing is matplotlib's, not Grafana's:
the places, titles, units, thresholds and numbers are those of the dashboards, the looks are not.

Run it as ``python scripts/draw_dashboards.py [--seconds 240]``; needs matplotlib, writes ``docs/pictures/``.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

from dashboards.picture import draw  # noqa: E402
from support.gunicorn_runner import Gunicorn  # noqa: E402 - the same servers that the tests stand on
from support.processes import eventually  # noqa: E402
from support.prometheus import Prometheus  # noqa: E402
from support.web import request  # noqa: E402

from flask_svc_infra import SLO  # noqa: E402
from flask_svc_infra.obs.alerts import service_alerts  # noqa: E402
from flask_svc_infra.obs.bundled import dashboard, dashboard_names  # noqa: E402
from flask_svc_infra.obs.rules import Scope, to_rule_file  # noqa: E402
from flask_svc_infra.obs.slo_rules import slo_groups  # noqa: E402

PICTURES = ROOT / "docs/pictures"
SLOS = [SLO("availability", objective=0.95), SLO("latency", objective=0.9, latency=0.05)]
SERVICE = """
import os, random, time
from flask import Flask, request
from flask_svc_infra import SLO, CircuitBreakerError, SvcInfra
from flask_svc_infra.resilience import Bulkhead, BulkheadFullError, retry_sync

app = Flask(__name__, static_folder=None)
infra = SvcInfra(
    slos=[SLO("availability", objective=0.95), SLO("latency", objective=0.9, latency=0.05)],
    route_classifier=lambda rule, method: "checkout" if method == "POST" else "public",
)
payments = infra.breaker("payments", failure_threshold=5, recovery_timeout=8, success_threshold=3)
desk = Bulkhead("desk", max_concurrent=3)
down = {"payments": False}
infra.health.add("database", lambda: True)
infra.health.add("payments", lambda: not down["payments"], critical=False)

@retry_sync(max_attempts=2, base_delay=0.01)
def charge():
    time.sleep(random.uniform(0.005, 0.03))
    if down["payments"]:
        raise OSError("down")

@app.get("/products")
def products():
    time.sleep(random.uniform(0.001, 0.02))
    return "tea"

@app.post("/orders")
def order():
    try:
        with desk, payments:
            charge()
    except BulkheadFullError:
        return "busy", 503
    except CircuitBreakerError:
        return "later", 202
    except Exception:
        return "failed", 500
    return "sold", 201

@app.get("/products/<int:number>")
def product(number):
    time.sleep(random.uniform(0.02, 0.08))
    return "tea"

@app.get("/_ops/switch")
def switch():
    down["payments"] = request.args.get("payments") == "down"
    os.environ["MAINTENANCE_MODE"] = request.args.get("maintenance", "0")
    return "ok"

infra.init_app(app)
"""
PATHS = (
    ("GET", "/products"),
    ("POST", "/orders"),
    ("GET", "/products/7"),
    ("POST", "/orders"),
    ("GET", "/nowhere"),
)
EVENTS = ((0.4, "payments=down"), (0.55, ""), (0.75, "maintenance=1"), (0.85, ""))
"""What happens when, in parts of the whole time."""


def main() -> None:
    """Start everything, let it run, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--seconds", type=float, default=240.0, help="how long things run (default %(default)s)"
    )
    seconds = parser.parse_args().seconds
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "served.py").write_text(SERVICE, encoding="utf-8")
        conf = "python:flask_svc_infra.gunicorn"
        service = Gunicorn("served:app", folder, worker_class="gthread", threads=8, conf=conf)
        stack.callback(service.kill)
        service.wait_ready("/_health/ready")
        rules = folder / "rules.yaml"
        scope = Scope(job="app")
        text = to_rule_file([service_alerts(scope), *slo_groups(SLOS, scope)])
        rules.write_text(re.sub(r"interval: \d+[sm]\n", "interval: 1s\n", text), encoding="utf-8")
        (folder / "prometheus").mkdir()
        server = Prometheus(folder / "prometheus", targets=[f"127.0.0.1:{service.port}"], rules=[rules])
        stack.enter_context(closing(server))
        eventually(lambda: server.query("up == 1"), timeout=40, message="Prometheus does not see the service")
        begin = time.time()
        _live_through(service.url, seconds)
        for dashboard_name in dashboard_names():
            target = PICTURES / f"{dashboard_name}.png"
            draw(dashboard(dashboard_name), server, begin=begin, end=time.time(), target=target)
            print(f"wrote {target.relative_to(ROOT)}")


def _live_through(url: str, seconds: float) -> None:
    """Send traffic, and let things go wrong and right again."""
    stop = threading.Event()
    customers = [threading.Thread(target=_customer, args=(url, stop, offset)) for offset in range(5)]
    for customer in customers:
        customer.start()
    begin = time.monotonic()
    waiting: list[Any] = list(EVENTS)
    while (gone := (time.monotonic() - begin) / seconds) < 1:
        if waiting and gone >= waiting[0][0]:
            request(f"{url}/_ops/switch?{waiting.pop(0)[1]}")
        request(f"{url}/_health/ready")
        time.sleep(1)
        print(f"\r{gone:4.0%}", end="", flush=True)
    print("\r100%")
    stop.set()
    for customer in customers:
        customer.join()


def _customer(url: str, stop: threading.Event, offset: int) -> None:
    number = offset
    while not stop.wait(0.08):
        method, path = PATHS[number % len(PATHS)]
        request(url + path, method)
        number += 1


if __name__ == "__main__":
    main()
