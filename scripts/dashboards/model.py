"""The part of Grafana's dashboard model that the bundled dashboards use, as frozen values.

The JSON is Grafana's classic model, schema version 39, as Grafana 10.4 wrote it; newer ones
migrate it themselves.
What every panel must have is an argument without a default here: a unit, a description, a query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 39
WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Kind = Literal["timeseries", "stat", "table", "state-timeline"]
Json = dict[str, Any]

GREEN, YELLOW, ORANGE, RED, BLUE = "green", "yellow", "orange", "red", "blue"


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL query and how its series are called."""

    expr: str
    legend: str = ""

    def json(self, ref: str, *, instant: bool) -> Json:
        """Arrange it as a panel's target."""
        target: Json = {
            "refId": ref,
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": self.expr,
            "legendFormat": self.legend or "__auto",
            "range": not instant,
            "instant": instant,
        }
        if instant:
            target["format"] = "table"
        return target


@dataclass(frozen=True, slots=True)
class Step:
    """From *value* on (None: from minus infinity), *color*."""

    value: float | None
    color: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: the field's name, what people read above it, and its unit."""

    field: str
    title: str
    unit: str = "string"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        kind: Grafana's panel type; none of the legacy ones.
        title: what it shows.
        description: how to read it, in one or two sentences.
        unit: Grafana's unit id.
        queries: at least one.
        width: in columns of 24.
        height: in grid rows of 30 px.
        minimum: the axis' lower end; None: as the data has it.
        maximum: the axis' upper end; None: as the data has it.
        steps: thresholds, lowest first.
        stacked: series on top of each other.
        texts: values shown as words, as in ``{"2": ("open", RED)}``.
        columns: a table's columns, left to right, sorted by the last; the queries are ``Value #A`` and on.
        ascending: whether a table's smallest value comes first.
        no_value: what is shown when there is no data.
        decimals: digits after the point; None: as many as are needed.
    """

    kind: Kind
    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    width: int
    height: int = 8
    minimum: float | None = None
    maximum: float | None = None
    steps: Sequence[Step] = (Step(None, GREEN),)
    stacked: bool = False
    texts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    columns: Sequence[Column] = ()
    ascending: bool = False
    no_value: str = "no data"
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A titled row of panels; *repeat* names the variable it is repeated for."""

    title: str
    panels: Sequence[Panel]
    repeat: str | None = None
    collapsed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One choice at the top of the dashboard, filled by a query.

    Attributes:
        name: used in queries as ``$name``.
        label: what people read.
        query: a ``label_values`` query.
        regex: picks the part of each value that is shown and used.
        description: what choosing it does.
    """

    name: str
    label: str
    query: str
    description: str
    regex: str = ""

    def json(self) -> Json:
        """Arrange it as a template variable: several values, all by default, and all means anything."""
        return {
            "type": "query",
            "name": self.name,
            "label": self.label,
            "description": self.description,
            "datasource": DATASOURCE,
            "definition": self.query,
            "query": {"qryType": 1, "query": self.query, "refId": f"variable-{self.name}"},
            "regex": self.regex,
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "options": [],
            "hide": 0,
            "skipUrlSync": False,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """Moments marked on every panel: where *expr* has a value."""

    name: str
    expr: str
    title: str
    text: str
    color: str

    def json(self) -> Json:
        """Arrange it as an annotation query."""
        return {
            "name": self.name,
            "datasource": DATASOURCE,
            "enable": True,
            "hide": False,
            "iconColor": self.color,
            "expr": self.expr,
            "step": "60s",
            "titleFormat": self.title,
            "textFormat": self.text,
            "useValueForTime": False,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard, as it is shipped: the bare model, which provisioning and the import page take."""

    uid: str
    title: str
    description: str
    tags: Sequence[str]
    rows: Sequence[Row]
    variables: Sequence[Variable]
    annotations: Sequence[Annotation] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    """The other dashboards, title by uid."""
    time_from: str = "now-6h"
    refresh: str = "30s"
