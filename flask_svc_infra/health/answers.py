"""From reports to the bytes a probe answers: status, body, format. Pure, so every way in says the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from ..mounts import Answer
from .aggregation import passes, worst_of
from .model import AggregatedHealthResult, HealthStatus
from .registry import aggregate

if TYPE_CHECKING:
    from .runner import Report

__all__ = [
    "Asked",
    "Format",
    "alive",
    "check_answer",
    "held_answer",
    "not_found",
    "ready_answer",
    "startup_answer",
]

Format = Literal["json", "text", "health+json"]

_TYPES = {
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
    "health+json": "application/health+json",
}
_DRAFT_WORDS = {HealthStatus.HEALTHY: "pass", HealthStatus.DEGRADED: "warn"}
_OK, _UNAVAILABLE, _NOT_FOUND = 200, 503, 404


@dataclass(frozen=True, slots=True)
class Asked:
    """How a probe was asked.

    Attributes:
        form: the format of the body.
        verbose: whether it shall say all it knows (``?verbose``).
        exclude: names of checks to leave out (``?exclude=``).
        detailed: whether bodies may name checks and say why; False whatever *verbose* says.
        now: the registry's clock, to reckon ages by.
    """

    form: Format = "json"
    verbose: bool = False
    exclude: frozenset[str] = frozenset()
    detailed: bool = True
    now: float = 0.0


def alive(form: Format = "json") -> Answer:
    """Return what liveness says: nothing is asked, so nothing can fail."""
    return _LIVE[form]


def ready_answer(
    reports: Sequence[Report], asked: Asked, *, members: Sequence[str], subject: str = "ready"
) -> Answer:
    """Return the answer for a group of checks: 200 when healthy or degraded, else 503.

    Args:
        reports: of those that were asked.
        asked: how.
        members: the names of all in the group, the excluded ones too.
        subject: what the group is called.
    """
    whole = aggregate(list(reports))
    code = _OK if passes(whole.status) else _UNAVAILABLE
    if asked.form == "text":
        return _answer(code, _text(whole, reports, asked, members, subject), "text")
    if asked.form == "health+json":
        return _answer(code, _draft(whole, reports, asked), "health+json")
    if not asked.detailed:
        return _answer(code, {"status": str(whole.status)})
    body = {**whole.to_dict(), "checks": [_entry(report, asked) for report in reports]}
    unknown = asked.exclude.difference(members)
    if members and not reports:
        body["message"] = "every check is excluded"
    if unknown:
        body["message"] = f"nothing to exclude by the name of {', '.join(sorted(unknown))}"
    return _answer(code, body)


def startup_answer(reports: Sequence[Report], asked: Asked, *, members: Sequence[str]) -> Answer:
    """Return the answer of the startup probe: like readiness, but it has nothing to tell when all is well."""
    good = passes(worst_of((report.check.critical, report.result.status) for report in reports))
    if good and asked.form == "json" and not (asked.verbose and asked.detailed):
        return _LIVE["json"]
    return ready_answer(reports, asked, members=members, subject="startup")


def check_answer(report: Report, asked: Asked) -> Answer:
    """Return the answer for one check: 200 when healthy or degraded, else 503."""
    code = _OK if passes(report.result.status) else _UNAVAILABLE
    if asked.form == "text":
        text = _line(report, detailed=asked.detailed) if asked.verbose else _word(report.result.status)
        return _answer(code, text, "text")
    if asked.form == "health+json":
        return _answer(code, _draft(aggregate([report]), [report], asked), "health+json")
    if not asked.detailed:
        return _answer(code, {"name": report.check.name, "status": str(report.result.status)})
    return _answer(code, _entry(report, asked))


def held_answer(reason: str, asked: Asked) -> Answer:
    """Return the answer while something holds the probe back, whatever the checks would say."""
    if asked.form == "text":
        return _answer(_UNAVAILABLE, f"unhealthy: {reason}" if asked.detailed else "unhealthy", "text")
    if asked.form == "health+json":
        return _answer(
            _UNAVAILABLE, {"status": "fail", **({"output": reason} if asked.detailed else {})}, "health+json"
        )
    if not asked.detailed:
        return _answer(_UNAVAILABLE, {"status": "unhealthy"})
    return _answer(_UNAVAILABLE, AggregatedHealthResult(HealthStatus.UNHEALTHY, [], reason).to_dict())


def not_found(what: str, name: str) -> Answer:
    """Return the answer for a name that is not registered."""
    return _answer(_NOT_FOUND, {"error": f"{what} '{name}' not found"})


def _answer(code: int, body: Any, form: Format = "json") -> Answer:
    content = body + "\n" if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
    return Answer(code, content.encode(), _TYPES[form])


def _entry(report: Report, asked: Asked) -> dict[str, Any]:
    body = report.result.to_dict()
    if report.reused or asked.verbose:
        body["checked_at"] = _moment(report.at)
        body["age_ms"] = round(max(0.0, asked.now - report.finished) * 1000, 2)
    if asked.verbose:
        check = report.check
        groups = (
            check.groups
            if check.groups is not None
            else ("ready", "startup")
            if check.critical
            else ("ready",)
        )
        body.update(critical=check.critical, timeout=check.timeout, groups=list(groups))
    return body


def _draft(whole: AggregatedHealthResult, kept: Sequence[Report], asked: Asked) -> dict[str, Any]:
    """Return the body of draft-inadarei-api-health-check: pass, warn, fail, and observations by component."""
    body: dict[str, Any] = {"status": _DRAFT_WORDS.get(whole.status, "fail")}
    if not asked.detailed:
        return body
    if whole.message:
        body["notes"] = [whole.message]
    body["checks"] = {}
    for report in kept:
        observation: dict[str, Any] = {
            "status": _DRAFT_WORDS.get(report.result.status, "fail"),
            "observedValue": round(report.result.latency_ms, 2),
            "observedUnit": "ms",
            "time": _moment(report.at),
        }
        if report.result.message:
            observation["output"] = report.result.message
        body["checks"][f"{report.check.name}:responseTime"] = [observation]
    return body


def _text(
    whole: AggregatedHealthResult,
    reports: Sequence[Report],
    asked: Asked,
    members: Sequence[str],
    subject: str,
) -> str:
    """Return text as the Kubernetes API server does: a word, or a line a check when asked or failing."""
    failed = not passes(whole.status)
    if not asked.detailed or not (asked.verbose or failed):
        return _word(whole.status)
    lines = [_line(report, detailed=True) for report in reports]
    excluded = [f"[+]{name} excluded: ok" for name in members if name in asked.exclude]
    return "\n".join([*lines, *excluded, f"{subject} check {'failed' if failed else 'passed'}"])


def _line(report: Report, *, detailed: bool) -> str:
    status = report.result.status
    if status is HealthStatus.HEALTHY:
        return f"[+]{report.check.name} ok"
    said = f": {' '.join(report.result.message.split())}" if detailed and report.result.message else ""
    return f"[-]{report.check.name} {status}{said}"


def _word(status: HealthStatus) -> str:
    return "ok" if passes(status) else str(status)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_LIVE: dict[Format, Answer] = {
    "json": _answer(_OK, '{"status":"ok"}'),
    "text": _answer(_OK, "ok", "text"),
    "health+json": _answer(_OK, {"status": "pass"}, "health+json"),
}
