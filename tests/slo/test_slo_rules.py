"""What the generated rules say about made-up traffic, by promtool."""

from __future__ import annotations

import time

import pytest
import yaml
from support.prometheus import promtool
from support.promql_ast import grouped_labels, selectors
from support.rule_tests import Moment, check_rules, firing

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.obs.catalog import CATALOG
from flask_svc_infra.obs.rules import Recording, Scope, operator_document, to_rule_file
from flask_svc_infra.obs.slo import SLO
from flask_svc_infra.obs.slo_rules import slo_groups
from flask_svc_infra.obs.slo_tests import rule_test_document
from flask_svc_infra.obs.yaml_text import to_yaml

ODD = 'a|b "c" \\d\\ {e} $1 ü (f) [g]^'
AVAILABILITY = SLO("availability", objective=0.999)
WEB = Scope(job="web")


def rules(*slos: SLO, scope: Scope = WEB) -> str:
    return to_rule_file(slo_groups(slos, scope))


def requests(status: str = "200", *, job: str = "web", path: str = "/orders", method: str = "GET") -> str:
    path = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'http_requests_total{{job="{job}", method="{method}", path="{path}", status="{status}"}}'


def ratio(slo: str, window: str, at: str, value: float | None, job: str = "web") -> Moment:
    labels = f'job="{job}", slo="{slo}", window="{window}"'
    samples = {} if value is None else {f"{{{labels}}}": value}
    return Moment(at, f"round(slo:error_ratio{{{labels}}}, 0.0001)", samples)


@pytest.mark.parametrize(
    ("slo", "scope"),
    [
        (
            SLO("latency", objective=0.99, latency=1, route_class=ODD),
            Scope(by=("job",), labels={"team": "a b"}),
        ),
        (
            SLO("loose", objective=0.9, path="/a.b/<int:id>", methods=["POST"], exclude_status=[500, "4xx"]),
            Scope(job="web", by=("cluster",)),
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_generated_tests_pass(tmp_path, slo, scope):
    """The plain availability objective goes through the command, see test_commands_rules.py."""
    (tmp_path / "rules.yaml").write_text(rules(slo, scope=scope), encoding="utf-8")
    (tmp_path / "tests.yaml").write_text(to_yaml(rule_test_document(slo, scope)), encoding="utf-8")
    done = promtool("test", "rules", "tests.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("> 0.0144", "> 1.44", "total outage pages"),
        (">= 5", ">= 0", "a few failures"),
        (") / 0.001", ") - 0.001", "budget exactly spent"),
        ("> 0.006", "> 0.0006", "slow burn"),
    ],
    ids=["blind", "nervous", "the documented formula", "hasty"],
)
def test_generated_tests_catch_wrong_rules(tmp_path, right, wrong, complaint):
    """The tests are only worth something if they fail: here for four mistakes."""
    text = rules(AVAILABILITY)
    assert right in text
    document = rule_test_document(AVAILABILITY, WEB)
    document["tests"] = [test for test in document["tests"] if complaint in test["name"]]
    (tmp_path / "rules.yaml").write_text(text.replace(right, wrong), encoding="utf-8")
    (tmp_path / "tests.yaml").write_text(to_yaml(document), encoding="utf-8")
    done = promtool("test", "rules", "tests.yaml", cwd=tmp_path)
    assert document["tests"]
    assert done.returncode == 1
    assert "FAILED" in done.stdout + done.stderr


def test_promtool_accepts_what_is_generated(tmp_path):
    slos = [
        AVAILABILITY,
        SLO("latency", objective=0.99, latency=0.25, path="/a|b", route_class=ODD, description="{{ nope }}"),
        SLO("short", objective=0.5, window="1d", runbook="https://example.com/x"),
    ]
    (tmp_path / "rules.yaml").write_text(rules(*slos), encoding="utf-8")
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("route_class", [ODD, "a|b", '"', "\\", "Ünïcode→", ".*", "[|]", "x$", "{{ x }}"])
def test_route_classes_select_their_requests_and_no_others(tmp_path, route_class):
    slo = SLO("c", objective=0.9, route_class=route_class)
    series = {
        requests(path=f"/orders|{route_class}"): "0+3x20",
        requests("500", path=f"/orders|{route_class}"): "0+1x20",
        requests("500", path="/orders|other"): "0+50x20",
        requests("500", path="/orders"): "0+50x20",
        requests("500", path=f"/orders|x|{route_class}"): "0+50x20",
    }
    check_rules(tmp_path, rules(slo), series, [ratio("c", "5m", "10m", 0.25)], interval="30s")


@pytest.mark.parametrize("path", ["/orders/<int:id>", "/a.b", '/q"\\'])
def test_a_path_counts_with_and_without_a_class_but_is_not_a_prefix(tmp_path, path):
    series = {
        requests(path=path): "0+1x20",
        requests(path=f"{path}|public"): "0+2x20",
        requests("503", path=f"{path}|public"): "0+1x20",
        requests("500", path=path + "/items"): "0+50x20",
        requests("500", path="/aXb"): "0+50x20",
    }
    slo = SLO("p", objective=0.9, path=path)
    check_rules(tmp_path, rules(slo), series, [ratio("p", "5m", "10m", 0.25)], interval="30s")


def test_a_path_and_a_class_together_are_one_label(tmp_path):
    series = {requests(path="/o|x"): "0+1x20", requests("500", path="/o|x"): "0+1x20"}
    series |= {requests("500", path="/o"): "0+9x20", requests("500", path="/p|x"): "0+9x20"}
    slo = SLO("p", objective=0.9, path="/o", route_class="x")
    check_rules(tmp_path, rules(slo), series, [ratio("p", "5m", "10m", 0.5)], interval="30s")


def test_a_bar_in_a_rules_converter_is_not_taken_for_the_class(tmp_path):
    path = '/x/<re("a|b"):y>|b'
    series = {requests(path=path): "0+3x20", requests("500", path=path): "0+1x20"}
    slo = SLO("c", objective=0.9, route_class="b")
    check_rules(tmp_path, rules(slo), series, [ratio("c", "5m", "10m", 0.25)], interval="30s")


def test_excluded_statuses_are_neither_good_nor_bad(tmp_path):
    series = {
        requests("200"): "0+6x20",
        requests("503"): "0+50x20",
        requests("404"): "0+50x20",
        requests("500"): "0+2x20",
    }
    slo = SLO("e", objective=0.9, exclude_status=[503, "4xx"])
    check_rules(tmp_path, rules(slo), series, [ratio("e", "5m", "10m", 0.25)], interval="30s")


def test_methods_narrow_what_counts(tmp_path):
    series = {requests(method="GET"): "0+3x20", requests("500", method="HEAD"): "0+1x20"}
    series |= {requests("500", method="POST"): "0+9x20"}
    slo = SLO("m", objective=0.9, methods=["GET", "HEAD"])
    check_rules(tmp_path, rules(slo), series, [ratio("m", "5m", "10m", 0.25)], interval="30s")


def test_probes_are_no_customers(tmp_path):
    series = {
        requests(): "0+3x20",
        requests("500"): "0+1x20",
        requests("503", path="/_health/ready"): "0+9x20",
    }
    check_rules(
        tmp_path, rules(AVAILABILITY), series, [ratio("availability", "5m", "10m", 0.25)], interval="30s"
    )


def test_services_are_judged_each_on_its_own(tmp_path):
    series = {requests(): "0+1x20", requests("500", job="batch"): "0+1x20"}
    moments = [ratio("availability", "5m", "10m", 0), ratio("availability", "5m", "10m", 1, job="batch")]
    check_rules(tmp_path, rules(AVAILABILITY, scope=Scope()), series, moments, interval="30s")


def test_a_job_keeps_other_services_out(tmp_path):
    series = {requests(): "0+1x20", requests("500", job="batch"): "0+1x20"}
    moments = [ratio("availability", "5m", "10m", 0), ratio("availability", "5m", "10m", None, job="batch")]
    check_rules(tmp_path, rules(AVAILABILITY), series, moments, interval="30s")


@pytest.mark.parametrize("le", ["1.0", "1"])
def test_a_whole_latency_finds_its_bucket_however_it_is_spelt(tmp_path, le):
    name = 'http_request_duration_seconds_{}{{job="web", method="GET", path="/"{}}}'
    series = {
        name.format("bucket", f', le="{le}"'): "0+3x20",
        name.format("bucket", ', le="10.0"'): "0+4x20",
        name.format("count", ""): "0+4x20",
    }
    slo = SLO("l", objective=0.9, latency=1)
    check_rules(tmp_path, rules(slo), series, [ratio("l", "5m", "10m", 0.25)], interval="30s")


def test_a_latency_that_is_no_bound_is_reported_not_taken_for_success(tmp_path):
    name = 'http_request_duration_seconds_{}{{job="web", method="GET", path="/"{}}}'
    series = {name.format("bucket", ', le="1.0"'): "0+3x60", name.format("count", ""): "0+4x60"}
    series[requests(path="/")] = "0+4x60"
    slo = SLO("l", objective=0.9, latency=0.3)
    moments = [
        ratio("l", "5m", "25m", None),
        firing("25m", "SLOMetricAbsent", 'job="web", severity="ticket", slo="l"'),
    ]
    check_rules(tmp_path, rules(slo), series, moments, interval="30s")


def test_a_latency_nobody_asked_for_is_no_trouble(tmp_path):
    series = {requests(path="/rare"): "0x60", requests("500", path="/rare"): "0x60"}
    slo = SLO("l", objective=0.9, latency=0.3, path="/rare")
    check_rules(tmp_path, rules(slo), series, [firing("25m", "SLOMetricAbsent")], interval="30s")


def test_a_service_that_is_not_scraped_is_reported(tmp_path):
    moments = [
        firing("5m", "SLOMetricAbsent"),
        firing("12m", "SLOMetricAbsent", 'job="web", severity="ticket", slo="availability"'),
    ]
    check_rules(tmp_path, rules(AVAILABILITY), {"up": "0x60"}, moments, interval="30s")


def test_errors_begin_at_zero_before_any_failed(tmp_path):
    zero = {'slo:errors:rate5m{job="web", slo="availability"}': 0.0}
    check_rules(
        tmp_path, rules(AVAILABILITY), {requests(): "0+1x20"}, [Moment("10m", "slo:errors:rate5m", zero)],
        interval="30s",
    )  # fmt: skip


def test_budget_burn_and_objective_are_recorded(tmp_path):
    series = {requests(): "0+1996x60", requests("500"): "0+4x60"}
    labels = '{job="web", slo="availability"}'
    moments = [
        Moment("30m", "round(slo:error_budget:remaining, 0.001)", {labels: -1}),
        Moment("30m", 'round(slo:burn_rate{window="6h"}, 0.001)', {labels[:-1] + ', window="6h"}': 2}),
        Moment("30m", "slo:objective", {f"slo:objective{labels}": 0.999}),
        Moment("30m", "slo:window_days", {f"slo:window_days{labels}": 30}),
    ]
    check_rules(tmp_path, rules(AVAILABILITY), series, moments, interval="30s")


def test_a_threshold_no_outage_could_reach_is_lowered(tmp_path):
    text = rules(SLO("loose", objective=0.9))
    assert "> 1.44" not in text
    assert text.count("> 0.55") == 4, "page at 1h and 6h: halfway between the budget and everything failing"


def test_alerts_look_back_no_further_than_the_objective():
    document = yaml.safe_load(rules(SLO("day", objective=0.99, window="1d")))
    alerts = [rule for group in document["groups"] for rule in group["rules"] if "alert" in rule]
    assert [alert["labels"].get("window") for alert in alerts] == ["1h", "6h", None, "1d"]


def test_alert_annotations_carry_the_numbers(tmp_path):
    slo = SLO("pay", objective=0.99, description="People can {{pay}}", runbook="https://wiki.example/pay")
    expected = {
        "eval_time": "10m",
        "alertname": "ErrorBudgetBurn",
        "exp_alerts": [
            {
                "exp_labels": {
                    "job": "web",
                    "slo": "pay",
                    "severity": severity,
                    "window": long,
                    "short_window": short,
                },
                "exp_annotations": {
                    "summary": f"web burns the error budget of 'pay' at over {factor}x",
                    "description": (
                        "50% of the requests counted by 'pay' (People can {{pay}}) were bad over the last "
                        f"{long}, and too many over the last {short}; 1% may be. At {factor} times that, "
                        f"{gone}% of the budget for 30d is gone in {long}."
                    ),
                    "runbook_url": "https://wiki.example/pay",
                },
            }
            for severity, long, short, factor, gone in [
                ("page", "1h", "5m", "14.4", "2"),
                ("page", "6h", "30m", "6", "5"),
                ("ticket", "1d", "2h", "3", "10"),
                ("ticket", "3d", "6h", "1", "10"),
            ]
        ],
    }
    series = {requests(): "0+5x30", requests("500"): "0+5x30"}
    check_rules(tmp_path, rules(slo), series, [], interval="30s", alerts=[expected])


def test_every_metric_and_label_is_in_the_catalog_or_recorded_here():
    slos = [AVAILABILITY, SLO("l", objective=0.9, latency=0.5, methods=["GET"], route_class="x")]
    groups = slo_groups(slos)
    recorded = {rule.record for group in groups for rule in group.rules if isinstance(rule, Recording)}
    known = {name: {"namespace", "job", "slo", "window"} for name in recorded}
    known |= {name: {*spec.labels, "le", "job"} for spec in CATALOG for name in spec.samples}
    for group in groups:
        for rule in group.rules:
            for metric, matchers in selectors(rule.expr):
                assert set(matchers) <= known[metric], rule
            assert grouped_labels(rule.expr) <= {"namespace", "job"}


def test_extra_labels_are_on_every_rule():
    scope = Scope(job="web", namespace="shop", labels={"team": "a"})
    for group in slo_groups([AVAILABILITY], scope):
        assert all(rule.labels["team"] == "a" for rule in group.rules)


@pytest.mark.parametrize("label", ["severity", "slo", "job", "window"])
def test_a_label_the_rules_set_themselves_is_refused(label):
    with pytest.raises(ConfigurationError, match=f"'{label}' is set by the rules themselves"):
        Scope(labels={label: "x"})


def test_an_operator_document_holds_the_same_groups():
    document = operator_document(
        slo_groups([AVAILABILITY]), name="web", namespace="shop", labels={"release": "p"}
    )
    assert document["apiVersion"] == "monitoring.coreos.com/v1"
    assert document["kind"] == "PrometheusRule"
    assert document["metadata"] == {"name": "web", "namespace": "shop", "labels": {"release": "p"}}
    assert document["spec"] == yaml.safe_load(rules(AVAILABILITY, scope=Scope()))


def test_a_name_kubernetes_refuses_is_refused_here():
    with pytest.raises(ConfigurationError, match="lower-case letters"):
        operator_document([], name="Web_Rules")


def test_a_hundred_objectives_take_less_than_a_second(tmp_path):
    slos = [SLO(f"s{i}", objective=0.999, path=f"/a/{i}", route_class="public") for i in range(100)]
    # This process's own time: what else a busy machine does is no finding.
    began = time.process_time()
    text = rules(*slos)
    assert time.process_time() - began < 1
    (tmp_path / "rules.yaml").write_text(text, encoding="utf-8")
    assert promtool("check", "rules", tmp_path / "rules.yaml").returncode == 0
