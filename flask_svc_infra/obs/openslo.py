"""Objectives as OpenSLO v1 documents, out and in (https://github.com/OpenSLO/OpenSLO).

Out: one ``SLO`` document each, its indicator the very counters the rules are made from. In: documents whose
indicator is about these counters; what it selects is read back from the queries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigurationError
from . import promql
from .rules import Scope
from .slo import SLO, check_slos
from .slo_series import Series

__all__ = ["openslo_documents", "read_openslo", "slos_from_openslo"]

API_VERSION = "openslo/v1"
_OURS = "flask-svc-infra/"
"""Prefix of the annotations that carry what OpenSLO has no word for."""
_SELECTOR = re.compile(r"http_request(?:s_total|_duration_seconds_(?:bucket|count))\s*\{")
_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(,|\})')
_STATUS_LISTS = re.compile(r"[1-5](?:\d\d|\.\.)(?:\|[1-5](?:\d\d|\.\.))*")
EXPLICIT = ("path", "route_class", "runbook")


def openslo_documents(
    slos: Iterable[SLO], scope: Scope | None = None, *, service: str = "svc-infra"
) -> list[dict[str, Any]]:
    """Arrange each objective as an OpenSLO v1 ``SLO``.

    Args:
        slos: the objectives.
        scope: which service they are about.
        service: the OpenSLO service they belong to.

    Raises:
        ConfigurationError: two objectives have one name.
    """
    return [_document(slo, Series(slo, scope or Scope()), service) for slo in check_slos(slos)]


def _document(slo: SLO, series: Series, service: str) -> dict[str, Any]:
    annotations = {_OURS + name: value for name in EXPLICIT if (value := getattr(slo, name)) is not None}
    metadata: dict[str, Any] = {"name": slo.name}
    if annotations:
        metadata["annotations"] = annotations
    objective: dict[str, Any] = {"displayName": slo.name, "target": slo.objective}
    spec: dict[str, Any] = {"service": service}
    if slo.description is not None:
        spec["description"] = slo.description
    return {
        "apiVersion": API_VERSION,
        "kind": "SLO",
        "metadata": metadata,
        "spec": {
            **spec,
            "indicator": {"metadata": {"name": slo.name}, "spec": {"ratioMetric": _ratio(slo, series)}},
            "timeWindow": [{"duration": slo.window, "isRolling": True}],
            "budgetingMethod": "Occurrences",
            "objectives": [objective],
        },
    }


def _ratio(slo: SLO, series: Series) -> dict[str, Any]:
    if slo.latency is None:
        total = promql.selector("http_requests_total", series.counted())
        bad = promql.selector("http_requests_total", [*series.counted(), ("status", "=~", "5..")])
        return {"counter": True, "bad": _source(bad), "total": _source(total)}
    total = promql.selector("http_request_duration_seconds_count", series.counted())
    bound = ("le", "=", repr(float(slo.latency)))
    good = promql.selector("http_request_duration_seconds_bucket", [*series.counted(), bound])
    return {"counter": True, "good": _source(good), "total": _source(total)}


def _source(selected: str) -> dict[str, Any]:
    return {"metricSource": {"type": "Prometheus", "spec": {"query": f"sum({selected})"}}}


def read_openslo(text: str) -> list[SLO]:
    """Read the ``SLO`` documents of *text*, JSON or YAML.

    Raises:
        ConfigurationError: it cannot be read (YAML needs PyYAML), or a document asks for what these rules
            cannot judge.
    """
    try:
        loaded = json.loads(text)
    except ValueError:
        loaded = _from_yaml(text)
    documents = loaded if isinstance(loaded, list) else [loaded]
    return slos_from_openslo(documents)


def _from_yaml(text: str) -> list[Any]:
    try:
        import yaml  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise ConfigurationError(
            "the OpenSLO document is no JSON, and PyYAML, which reads YAML, is not installed; nothing was "
            "taken over. Run: pip install pyyaml"
        ) from None
    try:
        return list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"the OpenSLO document cannot be read ({error}); nothing was taken over."
        ) from error


def slos_from_openslo(documents: Iterable[Any]) -> list[SLO]:
    """Return the objectives of the ``SLO`` documents among *documents*; other kinds are passed over.

    Raises:
        ConfigurationError: a document asks for what these rules cannot judge; it says which and what.
    """
    slos = [
        _slo(document)
        for document in documents
        if isinstance(document, Mapping) and document.get("kind") == "SLO"
    ]
    return list(check_slos(slos))


def _slo(document: Mapping[str, Any]) -> SLO:
    name = str(_at(document, "metadata", "name") or "")

    def refused(what: str, cure: str) -> ConfigurationError:
        return ConfigurationError(f"OpenSLO document '{name}' {what}; it was not taken over. {cure}")

    if document.get("apiVersion") != API_VERSION:
        raise refused(f"is {document.get('apiVersion')!r}", f"Only {API_VERSION} is read.")
    spec = document.get("spec") or {}
    objectives = spec.get("objectives") or []
    if len(objectives) != 1:
        raise refused(f"has {len(objectives)} objectives", "Write one document for each.")
    if spec.get("budgetingMethod", "Occurrences") != "Occurrences":
        raise refused(f"budgets by {spec['budgetingMethod']}", "Only Occurrences (requests) is counted.")
    windows = spec.get("timeWindow") or []
    if len(windows) != 1 or windows[0].get("isRolling") is not True:
        raise refused("has no rolling timeWindow", "Write [{duration: 30d, isRolling: true}].")
    ratio = _at(spec, "indicator", "spec", "ratioMetric")
    if ratio is None:
        raise refused(
            "has no indicator.spec.ratioMetric of its own", "Thresholds and references are not read."
        )
    total, part = _query(ratio, "total"), _query(ratio, "bad") or _query(ratio, "good")
    matchers = _matchers(total)
    if matchers is None or _matchers(part) is None:
        raise refused(
            "does not count http_requests_total or http_request_duration_seconds",
            "These rules judge only what this package measures.",
        )
    annotations = _at(document, "metadata", "annotations") or {}
    explicit = {key: annotations[_OURS + key] for key in EXPLICIT if _OURS + key in annotations}
    return SLO(
        name,
        objective=_target(objectives[0]),
        latency=_latency(part),
        window=windows[0].get("duration"),
        description=spec.get("description"),
        **{**_requests(matchers), **explicit},
    )


def _target(objective: Mapping[str, Any]) -> Any:
    """Return the share, whichever way it is written; what is no number is for :class:`SLO` to refuse."""
    percent = objective.get("targetPercent")
    if "target" in objective or not isinstance(percent, int | float):
        return objective.get("target")
    return round(percent / 100, 12)


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _query(ratio: Mapping[str, Any], part: str) -> str:
    return str(_at(ratio, part, "metricSource", "spec", "query") or "")


def _matchers(query: str) -> list[tuple[str, str, str]] | None:
    """Read the matchers of the first of our metrics in *query*; None when there is none."""
    begin = _SELECTOR.search(query)
    if begin is None:
        return [] if re.search(r"http_request(s_total|_duration_seconds)", query) else None
    found, position = [], begin.end()
    while matcher := _MATCHER.match(query, position):
        label, operator, value, after = matcher.groups()
        found.append((label, operator, re.sub(r"\\(.)", r"\1", value)))
        position = matcher.end()
        if after == "}":
            break
    return found


def _latency(query: str) -> float | None:
    bounds = [value for label, _, value in _matchers(query) or () if label == "le"]
    return float(bounds[0]) if bounds else None


def _requests(matchers: list[tuple[str, str, str]]) -> dict[str, Any]:
    """Read back which requests count; what is written in plain equality or lists."""
    read: dict[str, Any] = {}
    for label, operator, value in matchers:
        if label == "path" and operator == "=":
            path, bar, route_class = value.partition("|")
            read["path"] = path
            if bar:
                read["route_class"] = route_class
        elif label == "method" and operator in {"=", "=~"}:
            read["methods"] = tuple(value.split("|"))
        elif label == "status" and operator in {"!=", "!~"} and _STATUS_LISTS.fullmatch(value):
            read["exclude_status"] = tuple(part.replace("..", "xx") for part in value.split("|"))
    return read
