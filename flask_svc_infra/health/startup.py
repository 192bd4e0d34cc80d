"""Wait for dependencies before the app serves: in the app factory, or behind a gate while it listens."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Awaitable, Iterable
from importlib import import_module
from inspect import isawaitable
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from ..config import require_bool
from ..errors import ConfigurationError
from ..mounts import Hold, Mounts, mounts_of, require_unserved
from .forking import renew_in_children
from .functions import name_of, require_check
from .model import HealthCheckFn, HealthCheckResult, Verdict, require_seconds
from .redaction import redact
from .registry import HealthRegistry
from .routes import context_of, require_app
from .waiting import missing_line, wait

if TYPE_CHECKING:
    from .runner import Report

__all__ = ["add_startup_probe"]

_FIRST_ATTEMPT = 1.0
"""Seconds the first request of a worker waits for the gate's first attempt. Dependencies that are there
answer in a fraction of it, so a recycled worker refuses nobody, on a busy machine too."""

_logger = logging.getLogger("flask_svc_infra.health")

_LONG = 3600.0
"""Seconds of one wait of the gate once its timeout has passed; it waits again for ever."""


def add_startup_probe(
    app: Flask,
    checks: Iterable[HealthCheckFn],
    *,
    timeout: float = 60.0,
    interval: float = 2.0,
    block: bool = True,
) -> None:
    """Wait until every check in *checks* passes.

    By default the call itself waits, in the app factory: the server does not get an app that cannot work.
    With ``block=False`` it returns at once and the app serves behind a gate: until the checks pass,
    ``ready`` and ``startup`` say 503 and so does everything else, with Retry-After, except liveness, the
    plain probes and metrics. The gate's clock starts with the worker's first request, which waits up to a
    second for the first attempt; past *timeout* it stays shut, says so in the log once, and goes on trying.

    Args:
        app: the Flask app.
        checks: check functions; each is reported by its own name, none is registered.
        timeout: seconds to wait.
        interval: seconds between attempts; also the Retry-After of the gate.
        block: whether to wait here.

    Raises:
        RuntimeError: with ``block=True``, they were not ready in time; it names each and says why. With
            ``block=False``, the app has served a request.
        ConfigurationError: an argument cannot work.
    """
    require_app(app, "add_startup_probe")
    require_seconds("add_startup_probe", "timeout", timeout, zero=True)
    require_seconds("add_startup_probe", "interval", interval, zero=True)
    require_bool("block", block)
    registry = _registry_of(checks)
    registry._within = context_of(app)  # noqa: SLF001 - sync checks see the app
    if not block:
        require_unserved(app, "the startup gate")
        gate = _Gate(mounts_of(app), registry, timeout, interval)
        app.before_request(gate.refuse)
        mounts_of(app).holds += (
            Hold("startup", frozenset({"ready", "startup", "check", "group"}), gate.reason),
        )
        return
    missing = wait(registry, timeout=timeout, interval=interval, called=_own_name)
    if missing:
        raise RuntimeError(
            f"dependencies not ready after {timeout:g}s: {missing_line(missing, _own_name)}; the app "
            "was not started. Bring them up, or give them longer with timeout=."
        )
    _logger.info("all dependencies are ready")


class _Gate:
    """Shut until the checks have passed once. Who asks first starts the daemon thread that waits."""

    def __init__(self, mounts: Mounts, registry: HealthRegistry, timeout: float, interval: float) -> None:
        self._mounts = mounts
        self._registry = registry
        self._timeout = timeout
        self._interval = interval
        self._open = False
        self._missing = ""
        self._lock = threading.Lock()
        self._waiting = False
        self._tried = threading.Event()
        import_module("tenacity")  # wait() uses it, and the first request shall not pay for the import
        renew_in_children(self)

    def refuse(self) -> Response | None:
        """Answer 503 while the gate is shut; the hook before each request."""
        reason = self.reason()
        if reason is None or self._mounts.serves(request.path):
            return None
        headers = {"Retry-After": str(max(1, math.ceil(self._interval))), "Cache-Control": "no-store"}
        body = json.dumps({"detail": "starting"})
        return Response(body, 503, headers, content_type="application/json")

    def reason(self) -> str | None:
        """Return what the gate waits for; None once it is open."""
        if self._open:
            return None
        with self._lock:
            if not self._waiting:
                self._waiting = True
                threading.Thread(target=self._wait, name="svc-infra-startup", daemon=True).start()
        if not self._tried.is_set():
            self._tried.wait(_FIRST_ATTEMPT)
            self._tried.set()  # tried or not: nobody else is held up
        if self._open:  # since the look above, perhaps
            return None
        return f"starting: waiting for {self._missing}" if self._missing else "starting"

    def renew(self) -> None:
        """Wait anew in a forked child: its parent's thread is not there."""
        self._lock = threading.Lock()
        self._waiting = False
        self._tried = threading.Event()

    def _wait(self) -> None:
        missing = self._try(self._timeout)
        if missing:
            _logger.error(
                "dependencies not ready after %gs: %s; the gate stays shut and goes on trying",
                self._timeout,
                missing_line(missing, _own_name),
            )
        while missing:
            missing = self._try(_LONG)
        _logger.info("all dependencies are ready; the gate is open")

    def _try(self, timeout: float) -> list[Report]:
        return wait(
            self._registry,
            timeout=timeout,
            interval=self._interval,
            on_attempt=self._note,
            called=_own_name,
        )

    def _note(self, missing: list[Report]) -> None:
        self._missing = missing_line(missing, _own_name)
        self._open = not missing
        self._tried.set()


def _registry_of(checks: Iterable[HealthCheckFn]) -> HealthRegistry:
    """Return a registry of its own for *checks*, under names that differ."""
    if callable(checks) or isinstance(checks, str):
        raise ConfigurationError(
            "add_startup_probe was given one check instead of a list; nothing was changed. "
            "Write checks=[check_database(url)]."
        )
    registry = HealthRegistry()
    for number, each in enumerate(checks, 1):
        require_check(f"check {number} of add_startup_probe", each)
        registry.add(_free_name(registry, each, number), _Named(each))
    return registry


def _free_name(registry: HealthRegistry, check_fn: HealthCheckFn, number: int) -> str:
    """Return what the log calls a check's changes: its own name, which two may share and any may be odd."""
    name = name_of(check_fn)
    if "/" in name or not name.strip() or not name.isprintable():
        return f"startup check {number}"
    while name in {check.name for check in registry.checks}:
        name = f"{name} ({number})"
    return name


class _Named:
    """A check that remembers what its results call themselves: none is registered, so that is its name."""

    def __init__(self, check_fn: HealthCheckFn) -> None:
        self._check_fn = check_fn
        self.name = name_of(check_fn)

    def __call__(self) -> Verdict | Awaitable[Verdict]:
        value = self._check_fn()
        return self._awaited(value) if isawaitable(value) else self._noted(value)

    async def _awaited(self, value: Awaitable[Verdict]) -> Verdict:
        return self._noted(await value)

    def _noted(self, value: Verdict) -> Verdict:
        if isinstance(value, HealthCheckResult):
            self.name = redact(str(value.name)) or self.name
        return value


def _own_name(report: Report) -> str:
    """Return what a check is called by itself: none of these is registered."""
    return name_of(report.check.check_fn)
