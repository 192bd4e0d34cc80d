"""What an objective may say, and what it is told when it says something else."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.obs.slo import SLO, add_bounds, check_bounds, check_slos


def refusal(name="x", **given):
    with pytest.raises(ConfigurationError) as caught:
        SLO(name, **({"objective": 0.999} | given))
    return str(caught.value)


def test_one_line_is_enough():
    slo = SLO("availability", objective=0.999)
    assert (slo.latency, slo.path, slo.route_class, slo.methods, slo.window, slo.exclude_status) == (
        None, None, None, None, "30d", (),
    )  # fmt: skip


def test_an_objective_is_a_frozen_value():
    slo = SLO("availability", objective=0.999)
    with pytest.raises(FrozenInstanceError):
        slo.objective = 0.9
    assert slo == SLO("availability", objective=0.999)
    assert hash(slo) == hash(SLO("availability", objective=0.999))


def test_only_the_name_is_positional():
    with pytest.raises(TypeError):
        SLO("availability", 0.999)


@pytest.mark.parametrize(
    ("objective", "budget"), [(0.999, 0.001), (0.99, 0.01), (0.9995, 0.0005), (0.9, 0.1)]
)
def test_budget_has_no_floating_point_noise(objective, budget):
    assert SLO("x", objective=objective).budget == budget


@pytest.mark.parametrize(("given", "share"), [(99.9, "0.999"), (99, "0.99"), (99.95, "0.9995"), (5, "0.05")])
def test_a_percentage_is_refused_with_the_share_to_write(given, share):
    message = refusal("availability", objective=given)
    assert "'availability'" in message
    assert "percentage" in message
    assert f"objective={share}" in message


@pytest.mark.parametrize("objective", [1, 1.0, 100])
def test_an_objective_without_a_budget_is_refused(objective):
    assert "no error budget" in refusal(objective=objective)


@pytest.mark.parametrize(
    "objective", [0, -0.1, 101, math.nan, math.inf, True, "0.999", None, 1e-12, 1 - 1e-12]
)
def test_what_is_no_share_is_refused(objective):
    assert "between 0 and 1" in refusal(objective=objective)


@pytest.mark.parametrize("name", ["", " ", "a b", 'a"b', "a{b", "ä", "-a", "a-", "a" * 64, "a\n", None, 7])
def test_a_name_that_is_not_safe_everywhere_is_refused(name):
    assert "cannot be called" in refusal(name)


@pytest.mark.parametrize("name", ["a", "checkout-latency", "api.v1_reads", "9"])
def test_usual_names_pass(name):
    assert SLO(name, objective=0.9).name == name


@pytest.mark.parametrize("latency", [0, -1, math.inf, math.nan, "0.5", True])
def test_a_latency_is_seconds_above_zero(latency):
    assert "seconds above zero" in refusal(latency=latency)


@pytest.mark.parametrize("path", ["orders", "", 7, "/a\ud800"])
def test_a_path_is_a_url_rule(path):
    assert "URL rule" in refusal(path=path)


@pytest.mark.parametrize("route_class", ["", 7, "\udfff"])
def test_a_route_class_is_what_the_classifier_returns(route_class):
    assert "route classifier" in refusal(route_class=route_class)


@pytest.mark.parametrize("methods", ["GET", 7, []])
def test_methods_are_a_list(methods):
    assert "methods=['GET', 'HEAD']" in refusal(methods=methods)


def test_an_unknown_method_is_told_how_it_is_counted():
    assert "all others as OTHER" in refusal(methods=["BREW"])


def test_methods_are_read_as_people_write_them():
    assert SLO("x", objective=0.9, methods=["get", "GET", "post"]).methods == ("GET", "POST")


@pytest.mark.parametrize("statuses", ["404", 404, ["40"], ["6xx"], [600], [None]])
def test_statuses_are_a_list_of_statuses(statuses):
    assert "exclude_status=[404, '3xx']" in refusal(exclude_status=statuses)


def test_statuses_are_numbers_or_classes():
    assert SLO("x", objective=0.9, exclude_status=[404, "3XX", "404"]).exclude_status == ("404", "3xx")


def test_an_objective_that_nothing_could_break_is_refused():
    assert "Nothing could be bad" in refusal(exclude_status=["5xx"])


def test_a_latency_objective_cannot_leave_statuses_out():
    assert "no status label" in refusal(latency=0.5, exclude_status=[404])


@pytest.mark.parametrize("window", ["1h", "2y", "30", "", "d", 30, None, "30 d", "500ms"])
def test_a_window_is_a_duration_between_a_day_and_a_year(window):
    assert "window='30d'" in refusal(window=window)


@pytest.mark.parametrize("window", ["1d", "7d", "4w", "30d", "90d", "1w12h"])
def test_usual_windows_pass(window):
    assert SLO("x", objective=0.9, window=window).window == window


@pytest.mark.parametrize("attribute", ["description", "runbook"])
def test_texts_are_not_empty(attribute):
    assert attribute in refusal(**{attribute: " "})


def test_two_objectives_of_one_name_are_refused():
    with pytest.raises(ConfigurationError, match="two SLOs called 'a'"):
        check_slos([SLO("a", objective=0.9), SLO("b", objective=0.9), SLO("a", objective=0.99)])


def test_what_is_no_objective_is_refused():
    with pytest.raises(ConfigurationError, match="is no SLO"):
        check_slos([0.999])


def test_one_slo_where_several_are_wanted_is_refused_with_the_cure():
    with pytest.raises(ConfigurationError, match=r"Write slos=\[\.\.\.\]"):
        check_slos(SLO("availability", objective=0.999))  # type: ignore[arg-type]


def test_a_latency_becomes_a_bound_of_the_histogram():
    slos = [SLO("l", objective=0.9, latency=0.3), SLO("m", objective=0.9, latency=1), SLO("a", objective=0.9)]
    assert add_bounds((0.1, 1.0, 5.0), slos) == (0.1, 0.3, 1.0, 5.0)


def test_a_latency_within_a_bucket_names_the_nearest_bounds():
    with pytest.raises(
        ConfigurationError, match=r"Use 0\.25 or 0\.5, or add it to SVC_INFRA_METRICS_BUCKETS"
    ):
        check_bounds((0.1, 0.25, 0.5, 1.0), [SLO("l", objective=0.9, latency=0.3)])


@pytest.mark.parametrize(("latency", "near"), [(0.01, "Use 0.1,"), (9, "Use 1,")])
def test_a_latency_outside_the_bounds_names_the_one_there_is(latency, near):
    with pytest.raises(ConfigurationError, match=near):
        check_bounds((0.1, 1.0, math.inf), [SLO("l", objective=0.9, latency=latency)])


def test_a_latency_on_a_bound_passes():
    check_bounds((0.1, 1.0), [SLO("l", objective=0.9, latency=1), SLO("a", objective=0.9)])


@given(st.floats(min_value=1e-9, max_value=1 - 1e-9))
def test_every_share_between_0_and_1_has_a_budget_between_0_and_1(objective):
    assert 0 < SLO("x", objective=objective).budget <= 1
