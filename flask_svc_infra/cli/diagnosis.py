"""What ``doctor`` looks at: each function takes what it needs, looks, and returns its findings.

A problem is something that does not work; a warning is something that will surprise somebody. Every finding
that is not good says what follows from it and how to cure it.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from ..config import PREFIX, parse_flag

__all__ = [
    "Finding",
    "drivers",
    "environment",
    "gunicorn_release",
    "multiprocess",
    "releases",
    "workers_wanted",
]

Level = Literal["ok", "warning", "problem"]

_EXTRAS = {
    "postgres": ("psycopg2", "check_database"),
    "redis": ("redis", "check_redis"),
    "http": ("requests", "check_url"),
    "broker": ("kombu", "check_broker"),
}
_READ_BY_GUNICORN = frozenset({f"{PREFIX}DRAIN_SECONDS"})
"""Settings the gunicorn conf takes from the environment whether or not the app does."""

_ROOM = 64 * 1024
"""Bytes that must be free for metrics: about what one worker of a small service writes."""

_OLDEST_GUNICORN = (22, 0)
"""The oldest release the drain and the worker hooks are tested with."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: what it is about, in a word.
        level: how it stands.
        text: what was found, and what follows from it.
        cure: what to do; None when nothing is to be done.
    """

    topic: str
    level: Level
    text: str
    cure: str | None = None


def releases(names: Iterable[str]) -> Finding:
    """Tell which releases are installed."""
    found = ((name, release_of(name)) for name in names)
    return Finding("releases", "ok", ", ".join(f"{name} {release or '(missing)'}" for name, release in found))


def release_of(name: str) -> str | None:
    """Return the installed release of the distribution *name*, None when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def drivers() -> list[Finding]:
    """Tell which drivers the built-in checks find here."""
    findings = []
    for extra, (module, factory) in _EXTRAS.items():
        if find_spec(module) is not None:
            findings.append(Finding("drivers", "ok", f"{factory}: '{module}' is installed"))
        else:
            findings.append(
                Finding(
                    "drivers",
                    "ok",  # an app that needs it cannot be loaded, which is a finding of its own
                    f"{factory}: '{module}' is not installed",
                    f"If the app is to use {factory}: pip install 'flask-svc-infra[{extra}]'",
                )
            )
    return findings


def gunicorn_release(release: str | None) -> Finding:
    """Judge the gunicorn that is installed here, None when none is."""
    if release is None:
        return Finding("gunicorn", "ok", "not installed here")
    numbers = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if numbers < _OLDEST_GUNICORN:
        return Finding(
            "gunicorn",
            "warning",
            f"gunicorn {release} is older than any release the drain and the worker hooks are tested with",
            "Run: pip install 'gunicorn>=22'",
        )
    return Finding("gunicorn", "ok", f"gunicorn {release}")


def environment(
    environ: Mapping[str, str], config: Mapping[str, Any] | None, flags: Iterable[str]
) -> list[Finding]:
    """Look for settings that nobody reads and for flags that are on, or neither on nor off.

    Args:
        environ: the environment.
        config: the app's config; None when the app cannot be loaded, so that nobody knows what it reads.
        flags: the names of the variables that are read as flags.
    """
    findings = [] if config is None else _unread(environ, config)
    for name in flags:
        value = environ.get(name, "")
        state = parse_flag(value)
        if state is None:
            findings.append(
                Finding(
                    "flags",
                    "warning",
                    f"{name} is {value[:80]!r}, which is neither on nor off; it counts as off",
                    "Set it to 1, true, yes or on, or to 0, false, no or off.",
                )
            )
        elif state:
            findings.append(
                Finding(
                    "flags",
                    "warning",
                    f"{name} is on here; requests are refused",
                    f"Unset {name} when it is over.",
                )
            )
        else:
            findings.append(Finding("flags", "ok", f"{name} is off"))
    return findings


def workers_wanted(environ: Mapping[str, str]) -> int:
    """Return how many gunicorn workers the environment asks for, 1 when it does not say."""
    words = _words(environ.get("GUNICORN_CMD_ARGS", ""))
    wanted = environ.get("WEB_CONCURRENCY", "1")
    for word, following in pairwise([*words, ""]):
        name, _, value = word.partition("=")
        if name == "--workers":
            wanted = value or following
        elif word.startswith("-w"):
            wanted = word[2:] or following
    return int(wanted) if wanted.isdecimal() else 1


def multiprocess(directory: str | None, workers: int) -> Finding:
    """Judge the directory in which several workers share their metrics.

    Args:
        directory: what ``PROMETHEUS_MULTIPROC_DIR`` says, None when it is not set.
        workers: how many workers are wanted.
    """
    topic = "multiprocess"
    conf = "Start gunicorn with: gunicorn -c python:flask_svc_infra.gunicorn"
    if not directory:
        if workers > 1:
            return Finding(
                topic,
                "warning",
                f"{workers} workers are wanted and PROMETHEUS_MULTIPROC_DIR is not set; unless gunicorn's "
                "conf sets it, each scrape shows one worker's numbers, and not always the same one's",
                conf + ".",
            )
        return Finding(topic, "ok", "PROMETHEUS_MULTIPROC_DIR is not set, and one worker is wanted")
    path = Path(directory)
    there = path
    while not there.exists():
        there = there.parent
    try:
        # Asking for permission is not enough: root always has it, and a full disk has it too.
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        return Finding(
            topic,
            "problem",
            f"PROMETHEUS_MULTIPROC_DIR is '{directory}', where this user cannot write ({error.strerror}); "
            "the metrics are lost, or the app fails when they are mounted",
            "Make room, give the directory to the user the workers run as, or unset the variable and s"
            + conf[1:]
            + ".",
        )
    return Finding(topic, "ok", f"'{directory}' can be " + ("written to" if there == path else "made"))


def _unread(environ: Mapping[str, str], config: Mapping[str, Any]) -> list[Finding]:
    cures = {}
    for name in sorted(environ):
        if name.removeprefix("FLASK_") in _READ_BY_GUNICORN:
            continue
        if name.startswith(PREFIX) and name not in config:
            cures[name] = f"Name it FLASK_{name}, and call app.config.from_prefixed_env()."
        elif name.startswith(f"FLASK_{PREFIX}") and name.removeprefix("FLASK_") not in config:
            cures[name] = "Call app.config.from_prefixed_env() before init_app."
    return [
        Finding("settings", "warning", f"{name} is set in the environment and the app does not read it", cure)
        for name, cure in cures.items()
    ]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()
