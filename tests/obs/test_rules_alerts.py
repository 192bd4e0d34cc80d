"""The bundled alerts, run by promtool on made-up series."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.prometheus import promtool
from support.promql_ast import grouped_labels, selectors
from support.rule_tests import check_rules, firing

from flask_svc_infra.obs.alerts import service_alerts
from flask_svc_infra.obs.catalog import CATALOG
from flask_svc_infra.obs.rules import Scope

RULES = (files("flask_svc_infra") / "obs/prometheus/alerting-rules.yaml").read_text(encoding="utf-8")
ROOT = Path(__file__).parents[2]
REQUESTS = 'http_requests_total{{job="web", method="GET", path="{path}", status="{status}"}}'
BUCKET = 'http_request_duration_seconds_bucket{{job="web", method="GET", path="{path}", le="{le}"}}'
BREAKER = 'circuit_breaker_state{{job="web", instance="{instance}", name="payments", state="{state}"}}'
WARNING = 'job="web", severity="warning"'
CIRCUIT = 'job="web", name="payments", severity="critical"'


def requests(status: str, path: str = "/orders/<int:id>") -> str:
    return REQUESTS.format(path=path, status=status)


def breaker(state: str, instance: str = "a") -> str:
    return BREAKER.format(state=state, instance=instance)


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in yaml.safe_load(RULES)["groups"] for rule in group["rules"]}


def test_promtool_accepts_the_bundled_file(tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES, encoding="utf-8")
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_bundled_file_is_what_the_code_makes():
    argv = [sys.executable, str(ROOT / "scripts/build_alert_rules.py"), "--check"]
    assert subprocess.run(argv, timeout=60, check=False).returncode == 0, "run scripts/build_alert_rules.py"


@pytest.mark.parametrize(
    ("alert", "hold", "severity"),
    [
        ("HighErrorRate", "2m", "warning"),
        ("HighLatency", "5m", "warning"),
        ("CircuitBreakerOpen", "1m", "critical"),
    ],
)
def test_documented_alerts_keep_their_duration_and_severity(alert, hold, severity):
    rule = alerts()[alert]
    assert rule["for"] == hold
    assert rule["labels"]["severity"] == severity


def test_every_alert_says_what_how_much_and_what_to_do():
    runbooks = (ROOT / "docs/runbooks.md").read_text(encoding="utf-8")
    for name, rule in alerts().items():
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
        assert f"\n## {name}\n" in runbooks, f"docs/runbooks.md has no chapter {name}"


def test_error_rate_above_one_percent_warns_after_two_minutes(tmp_path):
    series = {requests("200"): "0+98x40", requests("500"): "0+2x40"}
    moments = [firing("2m", "HighErrorRate"), firing("3m", "HighErrorRate", WARNING)]
    check_rules(tmp_path, RULES, series, moments)


def test_error_rate_at_one_percent_is_silent(tmp_path):
    series = {requests("200"): "0+99x40", requests("500"): "0+1x40"}
    check_rules(tmp_path, RULES, series, [firing("10m", "HighErrorRate")])


def test_first_errors_ever_fire_because_their_counter_was_there_before(tmp_path):
    series = {requests("200"): "0+90x60", requests("500"): "0x20 0+10x40"}
    check_rules(tmp_path, RULES, series, [firing("9m", "HighErrorRate", WARNING)])


def test_total_outage_without_a_single_success_fires(tmp_path):
    check_rules(tmp_path, RULES, {requests("500"): "0+5x40"}, [firing("5m", "HighErrorRate", WARNING)])


def test_no_traffic_and_not_a_number_are_silent(tmp_path):
    series = {
        requests("200"): "7x40",
        requests("500"): "7x40",
        BUCKET.format(path="/", le="+Inf"): "7x40",
        BUCKET.format(path="/", le="0.1"): "7x40",
    }
    check_rules(tmp_path, RULES, series, [firing("10m", "HighErrorRate"), firing("10m", "HighLatency")])


@pytest.mark.parametrize("path", ["/_health/ready", "/_health/ready|system", "/_ops/live", "/_health"])
def test_failing_probes_are_no_failing_customers(tmp_path, path):
    series = {requests("200"): "0+10x40", requests("503", path): "0+10x40"}
    check_rules(tmp_path, RULES, series, [firing("10m", "HighErrorRate")])


def test_a_path_that_only_begins_like_a_probe_counts(tmp_path):
    series = {requests("200"): "0+10x40", requests("503", "/_healthy/users"): "0+10x40"}
    check_rules(tmp_path, RULES, series, [firing("10m", "HighErrorRate", WARNING)])


def test_one_service_failing_is_not_diluted_by_another(tmp_path):
    other = requests("200").replace('job="web"', 'job="batch"')
    series = {other: "0+10000x40", requests("200"): "0+90x40", requests("500"): "0+10x40"}
    check_rules(tmp_path, RULES, series, [firing("10m", "HighErrorRate", WARNING)])


def test_annotations_carry_the_number_and_the_service(tmp_path):
    labels = {"namespace": "shop"}
    series = {
        requests(status).replace("{job", '{namespace="shop", job'): f"0+{count}x40"
        for status, count in (("200", 75), ("500", 25))
    }
    expected = {
        "eval_time": "10m",
        "alertname": "HighErrorRate",
        "exp_alerts": [
            {
                "exp_labels": {**labels, "job": "web", "severity": "warning"},
                "exp_annotations": {
                    "summary": "shop/web fails 25% of its requests",
                    "description": (
                        "25% of the requests to shop/web were answered 5xx over the last 5 minutes; "
                        "the limit is 1%. Probes are not counted."
                    ),
                    "runbook_url": "docs/runbooks.md#higherrorrate",
                },
            }
        ],
    }
    check_rules(tmp_path, RULES, series, [], alerts=[expected])


def latency(slow: int, path: str = "/orders", total: int = 100) -> dict[str, str]:
    fast = total - slow
    return {
        BUCKET.format(path=path, le="1.0"): f"0+{fast}x60",
        BUCKET.format(path=path, le="2.0"): f"0+{fast}x60",
        BUCKET.format(path=path, le="5.0"): f"0+{total}x60",
        BUCKET.format(path=path, le="+Inf"): f"0+{total}x60",
    }


def test_p99_above_two_seconds_warns_after_five_minutes(tmp_path):
    moments = [firing("5m", "HighLatency"), firing("6m", "HighLatency", WARNING)]
    check_rules(tmp_path, RULES, latency(slow=3), moments)


def test_p99_below_two_seconds_is_silent(tmp_path):
    check_rules(tmp_path, RULES, latency(slow=0), [firing("14m", "HighLatency")])


def test_quick_probes_do_not_hide_slow_requests(tmp_path):
    series = latency(slow=3) | latency(slow=0, path="/_health/live", total=10000)
    check_rules(tmp_path, RULES, series, [firing("14m", "HighLatency", WARNING)])


def test_open_circuit_is_critical_after_a_minute(tmp_path):
    series = {breaker("open"): "0 0 0 0 1x20", breaker("closed"): "1 1 1 1 0x20"}
    moments = [firing("1m45s", "CircuitBreakerOpen"), firing("2m", "CircuitBreakerOpen", CIRCUIT)]
    check_rules(tmp_path, RULES, series, moments)


def test_one_open_instance_among_several_fires_one_alert(tmp_path):
    series = {breaker("open", "a"): "1x20", breaker("open", "b"): "0x20", breaker("open", "c"): "1x20"}
    check_rules(tmp_path, RULES, series, [firing("3m", "CircuitBreakerOpen", CIRCUIT)])


def test_trials_that_hang_do_not_end_the_alert(tmp_path):
    """Half the time open, half the time half-open with a hanging trial: it never stays open for a minute."""
    opened, trying = "1 1 0 0 " * 10, "0 0 1 1 " * 10
    series = {breaker("open"): opened.strip(), breaker("half_open"): trying.strip()}
    check_rules(tmp_path, RULES, series, [firing("5m", "CircuitBreakerOpen", CIRCUIT)])


def test_half_open_alone_is_not_open(tmp_path):
    series = {breaker("open"): "0x40", breaker("half_open"): "1x40"}
    check_rules(tmp_path, RULES, series, [firing("8m", "CircuitBreakerOpen")])


def test_closing_ends_the_alert(tmp_path):
    series = {breaker("open"): "1x12 0x20", breaker("half_open"): "0x12 1 0x20"}
    moments = [firing("3m", "CircuitBreakerOpen", CIRCUIT), firing("4m", "CircuitBreakerOpen")]
    check_rules(tmp_path, RULES, series, moments)


CHECK = 'health_check_{what}{{job="web", instance="{instance}", check="database"}}'


def test_a_check_that_fails_in_one_pod_warns_after_five_minutes(tmp_path):
    series = {
        CHECK.format(what="up", instance="a"): "1x4 0x40",
        CHECK.format(what="up", instance="b"): "1x44",
    }
    expected = 'job="web", check="database", severity="warning"'
    moments = [firing("6m", "HealthCheckFailing"), firing("7m", "HealthCheckFailing", expected)]
    check_rules(tmp_path, RULES, series, moments)


def test_a_check_that_hangs_warns(tmp_path):
    series = {CHECK.format(what="stuck_seconds", instance="a"): "0x4 0+15x40"}
    expected = 'job="web", check="database", severity="warning"'
    moments = [firing("3m", "HealthCheckStuck"), firing("4m", "HealthCheckStuck", expected)]
    check_rules(tmp_path, RULES, series, moments)


def test_maintenance_is_remembered_after_two_hours(tmp_path):
    series = {
        'maintenance_mode{job="web", mode="off"}': "0x60",
        'maintenance_mode{job="web", mode="read-only"}': "1x60",
        'maintenance_mode{job="web", mode="full"}': "0x60",
    }
    expected = 'job="web", mode="read-only", severity="warning"'
    moments = [firing("118m", "MaintenanceLeftOn"), firing("121m", "MaintenanceLeftOn", expected)]
    check_rules(tmp_path, RULES, series, moments, interval="3m")


def test_maintenance_that_is_off_is_silent(tmp_path):
    series = {
        'maintenance_mode{job="web", mode="off"}': "1x60",
        'maintenance_mode{job="web", mode="full"}': "0x60",
    }
    check_rules(tmp_path, RULES, series, [firing("170m", "MaintenanceLeftOn")], interval="3m")


def test_lost_worker_metrics_warn_and_are_forgotten(tmp_path):
    series = {'svc_infra_metric_files_skipped_total{job="web"}': "0x10 1x100"}
    moments = [
        firing("2m", "WorkerMetricsMissing"),
        firing("3m", "WorkerMetricsMissing", WARNING),
        firing("20m", "WorkerMetricsMissing"),
    ]
    check_rules(tmp_path, RULES, series, moments)


def test_alerts_ask_only_for_metrics_and_labels_of_the_catalog():
    known = {name: {*spec.labels, "le"} for spec in CATALOG for name in spec.samples}
    for rule in alerts().values():
        asked = selectors(rule["expr"])
        for metric, matchers in asked:
            assert set(matchers) <= known[metric], rule["alert"]
        labels = {label for metric, _ in asked for label in known[metric]}
        assert grouped_labels(rule["expr"]) <= labels | {"job", "namespace"}, rule["alert"]


def test_scope_narrows_every_alert():
    scope = Scope(job="web", namespace="shop", labels={"team": "a"}, runbooks="https://wiki.example/r")
    for rule in service_alerts(scope).rules:
        assert rule.labels["team"] == "a"
        assert rule.annotations["runbook_url"] == f"https://wiki.example/r#{rule.alert.lower()}"
        for _, matchers in selectors(rule.expr):
            assert matchers["job"] == ["web"]
            assert matchers["namespace"] == ["shop"]
