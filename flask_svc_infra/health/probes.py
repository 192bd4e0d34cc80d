"""From a probe's WSGI environ to its answer: which checks to ask, in which format to say it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from .answers import Asked, Format, alive, check_answer, held_answer, not_found, ready_answer, startup_answer

if TYPE_CHECKING:
    from ..mounts import Answer, Mounts, ProbeKind
    from .registry import HealthRegistry
    from .runner import Report

__all__ = ["Probes"]

_FORMATS: dict[str, Format] = {
    "application/json": "json",
    "application/health+json": "health+json",
    "text/plain": "text",
}


class Probes:
    """The answers of one mount."""

    def __init__(
        self, mounts: Mounts, registry: HealthRegistry, within: Callable[[], Any], ttl: float, detailed: bool
    ) -> None:
        self._mounts = mounts
        self._registry = registry
        self._within = within
        self._ttl = ttl
        self._detailed = detailed

    def live(self, environ: Mapping[str, Any]) -> Answer:
        """Answer that the process is running."""
        return alive(_form(environ))

    def ready(self, environ: Mapping[str, Any]) -> Answer:
        """Answer for the group ``ready``, unless something holds it back."""
        return self._held("ready", environ) or self._group("ready", environ)

    def startup(self, environ: Mapping[str, Any]) -> Answer:
        """Answer for the group ``startup``, unless something holds it back."""
        return self._held("startup", environ) or self._group("startup", environ)

    def check(self, environ: Mapping[str, Any]) -> Answer:
        """Answer for the check the path names."""
        held = self._held("check", environ)
        if held is not None:
            return held
        name = _last_segment(environ)
        try:
            reports = self._run([name])
        except KeyError:
            return not_found("health check", name)
        return check_answer(reports[0], self._asked(environ))

    def group(self, environ: Mapping[str, Any]) -> Answer:
        """Answer for the group the path names."""
        name = _last_segment(environ)
        kind: ProbeKind = "ready" if name == "ready" else "startup" if name == "startup" else "group"
        return self._held(kind, environ) or self._group(name, environ)

    def _group(self, group: str, environ: Mapping[str, Any]) -> Answer:
        asked = self._asked(environ)
        members = [check.name for check in self._registry.checks if check.belongs_to(group)]
        if not members and group not in ("ready", "startup"):
            return not_found("health group", group)
        try:
            reports = self._run([name for name in members if name not in asked.exclude])
        except KeyError:  # one was removed a moment ago
            return self._group(group, environ)
        asked = self._asked(environ)
        if group == "startup":
            return startup_answer(reports, asked, members=members)
        return ready_answer(reports, asked, members=members, subject=group)

    def _run(self, names: Iterable[str]) -> list[Report]:
        return self._registry._check(names, within=self._within, max_age=self._ttl)  # noqa: SLF001 - the way in

    def _asked(self, environ: Mapping[str, Any]) -> Asked:
        query = environ.get("QUERY_STRING")
        asked = parse_qs(query, keep_blank_values=True) if query else {}
        return Asked(
            form=_form(environ),
            verbose="verbose" in asked,
            exclude=frozenset(asked.get("exclude", ())),
            detailed=self._detailed,
            now=self._registry._runner.clock(),  # noqa: SLF001
        )

    def _held(self, kind: ProbeKind, environ: Mapping[str, Any]) -> Answer | None:
        reason = self._mounts.held(kind)
        return None if reason is None else held_answer(reason, self._asked(environ))


def _form(environ: Mapping[str, Any]) -> Format:
    accept = environ.get("HTTP_ACCEPT")
    if not accept or accept == "*/*":
        return "json"
    best = parse_accept_header(accept, MIMEAccept).best_match(_FORMATS, default="application/json")
    return _FORMATS[best]


def _last_segment(environ: Mapping[str, Any]) -> str:
    path: str = environ.get("PATH_INFO", "")
    return path.rstrip("/").rpartition("/")[2].encode("latin-1", "replace").decode("utf-8", "replace")
