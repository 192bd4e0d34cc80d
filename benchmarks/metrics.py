"""What measuring a request costs above bare Flask, and what a scrape costs.

    python benchmarks/metrics.py                 everything, as a Markdown report
    python benchmarks/metrics.py --quick         fewer rounds

Requests are driven through WSGI in one process, so nothing but the application's own work is timed. The
variants take turns within each round; what is quoted is CPU time, of each variant its least disturbed
round, less bare Flask's: the figures then hold on a machine that has other work to do. Each part runs in a
process of its own, because prometheus_client decides at import whether values go to files.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask

RULE = "/items/<int:item>"
PATH = "/items/7"
Build = Callable[[], Flask]


def environ() -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": PATH,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def start_response(*_: Any) -> None:
    """Take no note."""


def bare() -> Flask:
    app = Flask("bench", static_folder=None)
    app.add_url_rule(RULE, "read_item", lambda item: "ok")
    return app


def ours(**options: Any) -> Build:
    def build() -> Flask:
        from flask_svc_infra.obs import add_observability

        app = bare()
        add_observability(app, **options)
        return app

    return build


def whole_extension() -> Flask:
    from flask_svc_infra import SvcInfra

    app = bare()
    SvcInfra(app)
    return app


def exporter(group_by: str) -> Build:
    def build() -> Flask:
        from prometheus_client import CollectorRegistry
        from prometheus_flask_exporter import PrometheusMetrics

        app = bare()
        PrometheusMetrics(app, registry=CollectorRegistry(), group_by=group_by)
        return app

    return build


def hooks(*, cached: bool) -> Build:
    """What a team writes by hand: a counter, a histogram and a gauge in before and after hooks."""

    def build() -> Flask:
        from flask import g, request
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        app, registry, children = bare(), CollectorRegistry(), {}
        total = Counter("requests_total", "n", ["method", "path", "status"], registry=registry)
        duration = Histogram("duration_seconds", "s", ["method", "path"], registry=registry)
        progress = Gauge("in_progress", "n", ["method"], registry=registry, multiprocess_mode="livesum")

        @app.before_request
        def before() -> None:
            g.begun = time.perf_counter()
            child(progress, request.method).inc()

        @app.after_request
        def after(response: Any) -> Any:
            rule = request.url_rule.rule if request.url_rule else "none"
            child(total, request.method, rule, str(response.status_code)).inc()
            child(duration, request.method, rule).observe(time.perf_counter() - g.begun)
            child(progress, request.method).dec()
            return response

        def child(metric: Any, *labels: str) -> Any:
            if not cached:
                return metric.labels(*labels)
            key = (metric, labels)
            found = children.get(key)
            if found is None:
                found = children[key] = metric.labels(*labels)
            return found

        return app

    return build


def opentelemetry() -> Flask:
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider

    app = bare()
    FlaskInstrumentor().instrument_app(
        app,
        tracer_provider=TracerProvider(),
        meter_provider=MeterProvider(metric_readers=[InMemoryMetricReader()]),
    )
    return app


def classify(path: str, method: str) -> str:
    return "system" if path.startswith("/_") else "public"


VARIANTS: dict[str, Build] = {
    "bare Flask": bare,
    "flask-svc-infra: metrics": ours(),
    "flask-svc-infra: metrics with a classifier": ours(route_classifier=classify),
    "flask-svc-infra: the whole extension": whole_extension,
    "hooks written by hand, cached children": hooks(cached=True),
    "hooks written by hand, .labels() each time": hooks(cached=False),
    "prometheus-flask-exporter, url_rule": exporter("url_rule"),
    "prometheus-flask-exporter, default": exporter("path"),
    "opentelemetry-instrumentation-flask": opentelemetry,
}


def drive(app: Any, requests: int) -> float:
    """Return seconds per request."""
    call, template = app.wsgi_app, environ()
    gc.collect()
    gc.disable()
    begun = time.process_time()
    for _ in range(requests):
        body = call(template.copy(), start_response)
        for _chunk in body:
            pass
        close = getattr(body, "close", None)
        if close is not None:
            close()
    seconds = time.process_time() - begun
    gc.enable()
    return seconds / requests


def overhead(rounds: int, requests: int) -> dict[str, float]:
    """Return the µs above bare Flask for each variant."""
    apps = {name: build() for name, build in VARIANTS.items()}
    for app in apps.values():
        drive(app, 300)
    least = dict.fromkeys(apps, float("inf"))
    for _ in range(rounds):
        order = list(apps)
        random.shuffle(order)
        for name in order:
            least[name] = min(least[name], drive(apps[name], requests))
    return {name: (seconds - least["bare Flask"]) * 1e6 for name, seconds in least.items()}


def layer(rounds: int, requests: int) -> float:
    """Return the µs of our layer around an application that does nothing: the store shows best there."""
    from types import SimpleNamespace

    from flask_svc_infra.obs import add_observability

    matched = SimpleNamespace(url_rule=SimpleNamespace(rule=RULE))

    def nothing(given: dict[str, Any], start: Any) -> list[bytes]:
        given["werkzeug.request"] = matched
        start("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", "2")])
        return [b"ok"]

    app = bare()
    app.wsgi_app = nothing  # type: ignore[method-assign]
    plain = SimpleNamespace(wsgi_app=nothing)
    add_observability(app)
    drive(app, requests)
    least = min(drive(app, requests) for _ in range(rounds))
    return (least - min(drive(plain, requests) for _ in range(rounds))) * 1e6


def _worker(kind: str, routes: int) -> None:
    """Count what a worker counts, then die without a word: its files stay."""
    app = scraped_app(kind, routes)
    for n in range(routes):
        drive_path(app, f"/r{n}/1")
    os._exit(0)


def scraped_app(kind: str, routes: int) -> Flask:
    app = Flask("bench", static_folder=None)
    for n in range(routes):
        app.add_url_rule(f"/r{n}/<x>", f"r{n}", lambda x: x)
    if kind == "ours":
        from flask_svc_infra.obs import add_observability

        add_observability(app)
    else:
        from prometheus_flask_exporter.multiprocess import GunicornInternalPrometheusMetrics

        GunicornInternalPrometheusMetrics(app, group_by="url_rule")
    return app


def drive_path(app: Flask, path: str) -> bytes:
    body = app.wsgi_app({**environ(), "PATH_INFO": path}, start_response)
    return b"".join(body)


def scrape(kind: str, routes: int, dead: int) -> dict[str, float]:
    """Return ms of the first and of a later scrape, with *dead* dead workers' files about."""
    for _ in range(dead):
        pid = os.fork()
        if pid == 0:
            _worker(kind, routes)
        os.waitpid(pid, 0)
    app = scraped_app(kind, routes)
    for n in range(routes):
        drive_path(app, f"/r{n}/1")
    times = []
    for _ in range(60):
        begun = time.process_time()
        body = drive_path(app, "/metrics")
        times.append((time.process_time() - begun) * 1e3)
    series = sum(not line.startswith(b"#") for line in body.splitlines())
    return {"first": times[0], "later": min(times[1:]), "series": series}


def memory(kind: str, series: int) -> float:
    """Return bytes per series: *series* request counters, and a histogram for every ten of them."""
    from prometheus_client import CollectorRegistry, Counter, Histogram

    from flask_svc_infra.config import DEFAULT_BUCKETS
    from flask_svc_infra.obs import catalog
    from flask_svc_infra.obs.instruments import Instruments

    specs = [catalog.HTTP_REQUESTS, catalog.HTTP_DURATION]
    gc.collect()
    tracemalloc.start()
    if kind == "ours":
        ours = Instruments(specs, buckets=DEFAULT_BUCKETS, directory=None, tag="t")
        kept: Any = ours
        for n in range(series):
            ours.place(catalog.HTTP_REQUESTS, ("GET", f"/r{n // 10}", str(200 + n % 10)))
            if n % 10 == 0:
                ours.histogram(catalog.HTTP_DURATION, ("GET", f"/r{n // 10}"))
    else:
        registry = CollectorRegistry()
        counter = Counter("http_requests_total", "n", ["method", "path", "status"], registry=registry)
        histogram = Histogram("d", "s", ["method", "path"], buckets=DEFAULT_BUCKETS, registry=registry)
        kept = (counter, histogram)
        for n in range(series):
            counter.labels("GET", f"/r{n // 10}", str(200 + n % 10))
            if n % 10 == 0:
                histogram.labels("GET", f"/r{n // 10}")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size / (series + series / 10 * 14)


def part(name: str, *arguments: Any, directory: bool = False) -> Any:
    """Run one part in a process of its own."""
    env = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"}
    folder = tempfile.mkdtemp(prefix="bench-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    if directory:
        env["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        argv = [sys.executable, __file__, "--part", name, json.dumps(arguments)]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout.splitlines()[-1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report(rounds: int, requests: int) -> None:
    one = part("overhead", rounds, requests)
    several = part("overhead", rounds, requests, directory=True)
    base = "prometheus-flask-exporter, url_rule"
    print("| variant | one process, µs | x exporter | multiprocess, µs | x exporter |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in list(VARIANTS)[1:]:
        print(
            f"| {name} | {one[name]:.1f} | {one[name] / one[base]:.2f} "
            f"| {several[name]:.1f} | {several[name] / several[base]:.2f} |"
        )
    print()
    print("| scrape | series | dead workers | first, ms | later, ms |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for kind in ("ours", "exporter"):
        for routes, dead in ((5, 0), (50, 0), (12, 0), (12, 256)):
            found = part("scrape", kind, routes, dead, directory=True)
            label = "flask-svc-infra" if kind == "ours" else "prometheus-flask-exporter"
            print(f"| {label} | {found['series']} | {dead} | {found['first']:.1f} | {found['later']:.1f} |")
    print()
    inside, outside = part("layer", rounds, requests), part("layer", rounds, requests, directory=True)
    print(f"our layer alone: {inside:.1f} µs, multiprocess {outside:.1f} µs, ratio {outside / inside:.2f}")
    ours_bytes, theirs = part("memory", "ours", 2000), part("memory", "theirs", 2000)
    ratio = ours_bytes / theirs
    print(f"bytes per series: {ours_bytes:.0f}, prometheus_client {theirs:.0f}, ratio {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, arguments = options.part
        found = {"overhead": overhead, "layer": layer, "scrape": scrape, "memory": memory}[name](
            *json.loads(arguments)
        )
        print(json.dumps(found))
    else:
        report(*((40, 100) if options.quick else (250, 100)))


if __name__ == "__main__":
    main()
