"""OpenSLO v1, out and in."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.obs.openslo import openslo_documents, read_openslo, slos_from_openslo
from flask_svc_infra.obs.slo import SLO

TEXT = st.text(st.characters(codec="utf-8"), min_size=1)
FOREIGN = """
apiVersion: openslo/v1
kind: Service
metadata: {name: shop}
---
apiVersion: openslo/v1
kind: SLO
metadata:
  name: checkout
spec:
  service: shop
  description: People can pay
  indicator:
    metadata: {name: checkout}
    spec:
      ratioMetric:
        counter: true
        good:
          metricSource:
            type: Prometheus
            spec: {query: 'sum(http_requests_total{path="/pay|public", method="POST", status!~"5.."})'}
        total:
          metricSource:
            type: Prometheus
            spec: {query: 'sum(rate(http_requests_total{path="/pay|public",method="POST"}[5m]))'}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: most, targetPercent: 99.5}]
"""


@given(
    st.builds(
        SLO,
        st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True),
        objective=st.floats(0.5, 0.99999).map(lambda x: round(x, 5)),
        latency=st.none() | st.sampled_from([0.25, 1.0, 2.5]),
        path=st.none() | TEXT.map(lambda text: "/" + text.replace("|", "")),
        route_class=st.none() | TEXT,
        methods=st.none() | st.lists(st.sampled_from(["GET", "PUT"]), min_size=1, unique=True).map(tuple),
        window=st.sampled_from(["7d", "28d", "30d"]),
        description=st.none() | TEXT.filter(str.strip),
    )
)
def test_what_is_written_is_read_back(slo):
    assert slos_from_openslo(json.loads(json.dumps(openslo_documents([slo])))) == [slo]


def test_excluded_statuses_are_read_back():
    slo = SLO("a", objective=0.9, exclude_status=[503, "4xx"])
    assert slos_from_openslo(openslo_documents([slo])) == [slo]


@pytest.mark.needs("yaml")
def test_a_document_written_by_hand_is_read():
    assert read_openslo(FOREIGN) == [
        SLO(
            "checkout",
            objective=0.995,
            path="/pay",
            route_class="public",
            methods=["POST"],
            window="28d",
            description="People can pay",
        )
    ]


def broken(change) -> dict:
    document = copy.deepcopy(openslo_documents([SLO("a", objective=0.9)])[0])
    change(document)
    return document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(apiVersion="openslo/v2"), "Only openslo/v1"),
        (lambda d: d["spec"]["objectives"].append({"target": 0.5}), "one document for each"),
        (lambda d: d["spec"].update(objectives=[]), "has 0 objectives"),
        (lambda d: d["spec"].update(budgetingMethod="Timeslices"), "budgets by Timeslices"),
        (lambda d: d["spec"].update(timeWindow=[{"duration": "1M", "isRolling": False}]), "rolling"),
        (lambda d: d["spec"].update(indicatorRef="x", indicator=None), "ratioMetric"),
        (lambda d: d["spec"]["objectives"][0].update(target=99.9), "objective=0.999"),
        (
            lambda d: d["spec"]["indicator"]["spec"]["ratioMetric"]["total"]["metricSource"]["spec"].update(
                query="sum(other_total)"
            ),
            "only what this package measures",
        ),
    ],
)
def test_what_these_rules_cannot_judge_is_refused(change, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        slos_from_openslo([broken(change)])
    assert "'a'" in str(caught.value)


@pytest.mark.needs("yaml")
@pytest.mark.parametrize("text", ["{", "a: [", "- x\n y: :"])
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_openslo(text)


def test_other_kinds_are_passed_over():
    assert slos_from_openslo([{"kind": "Service"}, None, "x"]) == []
