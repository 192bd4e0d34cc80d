"""Text that PromQL reads back as meant."""

from __future__ import annotations

import re

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.obs import promql

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))


@given(TEXT)
def test_a_quoted_text_is_read_back(text):
    assert promql_parser.parse(promql.quoted(text)).val == text


@given(TEXT, TEXT)
def test_a_literal_matches_its_text_and_no_other(text, other):
    """RE2 and Python's re agree on what these few constructs mean."""
    pattern = promql.literal(text)
    assert re.fullmatch(pattern, text, re.DOTALL)
    assert bool(re.fullmatch(pattern, other, re.DOTALL)) == (text == other)


RULES = st.sampled_from(
    ["/", "/orders/<int:order>", '/<any("a|public"):kind>', "<unmatched>", "/static/<path:f>"]
)
CLASSES = st.text(st.sampled_from("abpublic|<>"), min_size=1) | st.just("public")


@given(RULES, CLASSES)
def test_the_simple_matcher_of_a_class_is_exact_unless_a_class_has_a_bar(rule, route_class):
    """As docs/metrics.md says."""
    label = f"{rule}|{route_class}"
    assert bool(re.fullmatch(f"{promql.URL_RULE}[|]public", label)) == (route_class == "public")
    if "|" not in route_class:
        assert bool(re.fullmatch(".*[|]public", label)) == (route_class == "public")
    assert re.fullmatch(".*[|]public", f"{rule}|partner|public")


@given(TEXT)
def test_a_matcher_survives_both_rounds_of_escaping(text):
    selector = promql.selector("m", [("path", "=~", f".*[|]{promql.literal(text)}")])
    matcher = promql_parser.parse(selector).matchers.matchers[0]
    assert re.fullmatch(matcher.value, f"/orders|{text}", re.DOTALL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30d", 2592000), ("5m", 300), ("1h30m", 5400), ("1y", 31536000), ("2w", 1209600), ("90s", 90)],
)
def test_durations_are_read_as_prometheus_does(text, expected):
    assert promql.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "d", "5", "5 m", "-5m", "5ms", "0s", "5m ", "m5", "1.5h"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigurationError, match="'30d', '12h' or '5m'"):
        promql.seconds(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1 - 0.999, "0.001"), (1e-7, "0.0000001"), (14.4, "14.4"), (100, "100"), (0.5, "0.5"), (0, "0")],
)
def test_numbers_are_written_as_people_do(value, text):
    assert promql.number(value) == text


@pytest.mark.parametrize("name", ["", "9a", "a-b", "a b", "__name__", "ä"])
def test_what_is_no_label_name_is_refused(name):
    with pytest.raises(ConfigurationError, match="label's name"):
        promql.label_name(name)
