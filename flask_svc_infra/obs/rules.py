"""Prometheus rules as values, and the two documents they are written as.

A :class:`Recording` and an :class:`Alert` are what Prometheus knows them as; a :class:`Group` is evaluated
together, in order, at its interval. :class:`Scope` says which service the rules are about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigurationError
from . import promql
from .yaml_text import to_yaml

__all__ = ["Alert", "Group", "Recording", "Scope", "operator_document", "prometheus_document", "to_rule_file"]

RUNBOOKS = "docs/runbooks.md"
"""Where the runbooks are read: a path in the sources; set the place your team publishes them at."""

_KUBERNETES_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_RESERVED = frozenset({"slo", "window", "short_window", "severity", "alertname"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which service rules are about, and what they have in common.

    Args:
        job: the scrape job; None: every job, each on its own.
        namespace: the namespace; None: every namespace, each on its own.
        by: the labels that tell one service from another. What has equal values in all of them is added up,
            so do not name ``instance`` or ``pod`` here.
        labels: put on every rule, for routing (``{"team": "shop"}``).
        runbooks: the document whose anchors are the alerts' names in lower case.
        probe_prefixes: requests to these paths are no customer's; service-wide rules leave them out.
        minimum_errors: a burn-rate alert stays silent until this many requests failed in its long window, so
            that one failure in a quiet night pages nobody.

    Raises:
        ConfigurationError: a label's name cannot work, or a label is one the rules set themselves.
    """

    job: str | None = None
    namespace: str | None = None
    by: tuple[str, ...] = ("namespace", "job")
    labels: Mapping[str, str] = field(default_factory=dict)
    runbooks: str = RUNBOOKS
    probe_prefixes: tuple[str, ...] = ("/_health", "/_ops")
    minimum_errors: int = 5

    def __post_init__(self) -> None:
        for name in (*self.by, *self.labels):
            promql.label_name(name)
        taken = (_RESERVED | set(self.by)) & set(self.labels)
        if taken or _RESERVED & set(self.by):
            name = min(taken or _RESERVED & set(self.by))
            raise ConfigurationError(
                f"the label '{name}' is set by the rules themselves; no rule was made. Choose another name."
            )
        if self.minimum_errors < 1:
            raise ConfigurationError(
                f"minimum_errors is {self.minimum_errors}; no rule was made. Set it to 1 or more."
            )

    @property
    def matchers(self) -> list[tuple[str, str, str]]:
        """What every selector of these rules begins with."""
        pairs = (("namespace", self.namespace), ("job", self.job))
        return [(label, "=", value) for label, value in pairs if value is not None]

    @property
    def fixed(self) -> dict[str, str]:
        """The labels a recorded series needs because no aggregation keeps them."""
        lost = {label: value for label, _, value in self.matchers if label not in self.by}
        return {**self.labels, **lost}

    @property
    def grouping(self) -> str:
        """The aggregation clause, ``by (namespace, job)``."""
        return f"by ({', '.join(self.by)})"

    def customers(self) -> list[tuple[str, str, str]]:
        """Match the requests of customers: every path but the probes'."""
        if not self.probe_prefixes:
            return self.matchers
        prefixes = "|".join(promql.literal(prefix.rstrip("/")) for prefix in self.probe_prefixes)
        return [*self.matchers, ("path", "!~", f"({prefixes})([/|].*)?")]

    def service(self) -> str:
        """Name the service in an annotation: ``shop/web``, or ``web`` where there is no namespace."""
        if not self.by:
            return self.job or "the service"
        *outer, last = self.by
        parts = [f"{{{{ with $labels.{label} }}}}{{{{ . }}}}/{{{{ end }}}}" for label in outer]
        return "".join(parts) + f"{{{{ $labels.{last} }}}}"

    def runbook(self, alert: str) -> str:
        """Where the runbook of *alert* is read."""
        return f"{self.runbooks}#{alert.lower()}"


@dataclass(frozen=True, slots=True)
class Recording:
    """A query whose result is kept under a name of its own."""

    record: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """A query that should return nothing; what it returns, for long enough, is told to people.

    Attributes:
        alert: its name, and in lower case its anchor in the runbooks.
        expr: the query.
        hold: how long it must hold (``for:``); None: no time at all.
        labels: routing, ``severity`` among them.
        annotations: ``summary``, ``description`` with the numbers, ``runbook_url``.
    """

    alert: str
    expr: str
    hold: str | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Group:
    """Rules evaluated one after the other, every *interval*."""

    name: str
    rules: tuple[Recording | Alert, ...]
    interval: str | None = None


def _rule(rule: Recording | Alert) -> dict[str, Any]:
    if isinstance(rule, Recording):
        document: dict[str, Any] = {"record": rule.record, "expr": rule.expr}
    else:
        document = {"alert": rule.alert, "expr": rule.expr}
        if rule.hold is not None:
            document["for"] = rule.hold
    if rule.labels:
        document["labels"] = dict(rule.labels)
    if isinstance(rule, Alert):
        document["annotations"] = dict(rule.annotations)
    return document


def prometheus_document(groups: Iterable[Group]) -> dict[str, Any]:
    """Arrange *groups* as a Prometheus rule file."""
    return {
        "groups": [
            {
                "name": group.name,
                **({"interval": group.interval} if group.interval else {}),
                "rules": [_rule(rule) for rule in group.rules],
            }
            for group in groups
        ]
    }


def operator_document(
    groups: Iterable[Group],
    *,
    name: str,
    namespace: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Arrange *groups* as a ``PrometheusRule``, the Prometheus operator's custom resource.

    Args:
        groups: what it holds.
        name: the resource's name, unique in its namespace.
        namespace: the resource's namespace; None: the one it is applied in.
        labels: the resource's labels; a Prometheus picks its rules by them (``{"release": "prometheus"}``).

    Raises:
        ConfigurationError: Kubernetes would refuse the name.
    """
    if not _KUBERNETES_NAME.fullmatch(name):
        raise ConfigurationError(
            f"'{name}' cannot be a Kubernetes resource's name; nothing was written. "
            "Use lower-case letters, digits, hyphens and dots."
        )
    metadata: dict[str, Any] = {"name": name}
    if namespace is not None:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(labels)
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata,
        "spec": prometheus_document(groups),
    }


def to_rule_file(groups: Iterable[Group], *, heading: str = "") -> str:
    """Write *groups* as the YAML that ``rule_files:`` loads."""
    return to_yaml(prometheus_document(groups), heading=heading)
