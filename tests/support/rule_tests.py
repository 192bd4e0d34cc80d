"""Ask promtool what a rule file says about made-up series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .prometheus import promtool


@dataclass(frozen=True)
class Moment:
    """What *expr* must give at a time: label sets and values; none at all by default."""

    at: str
    expr: str
    samples: Mapping[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        samples = [{"labels": labels, "value": value} for labels, value in self.samples.items()]
        return {"eval_time": self.at, "expr": self.expr, "exp_samples": samples}


def firing(at: str, alert: str, *labels: str) -> Moment:
    """Expect *alert* to fire for just these label sets, written as in ``job="web", severity="warning"``."""
    name = f'alertname="{alert}", alertstate="firing"'
    return Moment(at, f"ALERTS{{{name}}}", {f"ALERTS{{{name}, {more}}}": 1 for more in labels})


def check_rules(
    folder: Path,
    rules: str,
    series: Mapping[str, str],
    moments: Sequence[Moment],
    *,
    interval: str = "15s",
    alerts: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Fail with promtool's own words unless *rules* say *moments* of *series*."""
    (folder / "rules.yaml").write_text(rules, encoding="utf-8")
    case = {
        "interval": interval,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [moment.document() for moment in moments],
        "alert_rule_test": [dict(alert) for alert in alerts],
    }
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": interval, "tests": [case]}
    (folder / "tests.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    done = promtool("test", "rules", "tests.yaml", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
