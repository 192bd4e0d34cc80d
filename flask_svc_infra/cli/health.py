"""``flask svc-infra health``: ask a URL, wait for a URL, show the app's own checks."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from ..health.model import HealthCheckResult, HealthStatus
from .fetch import Answer, Target, Unreachable, fetch
from .output import json_option, load_app, plain, seconds, show_json, table, url, verdict

__all__ = ["health"]

_LONGEST_ATTEMPT = 5.0
"""Seconds one attempt of ``wait`` may take: a server that hangs now may answer the next one."""


@click.group()
def health() -> None:
    """Check the health of URLs and of this app."""


@health.command()
@click.argument("target", metavar="URL", callback=url)
@click.option(
    "-t", "--timeout", callback=seconds, default="10", show_default=True, help="Request timeout in seconds."
)
@json_option
@click.option("-v", "--verbose", is_flag=True, help="Show what the endpoint reported.")
def check(target: Target, *, timeout: float, as_json: bool, verbose: bool) -> None:
    """Check health of a URL endpoint.

    Any 2xx answer is healthy; a redirect is not, and is not followed. Exits 0 when healthy, else 1.

    \b
    Examples:
      flask svc-infra health check http://localhost:8000/_health/ready
      flask svc-infra health check http://api:8080/ready --timeout 5 --json
    """  # noqa: D301 - click's mark for "leave these lines alone" is the character itself
    result = _ask(target, timeout)
    good = result.status is HealthStatus.HEALTHY
    if as_json:
        show_json(result.to_dict())
    else:
        verdict(good, target.shown)
        click.echo(f"  Status: {result.status}" + (f" ({result.latency_ms:.1f}ms)" if good else ""))
        if result.message:
            click.echo(f"  Message: {plain(result.message)}")
        if verbose and result.details:
            click.echo("  Details:")
            for key, value in _lines(result.details):
                click.echo(f"    {plain(key)}: {plain(value)}")
    if not good:
        raise SystemExit(1)


@health.command()
@click.argument("target", metavar="URL", callback=url)
@click.option(
    "-t",
    "--timeout",
    callback=seconds,
    default="60",
    show_default=True,
    help="Maximum time to wait in seconds.",
)
@click.option(
    "-i",
    "--interval",
    callback=seconds,
    default="2",
    show_default=True,
    help="Time between checks in seconds.",
)
@click.option("-q", "--quiet", is_flag=True, help="Suppress progress messages.")
@json_option
def wait(target: Target, *, timeout: float, interval: float, quiet: bool, as_json: bool) -> None:
    """Wait for a health endpoint to become healthy.

    Asks again and again until any 2xx answer comes. Exits 0 then, or 1 once the time is up; the last attempt
    is cut short to keep the deadline.

    \b
    Examples:
      flask svc-infra health wait http://localhost:8000/_health/ready
      flask svc-infra health wait http://api:8080/ready --timeout 120 --interval 5
    """  # noqa: D301 - as above
    started = time.monotonic()
    deadline = started + timeout
    talk = not (quiet or as_json)
    attempts = 0
    result: HealthCheckResult | None = None
    while (remaining := deadline - time.monotonic()) > 0:
        attempts += 1
        if talk:
            click.echo(f"Attempt {attempts}: Checking {plain(target.shown)}...")
        result = _ask(target, min(_LONGEST_ATTEMPT, remaining))
        if result.status is HealthStatus.HEALTHY:
            break
        if talk:
            click.echo(f"  → {plain(result.message or 'Unhealthy')}")
        time.sleep(max(0.0, min(interval, deadline - time.monotonic())))
    good = result is not None and result.status is HealthStatus.HEALTHY
    if as_json:
        waited = round(time.monotonic() - started, 3)
        last = None if result is None else result.to_dict()
        show_json({"healthy": good, "attempts": attempts, "waited": waited, "last": last})
    elif result is not None and good:
        if talk:
            verdict(True, f"Healthy ({result.latency_ms:.1f}ms)")
    else:
        why = f": {plain(result.message)}" if result is not None and result.message else ""
        click.secho(f"ERROR: Endpoint not healthy after {timeout:g}s{why}", fg="red")
    if not good:
        raise SystemExit(1)


@health.command()
@json_option
@click.pass_context
def show(ctx: click.Context, *, as_json: bool) -> None:
    """Run this app's own health checks and show their results.

    The checks run here, in this process, with this process's environment. Exits 0 when the app is healthy or
    degraded, 1 when it is unhealthy.
    """
    from ..mounts import mounts_of

    app = load_app(ctx)
    registry = mounts_of(app).parts.get("health.registry")
    if registry is None:
        raise click.ClickException(
            f"the app '{app.name}' has no health checks mounted, so there is nothing to show. "
            "Call SvcInfra(app) or add_health_routes(app, registry) where the app is made."
        )
    critical = {item.name: item.critical for item in registry.checks}
    whole = registry.check_all()
    if as_json:
        show_json(whole.to_dict())
    else:
        rows = [
            (
                result.name,
                str(result.status),
                "yes" if critical.get(result.name) else "no",
                f"{result.latency_ms:.1f}ms",
                result.message or "",
            )
            for result in whole.checks
        ]
        if rows:
            table(("CHECK", "STATUS", "CRITICAL", "LATENCY", "MESSAGE"), rows)
        else:
            click.echo("No checks are registered.")
        verdict(whole.status is not HealthStatus.UNHEALTHY, str(whole.status))
    if whole.status is HealthStatus.UNHEALTHY:
        raise SystemExit(1)


def _ask(target: Target, timeout: float) -> HealthCheckResult:
    """Ask *target* and put what it said into the words of a health check."""
    started = time.monotonic()
    try:
        answer = fetch(target, timeout=timeout)
    except Unreachable as error:
        latency_ms = (time.monotonic() - started) * 1000
        return HealthCheckResult(target.host, HealthStatus.UNHEALTHY, latency_ms, message=str(error))
    message = None
    if not answer.good:
        message = f"Expected status 2xx, got {answer.status}"
        if answer.location is not None:
            message += f" (a redirect to {answer.location}, not followed)"
    return HealthCheckResult(
        target.host,
        HealthStatus.HEALTHY if answer.good else HealthStatus.UNHEALTHY,
        answer.seconds * 1000,
        message=message,
        details=_details(answer),
    )


def _details(answer: Answer) -> dict[str, Any]:
    """Return what the body reports, where it is a JSON object, and the status code."""
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        body = None
    return {**(body if isinstance(body, dict) else {}), "status_code": answer.status}


def _lines(details: dict[str, Any]) -> list[tuple[str, str]]:
    """Return *details* as lines; a list of checks, as our own probes report it, one line a check."""
    lines: list[tuple[str, str]] = []
    for key, value in details.items():
        checks = value if key == "checks" and isinstance(value, list) else None
        if checks is not None and all(isinstance(item, dict) and "name" in item for item in checks):
            lines += [(str(item["name"]), _in_brief(item)) for item in checks]
        else:
            lines.append((key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return lines


def _in_brief(item: dict[str, Any]) -> str:
    text = str(item.get("status", "unknown"))
    if isinstance(item.get("latency_ms"), int | float):
        text += f" ({item['latency_ms']:.1f}ms)"
    return text + (f": {item['message']}" if item.get("message") else "")
