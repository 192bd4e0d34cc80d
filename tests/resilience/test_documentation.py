"""The page on the breaker draws the table the machine goes by, and names every parameter with its default."""

from __future__ import annotations

import inspect
import re

import pytest
from support.markdown import ROOT

from flask_svc_infra.resilience import Bulkhead, CircuitBreaker, CircuitBreakerStats, with_retry
from flask_svc_infra.resilience.transitions import TRANSITIONS

BREAKER = (ROOT / "docs" / "circuit-breaker.md").read_text(encoding="utf-8")
RETRY = (ROOT / "docs" / "retry.md").read_text(encoding="utf-8")


def test_diagram_draws_every_change_of_state_and_no_other():
    drawn = set(re.findall(r"^    (\w+) --> (\w+):", BREAKER, re.MULTILINE))
    assert drawn == {(str(old), str(new)) for (old, _), new in TRANSITIONS.items() if old is not new}


@pytest.mark.parametrize(
    ("subject", "page"),
    [(CircuitBreaker, BREAKER), (with_retry, RETRY), (Bulkhead, RETRY)],
    ids=["breaker", "retry", "bulkhead"],
)
def test_every_parameter_stands_in_the_table_with_its_default(subject, page):
    rows = re.findall(r"^\| `(\w+)` \| `?([^|`]+)`? \|", page.split("### Tuning")[0], re.MULTILINE)
    table = dict(rows)
    for name, parameter in inspect.signature(subject).parameters.items():
        if name in {"clock", "name"}:
            continue
        assert table[name].strip() == str(parameter.default).replace("<class 'Exception'>", "Exception")


def test_every_count_stands_in_the_table():
    for field in CircuitBreakerStats.__dataclass_fields__:
        assert f"`{field}`" in BREAKER.split("## Statistics")[1].split("## Control")[0]
