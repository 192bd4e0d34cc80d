"""Which series and labels a PromQL expression asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import promql_parser

_CHILDREN = ("lhs", "rhs", "expr", "param", "args", "vector_selector")


def nodes(expression: str) -> Iterator[Any]:
    """Parse *expression* and go through its syntax tree; what no parser accepts raises ValueError."""
    waiting = [promql_parser.parse(expression)]
    while waiting:
        node = waiting.pop()
        yield node
        for name in _CHILDREN:
            child = getattr(node, name, None)
            if isinstance(child, list | tuple):
                waiting.extend(child)
            elif child is not None:
                waiting.append(child)


def selectors(expression: str) -> list[tuple[str, dict[str, list[str]]]]:
    """Return the metrics asked for, each with its matchers' values by label."""
    found = []
    for node in nodes(expression):
        if isinstance(node, promql_parser.VectorSelector):
            matchers: dict[str, list[str]] = {}
            for matcher in node.matchers.matchers:
                matchers.setdefault(matcher.name, []).append(matcher.value)
            found.append((node.name, matchers))
    return found


def grouped_labels(expression: str) -> set[str]:
    """Return the labels aggregations keep, drop or match on."""
    labels: set[str] = set()
    for node in nodes(expression):
        modifier = getattr(node, "modifier", None)
        if isinstance(node, promql_parser.AggregateExpr) and modifier is not None:
            labels.update(modifier.labels)
        elif isinstance(node, promql_parser.BinaryExpr) and getattr(modifier, "matching", None) is not None:
            labels.update(modifier.matching.labels)
    return labels
