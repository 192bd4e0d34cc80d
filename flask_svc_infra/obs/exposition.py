"""The answer to a scrape: this app's metrics, the process', and the users' own.

It is given at the WSGI entry, before Flask is asked, so no hook of anyone can break a scrape, and it does not
count itself.
"""

from __future__ import annotations

import gzip
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from prometheus_client import CollectorRegistry

    from ..access import Access

__all__ = ["Exposition", "Families", "gather"]

_logger = logging.getLogger("flask_svc_infra.obs")
_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|x-gzip|\*)\s*(?:;\s*q=(?P<q>[0-9.]+)\s*)?(?:,|$)", re.IGNORECASE)
_WORTH_PACKING = 1024
"""Bytes; a shorter body fits into one packet anyway."""


class Families:
    """Families as prometheus_client's encoders take them."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> list[Metric]:
        """Return the families."""
        return self._metrics

    def only(self, names: Iterable[str]) -> Families:
        """Return those samples that bear one of *names*, or belong to a family that does."""
        wanted, kept = set(names), []
        for metric in self._metrics:
            samples = [s for s in metric.samples if s.name in wanted or metric.name in wanted]
            if samples:
                part = Metric(metric.name, metric.documentation, metric.type, metric.unit)
                part.samples = samples
                kept.append(part)
        return Families(kept)


class Exposition:
    """Answers scrapes. A WSGI application.

    Args:
        collect: gives the families.
        access: asked with the request (a ``werkzeug.Request``) and ``"metrics"``; whoever it does not allow
            gets 403, or the HTTP exception it raises. None: everyone may scrape.
    """

    def __init__(self, collect: Callable[[], Families], *, access: Access | None = None) -> None:
        self._collect = collect
        self._access = access

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, whatever its path."""
        status, headers, body = self.answer(environ)
        headers += [("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        start_response(status, headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def answer(self, environ: WSGIEnvironment) -> tuple[str, list[tuple[str, str]], bytes]:
        """Return status, headers and body."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            allowed = environ["REQUEST_METHOD"] == "OPTIONS"
            headers = [("Allow", "GET, HEAD, OPTIONS"), ("Content-Type", "text/plain; charset=utf-8")]
            return "200 OK" if allowed else "405 Method Not Allowed", headers, b""
        refusal = self._refused(environ)
        if refusal is not None:
            return refusal
        families = self._collect()
        names = parse_qs(environ.get("QUERY_STRING", "")).get("name[]")
        if names:
            families = families.only(names)
        encode, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        body = encode(families)
        headers = [("Content-Type", content_type), ("Vary", "Accept, Accept-Encoding")]
        if len(body) >= _WORTH_PACKING and _accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", "")):
            # Level 1: on text that repeats itself it packs 15 to 1 at a fifth of the default level's time.
            body = gzip.compress(body, compresslevel=1)
            headers.append(("Content-Encoding", "gzip"))
        return "200 OK", headers, body

    def _refused(self, environ: WSGIEnvironment) -> tuple[str, list[tuple[str, str]], bytes] | None:
        if self._access is None:
            return None
        from werkzeug import Request
        from werkzeug.exceptions import HTTPException

        try:
            if self._access.allows(Request(environ, populate_request=False), "metrics"):
                return None
        except HTTPException as error:
            response = error.get_response(environ)
            headers = [pair for pair in response.get_wsgi_headers(environ) if pair[0] != "Content-Length"]
            return response.status, headers, response.get_data()
        return (
            "403 Forbidden",
            [("Content-Type", "text/plain; charset=utf-8")],
            b"not authorized to scrape\n",
        )


def gather(own: Iterable[Metric], *others: CollectorRegistry, skip: object = None) -> Families:
    """Put families together; of two that share a name the first is shown.

    Args:
        own: this package's.
        *others: registries of users' metrics, in order of precedence.
        skip: a collector in them that is left out.
    """
    shown: list[Metric] = []
    taken: set[str] = set()
    for metric in chain(own, *(_collected(registry, skip) for registry in others)):
        names = {metric.name, *(sample.name for sample in metric.samples)}
        if names & taken:
            _complain(metric.name)
            continue
        taken |= names
        shown.append(metric)
    return Families(shown)


def _collected(registry: CollectorRegistry, skip: object) -> Iterator[Metric]:
    """Yield what each collector gives; one that raises is left out, not the scrape."""
    for collector in list(registry._collector_to_names):  # noqa: SLF001 - collect() ends at the first that raises
        if collector is skip:
            continue
        try:
            found = list(collector.collect())
        except Exception:
            _logger.exception("collector %r raised; the scrape goes on without it", collector)
            continue
        yield from found


_complained: set[str] = set()


def _complain(name: str) -> None:
    if name not in _complained:
        _complained.add(name)
        _logger.warning(
            "metric '%s' of prometheus_client's registry has the name of another that is shown; it is left "
            "out of the scrape. Give it another name.",
            name,
        )


def _accepts_gzip(header: str) -> bool:
    match = _GZIP.search(header)
    if match is None:
        return False
    try:
        return float(match["q"] or 1.0) > 0.0
    except ValueError:
        return False
