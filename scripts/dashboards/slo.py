"""How much error budget is left, how fast it burns, and when it will be gone."""

from __future__ import annotations

from .common import SCOPE, TAGS, links, notes, service_variables
from .model import GREEN, ORANGE, RED, YELLOW, Column, Dashboard, Panel, Query, Row, Step, Variable

_CHOSEN = f'{SCOPE}, slo=~"$slo"'
_BY = "by (namespace, job, slo)"
_ON = "on (namespace, job, slo)"
_NAME = "{{job}} {{slo}}"


def _of(series: str, window: str = "") -> str:
    """One number per objective, whatever extra labels the rules carry."""
    matchers = f'{_CHOSEN}, window="{window}"' if window else _CHOSEN
    return f"sum {_BY} ({series}{{{matchers}}})"


_REMAINING = _of("slo:error_budget:remaining")
_DAYS_LEFT = (
    f"clamp_min({_REMAINING}, 0) * {_ON} {_of('slo:window_days')} / {_ON} ({_of('slo:burn_rate', '6h')} > 0)"
)
_BUDGET_STEPS = (Step(None, RED), Step(0, ORANGE), Step(0.25, YELLOW), Step(0.5, GREEN))
_BURN_STEPS = (Step(None, GREEN), Step(1, YELLOW), Step(3, ORANGE), Step(6, RED))

_OVERVIEW = Row(
    "",
    [
        Panel(
            kind="table",
            title="Objectives",
            description=(
                "Every objective: what was declared, what share of requests was good over the last hour, how "
                "fast the budget burns, and what is left of it. Sorted by what is left."
            ),
            unit="short",
            queries=[
                Query(_of("slo:objective")),
                Query(f"1 - {_of('slo:error_ratio', '1h')}"),
                Query(_of("slo:burn_rate", "1h")),
                Query(_DAYS_LEFT),
                Query(_REMAINING),
            ],
            width=24,
            height=6,
            columns=[
                Column("namespace", "Namespace"),
                Column("job", "Job"),
                Column("slo", "Objective"),
                Column("Value #A", "Declared", "percentunit"),
                Column("Value #B", "Good over 1h", "percentunit"),
                Column("Value #C", "Burn rate over 1h", "short"),
                Column("Value #D", "Days to exhaustion", "d"),
                Column("Value #E", "Budget left", "percentunit"),
            ],
            ascending=True,
            no_value="no objectives: load the generated rules",
        ),
    ],
)

_EACH = Row(
    "$slo",
    [
        Panel(
            kind="stat",
            title="Error Budget Left",
            description="What may still fail in the objective's window. 0 %: spent. Negative: overspent.",
            unit="percentunit",
            queries=[Query(_REMAINING, _NAME)],
            width=4,
            steps=_BUDGET_STEPS,
            decimals=1,
        ),
        Panel(
            kind="stat",
            title="Burn Rate (1h)",
            description="Budgets spent per window at the speed of the last hour; at 1 it lasts just as long.",
            unit="short",
            queries=[Query(_of("slo:burn_rate", "1h"), _NAME)],
            width=4,
            steps=_BURN_STEPS,
            no_value="no traffic",
            decimals=1,
        ),
        Panel(
            kind="stat",
            title="Days to Exhaustion",
            description="When the budget is gone at the speed of the last six hours. No data: nothing burns.",
            unit="d",
            queries=[Query(_DAYS_LEFT, _NAME)],
            width=4,
            steps=(Step(None, RED), Step(3, ORANGE), Step(7, YELLOW), Step(30, GREEN)),
            no_value="never, at this speed",
            decimals=1,
        ),
        Panel(
            kind="timeseries",
            title="Requests and Bad Requests",
            description="Requests the objective counts, and those of them that were bad, per second.",
            unit="reqps",
            queries=[
                Query(_of("slo:requests:rate5m"), "{{job}} requests"),
                Query(_of("slo:errors:rate5m"), "{{job}} bad"),
            ],
            width=12,
            minimum=0,
        ),
        Panel(
            kind="timeseries",
            title="Error Budget over Time",
            description="What was left at each moment, of the window that ended then.",
            unit="percentunit",
            queries=[Query(_REMAINING, _NAME)],
            width=12,
            maximum=1,
            steps=_BUDGET_STEPS,
        ),
        Panel(
            kind="timeseries",
            title="Burn Rate by Window",
            description=(
                "A page needs 14.4 over 1h and 5m, or 6 over 6h and 30m; a ticket 3 over 1d and 2h, or 1 "
                "over 3d and 6h."
            ),
            unit="short",
            queries=[
                Query(
                    f"sum by (namespace, job, slo, window) (slo:burn_rate{{{_CHOSEN}}})", "{{job}} {{window}}"
                )
            ],
            width=12,
            minimum=0,
            steps=_BURN_STEPS,
            no_value="no traffic",
        ),
    ],
    repeat="slo",
)

DASHBOARD = Dashboard(
    uid="svc-infra-slo",
    title="Service Level Objectives",
    description=(
        "Error budgets and how fast they burn. Needs the rules that `flask svc-infra rules generate` writes."
    ),
    tags=TAGS,
    rows=[_OVERVIEW, _EACH],
    variables=[
        *service_variables("slo:objective"),
        Variable(
            name="slo",
            label="Objective",
            query=f"label_values(slo:objective{{{SCOPE}}}, slo)",
            description="Objectives; each gets a row of its own.",
        ),
    ],
    annotations=notes(),
    links=links("svc-infra-slo"),
    time_from="now-24h",
)
