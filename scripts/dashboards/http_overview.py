"""How the service answers: the five documented panels, then each route and each class of routes."""

from __future__ import annotations

from flask_svc_infra.obs.promql import URL_RULE

from .common import BUCKETS, CUSTOMERS, PROGRESS, REQUESTS, TAGS, http_variables, links, notes
from .model import ORANGE, RED, YELLOW, Column, Dashboard, Panel, Query, Row, Step

_FAILED = f'{REQUESTS}{{{CUSTOMERS}, status=~"5.."}}'
_SUCCEEDED = f'{REQUESTS}{{{CUSTOMERS}, status!~"5.."}}'
_ALL = f"{REQUESTS}{{{CUSTOMERS}}}"
_BUCKETS = f"{BUCKETS}{{{CUSTOMERS}}}"


def _rate(selector: str) -> str:
    return f"rate({selector}[$__rate_interval])"


def _with_class(expr: str) -> str:
    """Split a route's class off its path label; a route without one is called ``none``."""
    unclassed = f'label_replace({expr}, "class", "none", "", "")'
    return f'label_replace({unclassed}, "class", "$1", "path", "{URL_RULE}[|](.+)")'


_OVERVIEW = Row(
    "",
    [
        Panel(
            kind="timeseries",
            title="Success Rate (5m)",
            description="The share of requests not answered 5xx, over 5 minutes. Probes are not counted.",
            unit="percentunit",
            queries=[
                Query(
                    f"(sum(rate({_SUCCEEDED}[5m])) or vector(0)) / (sum(rate({_ALL}[5m])) > 0)",
                    "success rate",
                ),
            ],
            width=8,
            maximum=1,
            steps=(Step(None, RED), Step(0.99, YELLOW), Step(0.999, "green")),
            no_value="no traffic",
            decimals=2,
        ),
        Panel(
            kind="timeseries",
            title="P99 Latency",
            description=(
                "One request in a hundred took at least this long. HighLatency fires above 2 s. "
                "P50 is drawn beside it for comparison. Probes are not counted."
            ),
            unit="s",
            queries=[
                Query(f"histogram_quantile(0.99, sum by (le) (rate({_BUCKETS}[5m])))", "P99"),
                Query(f"histogram_quantile(0.5, sum by (le) (rate({_BUCKETS}[5m])))", "P50"),
            ],
            width=8,
            minimum=0,
            steps=(Step(None, "green"), Step(2, RED)),
            no_value="no traffic",
        ),
        Panel(
            kind="table",
            title="Top Routes by 5xx",
            description=(
                "The ten routes with most requests answered 5xx over 5 minutes, and what share of each "
                "route's requests that is."
            ),
            unit="short",
            queries=[
                Query(f"topk(10, sum by (path) (rate({_FAILED}[5m])))"),
                Query(
                    f"(sum by (path) (rate({_FAILED}[5m])) / (sum by (path) (rate({_ALL}[5m])) > 0)) "
                    f"and topk(10, sum by (path) (rate({_FAILED}[5m])))"
                ),
            ],
            width=8,
            columns=[
                Column("path", "Route"),
                Column("Value #B", "Share failed", "percentunit"),
                Column("Value #A", "5xx per second", "reqps"),
            ],
            no_value="no 5xx",
        ),
        Panel(
            kind="timeseries",
            title="Request Rate",
            description="Requests per second by status code, on top of each other. Probes are not counted.",
            unit="reqps",
            queries=[Query(f"sum by (status) ({_rate(_ALL)})", "{{status}}")],
            width=16,
            minimum=0,
            stacked=True,
            no_value="no traffic",
        ),
        Panel(
            kind="timeseries",
            title="Active Connections",
            description=(
                "Requests in flight by method, over all workers. A line that only rises is hanging requests."
            ),
            unit="short",
            queries=[Query(f"sum by (method) ({PROGRESS})", "{{method}}")],
            width=8,
            minimum=0,
        ),
    ],
)

_CLASSES = Row(
    "By class",
    [
        Panel(
            kind="timeseries",
            title="Request Rate by Class",
            description="Requests per second by route class; `none` without a route classifier.",
            unit="reqps",
            queries=[
                Query(f"sum by (class) ({_with_class(_rate(_ALL))})", "{{class}}"),
            ],
            width=8,
            minimum=0,
            stacked=True,
            no_value="no traffic",
        ),
        Panel(
            kind="timeseries",
            title="Share Failed by Class",
            description="The share of each class's requests answered 5xx.",
            unit="percentunit",
            queries=[
                Query(
                    f"sum by (class) ({_with_class(_rate(_FAILED))}) "
                    f"/ (sum by (class) ({_with_class(_rate(_ALL))}) > 0)",
                    "{{class}}",
                )
            ],
            width=8,
            minimum=0,
            steps=(Step(None, "green"), Step(0.01, ORANGE)),
            no_value="no traffic",
        ),
        Panel(
            kind="timeseries",
            title="P99 Latency by Class",
            description="One request in a hundred of each class took at least this long.",
            unit="s",
            queries=[
                Query(
                    f"histogram_quantile(0.99, sum by (class, le) ({_with_class(_rate(_BUCKETS))}))",
                    "{{class}}",
                )
            ],
            width=8,
            minimum=0,
            no_value="no traffic",
        ),
    ],
)

_ROUTES = Row(
    "By route",
    [
        Panel(
            kind="timeseries",
            title="Request Rate by Route",
            description="The ten busiest routes, in requests per second.",
            unit="reqps",
            queries=[
                Query(
                    f"topk(10, sum by (path, method) ({_rate(_ALL)}))",
                    "{{method}} {{path}}",
                )
            ],
            width=12,
            minimum=0,
            no_value="no traffic",
        ),
        Panel(
            kind="timeseries",
            title="P99 Latency by Route",
            description="The ten slowest routes; one request in a hundred took at least this long.",
            unit="s",
            queries=[
                Query(
                    f"topk(10, histogram_quantile(0.99, sum by (path, method, le) ({_rate(_BUCKETS)})))",
                    "{{method}} {{path}}",
                )
            ],
            width=12,
            minimum=0,
            no_value="no traffic",
        ),
    ],
)

DASHBOARD = Dashboard(
    uid="svc-infra-http",
    title="Service HTTP Overview",
    description="Success, latency, traffic and failing routes of a Flask service.",
    tags=TAGS,
    rows=[_OVERVIEW, _CLASSES, _ROUTES],
    variables=http_variables(),
    annotations=notes(),
    links=links("svc-infra-http"),
)
