"""What the dashboards share: selectors, variables, links, marks."""

from __future__ import annotations

from flask_svc_infra.obs.promql import URL_RULE
from flask_svc_infra.obs.rules import Scope

from .model import BLUE, RED, Annotation, Variable

TAGS = ("svc-infra",)
SCOPE = 'namespace=~"$namespace", job=~"$job"'

_PROBES = {label: f'{operator}"{value}"' for label, operator, value in Scope().customers()}["path"]
CUSTOMERS = f'{SCOPE}, path{_PROBES}, path=~"({URL_RULE}[|])?($class)"'
"""Requests of the chosen service and class that are no probes; `All` lets routes without a class in too."""

REQUESTS = "http_requests_total"
BUCKETS = "http_request_duration_seconds_bucket"
PROGRESS = f"http_requests_in_progress{{{SCOPE}}}"

_TITLES = {
    "svc-infra-http": "Service HTTP Overview",
    "svc-infra-slo": "Service Level Objectives",
    "svc-infra-resilience": "Service Resilience",
}


def links(uid: str) -> dict[str, str]:
    """Link to the other dashboards, not to this one."""
    return {other: title for other, title in _TITLES.items() if other != uid}


def service_variables(metric: str) -> list[Variable]:
    """Let people choose the service among those that export *metric*."""
    return [
        Variable(
            name="namespace",
            label="Namespace",
            query=f"label_values({metric}, namespace)",
            description="Kubernetes namespaces; All also takes what has none.",
        ),
        Variable(
            name="job",
            label="Job",
            query=f'label_values({metric}{{namespace=~"$namespace"}}, job)',
            description="Scrape jobs.",
        ),
    ]


def http_variables() -> list[Variable]:
    """Choose the service, then the class of routes."""
    return [
        *service_variables(REQUESTS),
        Variable(
            name="class",
            label="Class",
            query=f"label_values({REQUESTS}{{{SCOPE}}}, path)",
            regex=rf"/^{URL_RULE}\|(.+)$/",
            description="Route classes, as the route classifier names them; All also takes what has none.",
        ),
    ]


def notes() -> list[Annotation]:
    """Mark what explains a bend in a curve, for as long as it lasted: an open circuit, maintenance."""
    return [
        Annotation(
            name="Open circuits",
            expr=f'max by (job, name) (circuit_breaker_state{{{SCOPE}, state="open"}}) == 1',
            title="{{name}} open",
            text="The circuit breaker {{name}} of {{job}} was open.",
            color=RED,
        ),
        Annotation(
            name="Maintenance",
            expr=f'max by (job, mode) (maintenance_mode{{{SCOPE}, mode!="off"}}) == 1',
            title="maintenance ({{mode}})",
            text="Maintenance of {{job}} was {{mode}}.",
            color=BLUE,
        ),
    ]


__all__ = [
    "BUCKETS",
    "CUSTOMERS",
    "PROGRESS",
    "REQUESTS",
    "SCOPE",
    "TAGS",
    "http_variables",
    "links",
    "notes",
    "service_variables",
]
