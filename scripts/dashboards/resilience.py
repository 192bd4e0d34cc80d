"""What keeps a service up while something else is down: circuits, retries, bulkheads, checks, maintenance."""

from __future__ import annotations

from .common import REQUESTS, SCOPE, TAGS, links, notes, service_variables
from .model import GREEN, ORANGE, RED, YELLOW, Dashboard, Panel, Query, Row, Step

_BREAKER = "circuit_breaker_state"
_CALLS = "circuit_breaker_calls_total"
_REJECTED = ', outcome="rejected"'
_STATES = {"0": ("closed", GREEN), "1": ("half-open", YELLOW), "2": ("open", RED)}
_MODES = {"0": ("off", GREEN), "1": ("read-only", YELLOW), "2": ("full", RED)}
_UP = {"1": ("up", GREEN), "0": ("down", RED)}


def _rate(metric: str, more: str = "") -> str:
    return f"rate({metric}{{{SCOPE}{more}}}[$__rate_interval])"


_CIRCUITS = Row(
    "Circuit breakers",
    [
        Panel(
            kind="state-timeline",
            title="Circuit States",
            description="Each circuit's state, the worst of all workers. Without calls no state changes.",
            unit="short",
            queries=[
                Query(
                    f'max by (job, name) (2 * {_BREAKER}{{{SCOPE}, state="open"}} '
                    f'or {_BREAKER}{{{SCOPE}, state="half_open"}})',
                    "{{job}} {{name}}",
                )
            ],
            width=18,
            texts=_STATES,
            no_value="no circuits",
        ),
        Panel(
            kind="stat",
            title="Open Circuits",
            description="How many circuits are open in at least one worker.",
            unit="short",
            queries=[
                Query(
                    f'count(max by (job, name) ({_BREAKER}{{{SCOPE}, state="open"}}) == 1) or vector(0)',
                    "open",
                )
            ],
            width=6,
            steps=(Step(None, GREEN), Step(1, RED)),
        ),
        Panel(
            kind="timeseries",
            title="Rejected Calls",
            description="Calls refused: the circuit was open, or half-open with all its trials in flight.",
            unit="cps",
            queries=[Query(f"sum by (job, name) ({_rate(_CALLS, _REJECTED)})", "{{job}} {{name}}")],
            width=8,
            minimum=0,
        ),
        Panel(
            kind="timeseries",
            title="Calls by Outcome",
            description="All calls through circuits. Ignored: ended by an exception that is no failure.",
            unit="cps",
            queries=[Query(f"sum by (outcome) ({_rate(_CALLS)})", "{{outcome}}")],
            width=8,
            minimum=0,
            stacked=True,
        ),
        Panel(
            kind="timeseries",
            title="Transitions",
            description="Changes of state, by the state entered; many of them is a circuit that flaps.",
            unit="short",
            queries=[
                Query(
                    "sum by (job, name, state) "
                    f"(increase(circuit_breaker_transitions_total{{{SCOPE}}}[$__rate_interval]))",
                    "{{job}} {{name}} to {{state}}",
                )
            ],
            width=8,
            minimum=0,
        ),
    ],
)

_LIMITS = Row(
    "Retries and bulkheads",
    [
        Panel(
            kind="timeseries",
            title="Failed Attempts",
            description="Failed attempts of retried functions. Retried: load added to what fails already.",
            unit="cps",
            queries=[
                Query(
                    f"sum by (function, outcome) ({_rate('retry_failed_attempts_total')})",
                    "{{function}} {{outcome}}",
                )
            ],
            width=8,
            minimum=0,
            no_value="no retries",
        ),
        Panel(
            kind="timeseries",
            title="Bulkheads in Use",
            description="The share of each bulkhead that is taken; at 100 % the next call is refused.",
            unit="percentunit",
            queries=[
                Query(
                    f"sum by (job, name) (bulkhead_in_flight{{{SCOPE}}}) "
                    f"/ (sum by (job, name) (bulkhead_max_concurrent{{{SCOPE}}}) > 0)",
                    "{{job}} {{name}}",
                )
            ],
            width=8,
            minimum=0,
            maximum=1,
            steps=(Step(None, GREEN), Step(0.8, ORANGE), Step(1, RED)),
            no_value="no bulkheads",
        ),
        Panel(
            kind="timeseries",
            title="Refused by Bulkheads",
            description="Calls a full bulkhead refused.",
            unit="cps",
            queries=[Query(f"sum by (job, name) ({_rate('bulkhead_rejected_total')})", "{{job}} {{name}}")],
            width=8,
            minimum=0,
            no_value="no bulkheads",
        ),
    ],
)

_CHECKS = Row(
    "Health checks",
    [
        Panel(
            kind="state-timeline",
            title="Checks",
            description="Up: healthy or degraded in every pod. Down: unhealthy or unknown in at least one.",
            unit="short",
            queries=[Query(f"min by (job, check) (health_check_up{{{SCOPE}}})", "{{job}} {{check}}")],
            width=24,
            height=7,
            texts=_UP,
            no_value="no checks have run",
        ),
        Panel(
            kind="timeseries",
            title="P99 Check Duration",
            description="One run in a hundred took at least this long, up to its deadline.",
            unit="s",
            queries=[
                Query(
                    "histogram_quantile(0.99, sum by (job, check, le) "
                    f"({_rate('health_check_duration_seconds_bucket')}))",
                    "{{job}} {{check}}",
                )
            ],
            width=8,
            minimum=0,
            no_value="no checks have run",
        ),
        Panel(
            kind="timeseries",
            title="Age of Last Run",
            description="How long ago each check last came to an end; probes make them run.",
            unit="s",
            queries=[
                Query(
                    f"time() - max by (job, check) (health_check_last_run_timestamp_seconds{{{SCOPE}}})",
                    "{{job}} {{check}}",
                )
            ],
            width=8,
            minimum=0,
            no_value="no checks have run",
        ),
        Panel(
            kind="timeseries",
            title="Hanging Runs",
            description="How long each check's run has been past its deadline; 0 when none is.",
            unit="s",
            queries=[
                Query(f"max by (job, check) (health_check_stuck_seconds{{{SCOPE}}})", "{{job}} {{check}}")
            ],
            width=8,
            minimum=0,
            steps=(Step(None, GREEN), Step(60, RED)),
            no_value="no checks have run",
        ),
    ],
)

_MAINTENANCE = Row(
    "Maintenance",
    [
        Panel(
            kind="state-timeline",
            title="Maintenance",
            description="Read-only refuses writes, full everything; the strictest of all workers shows.",
            unit="short",
            queries=[
                Query(
                    f'max by (job) (2 * maintenance_mode{{{SCOPE}, mode="full"}} '
                    f'or maintenance_mode{{{SCOPE}, mode="read-only"}})',
                    "{{job}}",
                )
            ],
            width=24,
            height=5,
            texts=_MODES,
        ),
    ],
)

DASHBOARD = Dashboard(
    uid="svc-infra-resilience",
    title="Service Resilience",
    description="Circuits, retries, bulkheads, health checks and maintenance of a Flask service.",
    tags=TAGS,
    rows=[_CIRCUITS, _LIMITS, _CHECKS, _MAINTENANCE],
    variables=service_variables(REQUESTS),
    annotations=notes(),
    links=links("svc-infra-resilience"),
)
