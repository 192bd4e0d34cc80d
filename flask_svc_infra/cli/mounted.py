"""What ``doctor`` finds out about an app by asking it: each probe and the metrics, as an orchestrator would.

The app is asked through its test client, so nothing has to run and nothing leaves the process but the checks'
own questions.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ..health.redaction import describe
from .diagnosis import Finding

if TYPE_CHECKING:
    from flask import Flask

    from ..mounts import Mounts, Probe

__all__ = ["breakers", "checks", "hidden_views", "measured_twice", "metrics", "probes"]

_KUBELET_TIMEOUT = 1.0
"""Seconds a kubelet waits for a probe unless ``timeoutSeconds`` says otherwise."""


def probes(app: Flask, mounts: Mounts) -> list[Finding]:
    """Ask every probe that has a fixed path."""
    if not mounts.probes:
        return [
            Finding(
                "probes",
                "problem",
                f"the app '{app.name}' has no probes mounted; an orchestrator cannot tell how it is",
                "Call SvcInfra(app), or add_probes(app) and add_health_routes(app, registry).",
            )
        ]
    return [_asked(app, path, probe) for path, probe in mounts.probes.items()]


def metrics(app: Flask, mounts: Mounts) -> list[Finding]:
    """Scrape the app once."""
    if not mounts.metrics_paths:
        return [
            Finding(
                "metrics",
                "warning",
                "no metrics are mounted; nothing is measured",
                "Call SvcInfra(app) or add_observability(app), with SVC_INFRA_METRICS_ENABLED on.",
            )
        ]
    return [_scraped(app, path) for path in mounts.metrics_paths]


def checks(mounts: Mounts) -> list[Finding]:
    """Judge which checks are registered, and how long readiness may take."""
    registry = mounts.parts.get("health.registry")
    if registry is None:
        return []
    registered = registry.checks
    if not any(check.critical for check in registered):
        return [
            Finding(
                "checks",
                "warning",
                "no critical check is registered; readiness says 200 whatever state the dependencies are in",
                "Register what the service cannot do without: registry.add('database', check_database(url)).",
            )
        ]
    slowest = max(registered, key=lambda check: check.timeout)
    text = f"{len(registered)} registered; readiness may take {slowest.timeout:g}s ('{slowest.name}')"
    if slowest.timeout < _KUBELET_TIMEOUT:
        return [Finding("checks", "ok", text)]
    return [
        Finding(
            "checks",
            "ok",
            f"{text}, a kubelet waits {_KUBELET_TIMEOUT:g}s unless told otherwise",
            f"Set the readiness probe's timeoutSeconds to {int(slowest.timeout) + 1} or more.",
        )
    ]


def hidden_views(app: Flask, mounts: Mounts) -> list[Finding]:
    """Look for views of the app's own at paths that are answered before Flask is asked."""
    return [
        Finding(
            "routes",
            "warning",
            f"the view '{rule.endpoint}' is mounted at '{rule.rule}', where a probe or the metrics answer "
            "first; it is never called",
            "Give the view another path, or the probe another prefix.",
        )
        for rule in app.url_map.iter_rules()
        if mounts.serves(rule.rule) and not rule.endpoint.startswith("svc_infra_")
    ]


def breakers(names: list[str]) -> list[Finding]:
    """Look for names that several breakers of this process share."""
    return [
        Finding(
            "breakers",
            "warning",
            f"{count} breakers are called '{name}'; the metrics show the worse of their states",
            "Name each, or share one: infra.breaker(name) returns the same breaker at every call.",
        )
        for name, count in Counter(names).items()
        if count > 1
    ]


def measured_twice(registry: Any) -> list[Finding]:
    """Look for request metrics that prometheus-flask-exporter makes beside ours.

    Args:
        registry: prometheus_client's default registry.
    """
    if any(family.name.startswith("flask_http_request") for family in registry.collect()):
        return [
            Finding(
                "metrics",
                "warning",
                "prometheus-flask-exporter measures every request too; each request costs twice",
                "Make it PrometheusMetrics(app, path=None, export_defaults=False).",
            )
        ]
    return []


def _asked(app: Flask, path: str, probe: Probe) -> Finding:
    try:
        with app.test_client() as client:
            response = client.get(path)
            status, said = response.status_code, response.get_json(silent=True)
    except Exception as error:
        return Finding(
            "probes",
            "problem",
            f"{path} raises {type(error).__name__}: {describe(error)}",
            "Wrap app.wsgi_app in middleware that lets this path through.",
        )
    if status == 200:  # noqa: PLR2004
        return Finding("probes", "ok", f"{path} answers 200")
    if status == 503 and probe.kind in ("ready", "startup"):  # noqa: PLR2004
        if isinstance(said, dict) and said.get("message"):  # no check's failure: a hold on readiness
            return Finding(
                "probes",
                "warning",
                f"{path} answers 503 here and now, whatever the checks say: {said['message']}",
                "When it is 'starting', the gate of add_startup_probe opens once its checks have passed.",
            )
        return Finding(
            "probes",
            "warning",
            f"{path} answers 503 here and now; no traffic would be sent",
            "See which check fails: flask svc-infra health show",
        )
    return Finding(
        "probes",
        "problem",
        f"{path} answers {status}, not 200; something answers before the probe does",
        "If app.wsgi_app was replaced or wrapped, let it pass this path on.",
    )


def _scraped(app: Flask, path: str) -> Finding:
    try:
        with app.test_client() as client:
            response = client.get(path)
            status, text = response.status_code, response.get_data(as_text=True)
    except Exception as error:
        return Finding(
            "metrics",
            "problem",
            f"{path} raises {type(error).__name__}: {describe(error)}",
            "See the traceback: flask run, and open the path.",
        )
    if status == 200 and "http_requests_total" in text:  # noqa: PLR2004
        return Finding("metrics", "ok", f"{path} answers 200 with {text.count(chr(10))} lines")
    if status == 403:  # noqa: PLR2004
        return Finding(
            "metrics",
            "warning",
            f"{path} answers 403: authorize refuses a request that says nothing of who it is",
            "Make sure that Prometheus sends what authorize asks for.",
        )
    return Finding(
        "metrics",
        "problem",
        f"{path} answers {status}, and not with our metrics; Prometheus scrapes nothing of use",
        "If app.wsgi_app was replaced or wrapped, let it pass this path on.",
    )
