"""Text that PromQL reads back as meant: strings, literal regular expressions, selectors, durations, numbers.

Grammar: https://prometheus.io/docs/prometheus/latest/querying/basics/ (string literals follow Go's, matchers
are RE2 and anchored at both ends).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal

from ..errors import ConfigurationError

__all__ = ["URL_RULE", "label_name", "literal", "number", "quoted", "seconds", "selector"]

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_DURATION = re.compile(r"(\d+)(ms|[smhdwy])")
_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_BRACKETED = frozenset(".+*?(){}|$")
_BACKSLASHED = frozenset("\\^[]")

URL_RULE = "(?:[^|<]|<[^>]*>)*"
"""Matches a URL rule in a path label and stops at the class: in a rule ``|`` is only within ``<...>``.

So the class ``b`` is not taken for the end of the class ``a|b``. (Werkzeug takes a ``|`` elsewhere too, but
no client may send one unescaped, and nobody writes such a rule.)
"""


def quoted(text: str) -> str:
    """Write *text* as a PromQL string in double quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def literal(text: str) -> str:
    """Write *text* as a regular expression that matches just that text.

    Special characters are put in brackets (``[|]``), which survives the second round of escaping that a
    string literal needs; only those that brackets cannot hold get a backslash.
    """
    return "".join(
        f"[{c}]" if c in _BRACKETED else f"\\{c}" if c in _BACKSLASHED else c
        for c in text
    )  # fmt: skip


def label_name(name: str) -> str:
    """Return *name* if it can be a label's name.

    Raises:
        ConfigurationError: it has a character that label names must not have, or is reserved.
    """
    if not _LABEL.fullmatch(name) or name.startswith("__"):
        raise ConfigurationError(
            f"'{name}' cannot be a label's name; no rule was made. "
            "Use letters, digits and underscores, not starting with a digit or two underscores."
        )
    return name


def selector(metric: str, matchers: Iterable[tuple[str, str, str]] | Mapping[str, str] = ()) -> str:
    """Write a selector of *metric*; a mapping means equality, triples are (label, operator, value)."""
    triples = [(k, "=", v) for k, v in matchers.items()] if isinstance(matchers, Mapping) else matchers
    inside = ", ".join(f"{label}{operator}{quoted(value)}" for label, operator, value in triples)
    return f"{metric}{{{inside}}}" if inside else metric


def seconds(text: str) -> int:
    """Read a duration such as ``30d`` or ``1h30m``; years count 365 days, as in Prometheus.

    Raises:
        ConfigurationError: it is no duration of at least one second.
    """
    parts = _DURATION.findall(text)
    scale = {**_UNITS, "y": 365 * 86400, "ms": 0}
    total = sum(int(count) * scale[unit] for count, unit in parts)
    if total < 1 or "".join(count + unit for count, unit in parts) != text or "ms" in text:
        raise ConfigurationError(
            f"'{text}' is no duration in whole seconds; no rule was made. "
            "Write it as in '30d', '12h' or '5m'."
        )
    return total


def number(value: float) -> str:
    """Write *value* the way a person would: ``0.001``, neither ``1e-03`` nor ``0.0010000000000000009``."""
    text = format(Decimal(repr(round(float(value), 12))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
