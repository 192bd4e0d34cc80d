"""Every metric this package exports: its name, kind, labels, buckets, multiprocess mode, and what it says.

One table. The instruments are made from it, ``docs/metrics.md`` is checked against it, and so are the bundled
dashboard and the alert rules. Importing it imports nothing but the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..config import DEFAULT_BUCKETS

__all__ = [
    "BREAKER_CALLS",
    "BREAKER_STATE",
    "BREAKER_TRANSITIONS",
    "BULKHEAD_IN_FLIGHT",
    "BULKHEAD_LIMIT",
    "BULKHEAD_REJECTED",
    "CATALOG",
    "CIRCUIT_STATES",
    "CLIENT_DURATION",
    "CLIENT_REQUESTS",
    "COMPAT",
    "COMPAT_DURATION",
    "COMPAT_EXCEPTIONS",
    "COMPAT_IN_FLIGHT",
    "COMPAT_REQUESTS",
    "COMPAT_SIZE",
    "CONTRACT",
    "FILES_SKIPPED",
    "HEALTH_DURATION",
    "HEALTH_LAST_RUN",
    "HEALTH_RUNS",
    "HEALTH_STUCK",
    "HEALTH_UP",
    "HTTP_DURATION",
    "HTTP_IN_PROGRESS",
    "HTTP_REQUESTS",
    "MAINTENANCE_MODE",
    "MAINTENANCE_MODES",
    "METHODS",
    "OTHER_METHOD",
    "POOL_AVAILABLE",
    "POOL_CHECKED_IN",
    "POOL_CHECKED_OUT",
    "POOL_IN_USE",
    "POOL_OVERFLOW",
    "POOL_SIZE",
    "RETRY_FAILURES",
    "STATE_UP",
    "UNCLASSIFIED",
    "UNMATCHED",
    "UNMATCHED_CLASS",
    "MetricSpec",
]

Kind = Literal["counter", "gauge", "histogram"]
Mode = Literal["livesum", "livemax", "livemin", "livemostrecent"]
Scope = Literal["app", "process"]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
"""The methods that appear as themselves in a label (RFC 9110 and RFC 5789)."""
OTHER_METHOD = "OTHER"
"""The label of every method outside `METHODS`: a client can invent as many as it likes."""
UNMATCHED = "<unmatched>"
"""The path label of a request no URL rule matched: 404, 405, slash redirects."""
UNMATCHED_CLASS = "unmatched"
UNCLASSIFIED = "unclassified"
"""The class of a rule whose classifier raised or did not return a string."""
CIRCUIT_STATES = ("closed", "half_open", "open")
"""Values of the state label, from good to bad: of two breakers with one name the worse one shows."""
MAINTENANCE_MODES = ("off", "read-only", "full")


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: as it is scraped; a counter's ends in ``_total``.
        kind: counter, gauge or histogram.
        help: what it says, in one sentence.
        labels: the label names, in the order the children are made with.
        buckets: a histogram's upper bounds in seconds, without +Inf; an app's own setting
            (``SVC_INFRA_METRICS_BUCKETS``) takes their place where `configurable`.
        mode: how a gauge of several workers becomes one number; dead workers never take part.
        states: values of the last label, from good to bad, when a child per value says 1 for one of them
        and 0
            for the others; of several workers' answers the worst is shown.
        scope: ``app`` when each app counts its own, ``process`` when the thing measured belongs to none.
        configurable: whether the app's buckets apply.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    mode: Mode | None = None
    states: tuple[str, ...] = ()
    scope: Scope = "process"
    configurable: bool = False

    @property
    def family(self) -> str:
        """The name as the exposition formats group it: a counter's without ``_total``."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name

    @property
    def samples(self) -> tuple[str, ...]:
        """The names under which its samples are scraped."""
        if self.kind == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)


HTTP_REQUESTS = MetricSpec(
    name="http_requests_total",
    kind="counter",
    help="Requests answered, by method, URL rule and status.",
    labels=("method", "path", "status"),
    scope="app",
)
HTTP_DURATION = MetricSpec(
    name="http_request_duration_seconds",
    kind="histogram",
    help="Seconds from a request's arrival to the end of its response, by method and URL rule.",
    labels=("method", "path"),
    buckets=DEFAULT_BUCKETS,
    scope="app",
    configurable=True,
)
HTTP_IN_PROGRESS = MetricSpec(
    name="http_requests_in_progress",
    kind="gauge",
    help="Requests being answered now, by method.",
    labels=("method",),
    mode="livesum",
    scope="app",
)

BREAKER_STATE = MetricSpec(
    name="circuit_breaker_state",
    kind="gauge",
    help="1 for the state a circuit is in, 0 for the others; of several workers the worst shows.",
    labels=("name", "state"),
    mode="livemax",
    states=CIRCUIT_STATES,
)
BREAKER_CALLS = MetricSpec(
    name="circuit_breaker_calls_total",
    kind="counter",
    help="Calls through a circuit, by outcome: success, failure, ignored, rejected, stale.",
    labels=("name", "outcome"),
)
BREAKER_TRANSITIONS = MetricSpec(
    name="circuit_breaker_transitions_total",
    kind="counter",
    help="Changes of a circuit's state, by the state it entered.",
    labels=("name", "state"),
)
BULKHEAD_IN_FLIGHT = MetricSpec(
    name="bulkhead_in_flight",
    kind="gauge",
    help="Calls in a bulkhead now.",
    labels=("name",),
    mode="livesum",
)
BULKHEAD_LIMIT = MetricSpec(
    name="bulkhead_max_concurrent",
    kind="gauge",
    help="Calls a bulkhead lets run at once, all workers together.",
    labels=("name",),
    mode="livesum",
)
BULKHEAD_REJECTED = MetricSpec(
    name="bulkhead_rejected_total",
    kind="counter",
    help="Calls a full bulkhead refused.",
    labels=("name",),
)
RETRY_FAILURES = MetricSpec(
    name="retry_failed_attempts_total",
    kind="counter",
    help="Failed attempts of retried functions, by what followed: retried, or exhausted after the last.",
    labels=("function", "outcome"),
)

HEALTH_UP = MetricSpec(
    name="health_check_up",
    kind="gauge",
    help="1 when a check's last run said healthy or degraded, else 0; the worker that ran it last tells.",
    labels=("check",),
    mode="livemostrecent",
    scope="app",
)
HEALTH_RUNS = MetricSpec(
    name="health_check_runs_total",
    kind="counter",
    help="Runs of a check, by what they said: healthy, degraded, unhealthy, unknown.",
    labels=("check", "status"),
    scope="app",
)
HEALTH_DURATION = MetricSpec(
    name="health_check_duration_seconds",
    kind="histogram",
    help="Seconds a run of a check took, up to its deadline.",
    labels=("check",),
    buckets=DEFAULT_BUCKETS,
    scope="app",
)
HEALTH_LAST_RUN = MetricSpec(
    name="health_check_last_run_timestamp_seconds",
    kind="gauge",
    help="When a check last came to an end, in seconds since the epoch; its age is time() minus this.",
    labels=("check",),
    mode="livemax",
    scope="app",
)
HEALTH_STUCK = MetricSpec(
    name="health_check_stuck_seconds",
    kind="gauge",
    help="Seconds since the start of a check's run that is past its timeout and not back; 0 when none is.",
    labels=("check",),
    mode="livemax",
    scope="app",
)
MAINTENANCE_MODE = MetricSpec(
    name="maintenance_mode",
    kind="gauge",
    help="1 for the mode maintenance is in (off, read-only, full), 0 for the others.",
    labels=("mode",),
    mode="livemax",
    states=MAINTENANCE_MODES,
    scope="app",
)

MAINTENANCE_ACTORS = ("env", "api", "cli", "schedule", "other")
MAINTENANCE_CHANGES = MetricSpec(
    name="maintenance_changes_total",
    kind="counter",
    help="Changes of maintenance a worker noticed, by the mode it entered and who ordered it.",
    labels=("mode", "actor"),
    scope="app",
)
STATE_UP = MetricSpec(
    name="svc_infra_state_up",
    kind="gauge",
    help="1 while the store that circuits and maintenance are shared through answers every worker, else 0.",
    mode="livemin",
    scope="app",
)

CLIENT_REQUESTS = MetricSpec(
    name="http_client_requests_total",
    kind="counter",
    help="Outgoing requests, by method, host and status ('error' when no response came).",
    labels=("method", "host", "status"),
)
CLIENT_DURATION = MetricSpec(
    name="http_client_request_duration_seconds",
    kind="histogram",
    help="Seconds an outgoing request took until its response's headers, or its failure.",
    labels=("method", "host"),
    buckets=DEFAULT_BUCKETS,
)

POOL_SIZE = MetricSpec(
    name="db_pool_size",
    kind="gauge",
    help="Connections a pool may keep, all workers together.",
    labels=("pool",),
    mode="livesum",
)
POOL_IN_USE = MetricSpec(
    name="db_pool_in_use",
    kind="gauge",
    help="Connections checked out of a pool now.",
    labels=("pool",),
    mode="livesum",
)
POOL_AVAILABLE = MetricSpec(
    name="db_pool_available",
    kind="gauge",
    help="Connections a pool can still hand out without overflowing.",
    labels=("pool",),
    mode="livesum",
)
POOL_OVERFLOW = MetricSpec(
    name="db_pool_overflow",
    kind="gauge",
    help="Connections open beyond a pool's size.",
    labels=("pool",),
    mode="livesum",
)
POOL_CHECKED_OUT = MetricSpec(
    name="db_pool_checkedout_total",
    kind="counter",
    help="Times a connection was checked out of a pool.",
    labels=("pool",),
)
POOL_CHECKED_IN = MetricSpec(
    name="db_pool_checkedin_total",
    kind="counter",
    help="Times a connection was given back to a pool.",
    labels=("pool",),
)

FILES_SKIPPED = MetricSpec(
    name="svc_infra_metric_files_skipped_total",
    kind="counter",
    help="Damaged multiprocess files that were set aside; what they held is missing from the totals.",
)

COMPAT_REQUESTS = MetricSpec(
    name="http_server_requests_total",
    kind="counter",
    help="Requests answered, under svc-infra's name.",
    labels=("method", "route", "code"),
    scope="app",
)
COMPAT_DURATION = MetricSpec(
    name="http_server_request_duration_seconds",
    kind="histogram",
    help="Seconds from a request's arrival to the end of its response, under svc-infra's name.",
    labels=("route", "method"),
    buckets=DEFAULT_BUCKETS,
    scope="app",
    configurable=True,
)
COMPAT_IN_FLIGHT = MetricSpec(
    name="http_server_inflight_requests",
    kind="gauge",
    help="Requests being answered now, by route, under svc-infra's name.",
    labels=("route",),
    mode="livesum",
    scope="app",
)
COMPAT_SIZE = MetricSpec(
    name="http_server_response_size_bytes",
    kind="histogram",
    help="Bytes of a response's body, under svc-infra's name.",
    labels=("route", "method"),
    buckets=(256, 512, 1024, 2048, 4096, 8192, 32768, 131072, 524288, 1048576),
    scope="app",
)
COMPAT_EXCEPTIONS = MetricSpec(
    name="http_server_exceptions_total",
    kind="counter",
    help="Exceptions no handler of the app took, under svc-infra's name.",
    labels=("route", "method"),
    scope="app",
)
COMPAT: tuple[MetricSpec, ...] = (
    COMPAT_REQUESTS,
    COMPAT_DURATION,
    COMPAT_IN_FLIGHT,
    COMPAT_SIZE,
    COMPAT_EXCEPTIONS,
)
"""Shown beside the others with ``compat="svc-infra"`` only."""

CONTRACT = frozenset({HTTP_REQUESTS, HTTP_DURATION, HTTP_IN_PROGRESS, BREAKER_STATE})
"""Shown by name even before they have a value."""

CATALOG: tuple[MetricSpec, ...] = (
    HTTP_REQUESTS,
    HTTP_DURATION,
    HTTP_IN_PROGRESS,
    BREAKER_STATE,
    BREAKER_CALLS,
    BREAKER_TRANSITIONS,
    BULKHEAD_IN_FLIGHT,
    BULKHEAD_LIMIT,
    BULKHEAD_REJECTED,
    RETRY_FAILURES,
    HEALTH_UP,
    HEALTH_RUNS,
    HEALTH_DURATION,
    HEALTH_LAST_RUN,
    HEALTH_STUCK,
    MAINTENANCE_MODE,
    MAINTENANCE_CHANGES,
    STATE_UP,
    CLIENT_REQUESTS,
    CLIENT_DURATION,
    POOL_SIZE,
    POOL_IN_USE,
    POOL_AVAILABLE,
    POOL_OVERFLOW,
    POOL_CHECKED_OUT,
    POOL_CHECKED_IN,
    FILES_SKIPPED,
)
