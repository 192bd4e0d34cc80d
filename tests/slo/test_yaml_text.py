"""What the emitter writes, a YAML reader reads back; and people can read it too."""

from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st

from flask_svc_infra.obs.yaml_text import to_yaml

TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    TEXT
    | st.integers()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: round(x, 3)),
    lambda children: st.lists(children) | st.dictionaries(TEXT, children),
    max_leaves=20,
)


@given(VALUES)
def test_everything_written_is_read_back(value):
    assert yaml.safe_load(to_yaml(value)) == value


@given(
    st.lists(
        st.sampled_from(["a", " ", "\n", "#", ":", "-", "'", '"', "\\", "{", "\t", "é", "|", "0", "e", "."])
    )
)
def test_texts_with_meaning_to_yaml_are_read_back(parts):
    text = "".join(parts)
    assert yaml.safe_load(to_yaml({"key": text, text: [text]})) == {"key": text, text: [text]}


def test_queries_are_blocks_and_words_have_no_quotes():
    document = {"groups": [{"record": "slo:errors:rate5m", "expr": 'a{b="c"}\n/ d', "for": "5m"}]}
    assert to_yaml(document, heading="one\ntwo") == (
        "# one\n# two\ngroups:\n  - record: slo:errors:rate5m\n    expr: |-\n"
        '      a{b="c"}\n      / d\n    for: 5m\n'
    )


def test_a_query_on_one_line_keeps_its_quotes():
    assert to_yaml({"expr": 'x{a="it\'s"}'}) == "expr: 'x{a=\"it''s\"}'\n"


def test_words_with_meaning_stay_words():
    words = ["yes", "No", "on", "null", "~", "1", "1.5", "0x1f", "1e3", "2024-01-01", "12:30", "true"]
    assert yaml.safe_load(to_yaml(words)) == words
