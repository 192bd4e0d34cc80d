"""``flask svc-infra k8s``: a Deployment whose probes and times fit this app."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .output import json_option, load_app, show_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..mounts import Mounts, Probe

__all__ = ["Facts", "deployment", "k8s"]

_GRACEFUL = 30
"""Seconds gunicorn gives requests in flight after the drain; its own default, which our conf keeps."""
_MARGIN = 5
"""Seconds by which the kubelet is more patient than gunicorn."""
_READY_PERIOD, _READY_FAILURES = 5, 2
"""After so many seconds, so often, a pod that is not ready is taken out; the documented values."""

_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a Deployment has to know of an app.

    Attributes:
        name: the Deployment's name.
        image: the container's image.
        wsgi: the app as gunicorn names it.
        port: where gunicorn listens.
        paths: the path of each kind of probe: live, ready, startup.
        metrics_path: where Prometheus scrapes; None without metrics.
        slowest_check: seconds readiness may take.
        drain_seconds: how long the workers serve on after SIGTERM.
    """

    name: str
    image: str
    wsgi: str
    port: int
    paths: Mapping[str, str]
    metrics_path: str | None
    slowest_check: float
    drain_seconds: float


def deployment(facts: Facts) -> dict[str, Any]:
    """Return the Deployment as Kubernetes takes it.

    Readiness gets more time than the slowest check may take. The grace period holds the drain, gunicorn's
    patience with requests in flight, and a margin.
    """
    probe_timeout = max(3, math.ceil(facts.slowest_check) + 1)
    labels = {"app.kubernetes.io/name": facts.name}
    metrics = facts.metrics_path
    scraped = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(facts.port),
        "prometheus.io/path": metrics,
    }
    command = ["gunicorn", "-c", "python:flask_svc_infra.gunicorn", "--bind", f"0.0.0.0:{facts.port}"]
    container = {
        "name": facts.name,
        "image": facts.image,
        "command": [*command, "--worker-class", "gthread", "--threads", "8", facts.wsgi],
        "ports": [{"name": "http", "containerPort": facts.port}],
        "env": [{"name": "FLASK_SVC_INFRA_DRAIN_SECONDS", "value": f"{facts.drain_seconds:g}"}],
        "startupProbe": _probe(facts.paths["startup"], 10, 5, probe_timeout, 30),
        "livenessProbe": _probe(facts.paths["live"], 5, 10, 3, 3),
        "readinessProbe": _probe(facts.paths["ready"], 5, _READY_PERIOD, probe_timeout, _READY_FAILURES),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": facts.name, "labels": labels},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels, **({"annotations": scraped} if metrics else {})},
                "spec": {
                    "terminationGracePeriodSeconds": math.ceil(facts.drain_seconds) + _GRACEFUL + _MARGIN,
                    "containers": [container],
                },
            },
        },
    }


@click.group()
def k8s() -> None:
    """Write what Kubernetes needs to run this app."""


def _dns_label(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _DNS_LABEL.fullmatch(value):
        raise click.BadParameter("use up to 63 of a-z, 0-9 and '-', no '-' at the ends", ctx, param)
    return value


@k8s.command()
@click.option("--name", callback=_dns_label, help="The Deployment's name; the app's name if left out.")
@click.option("--image", help="The container's image; the name with the tag latest if left out.")
@click.option("--wsgi", default="app:app", show_default=True, help="The app, as gunicorn names it.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="gunicorn's port."
)
@json_option
@click.pass_context
def generate(
    ctx: click.Context, *, name: str | None, image: str | None, wsgi: str, port: int, as_json: bool
) -> None:
    """Print a Deployment whose probes and times fit this app.

    The probes' paths, the time readiness needs and the drain come from the app; without a drain of its own it
    gets one as long as readiness takes to be noticed.
    """
    from ..mounts import mounts_of, settings_of
    from ..obs.yaml_text import to_yaml

    app = load_app(ctx)
    mounts = mounts_of(app)
    called = name or re.sub(r"[^a-z0-9]+", "-", app.name.lower()).strip("-")[:63].strip("-") or "app"
    registry = mounts.parts.get("health.registry")
    drain = settings_of(app).drain_seconds or float(_READY_PERIOD * _READY_FAILURES)
    facts = Facts(
        name=called,
        image=image or f"{called}:latest",
        wsgi=wsgi,
        port=port,
        paths=_paths(mounts, app.name),
        metrics_path=mounts.metrics_paths[0] if mounts.metrics_paths else None,
        slowest_check=max((check.timeout for check in registry.checks), default=0.0) if registry else 0.0,
        drain_seconds=drain,
    )
    if as_json:
        show_json(deployment(facts))
    else:
        click.echo(to_yaml(deployment(facts), heading=_HEADING), nl=False)


_HEADING = """Made by `flask svc-infra k8s generate` from the app's probes, checks and drain.
terminationGracePeriodSeconds is the drain, gunicorn's graceful timeout and a margin together."""


def _paths(mounts: Mounts, app_name: str) -> dict[str, str]:
    """Return the path of each probe Kubernetes asks: one that knows the dependencies, else a plain one."""
    found: dict[str, str] = {}
    for kind in ("live", "ready", "startup"):
        knowing = [path for path, probe in mounts.probes.items() if probe.kind == kind]
        plain = [path for path, probe in mounts.probes.items() if _is_plain(path, probe, kind)]
        if not knowing and not plain:
            raise click.ClickException(
                f"the app '{app_name}' has no {kind} probe mounted; Kubernetes would have nothing to ask. "
                "Call SvcInfra(app), add_health_routes(app, registry) or add_probes(app)."
            )
        found[kind] = (knowing or plain)[0]
    return found


def _is_plain(path: str, probe: Probe, kind: str) -> bool:
    return probe.kind == "static" and path.endswith(f"/{kind}")


def _probe(path: str, delay: int, period: int, timeout: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "initialDelaySeconds": delay,
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }
