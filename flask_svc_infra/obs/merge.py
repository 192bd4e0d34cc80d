"""Reading the directory: the values of all processes, as metric families ready to be shown."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from . import compaction
from .bounds import bound_label
from .dbfile import Key, Value, parse_key
from .owners import is_merged

if TYPE_CHECKING:
    from .owners import FileName

__all__ = ["families", "read_directory", "show_worst"]

_logger = logging.getLogger("flask_svc_infra.obs")
_complained: set[Path] = set()
Merged = dict[str, dict[bytes, Value]]
"""For each prefix (type and mode), every value of the processes taken together."""


def read_directory(directory: Path) -> Callable[[str], Merged]:
    """Clear up after the dead and read every file once, under the lock.

    Returns:
        A function that gives the merged values of one tag.

    Raises:
        OSError: the directory cannot be read.
    """
    try:
        compaction.compact(directory)
    except OSError:
        _logger.exception("what dead workers left in '%s' cannot be merged; it is read as it is", directory)
    found = _snapshot(directory)
    gone = set[str]().union(*(absorbed for _, _, absorbed, _ in found))
    by_tag: dict[str, Merged] = {}
    for name, values, _, damage in found:
        if damage:
            _complain(name, damage)
        if name.path.name not in gone:
            merged = by_tag.setdefault(name.tag, {}).setdefault(name.prefix, {})
            if name.prefix in ("gauge_all", "gauge_liveall"):
                merged.update(_with_pid(name, values))
            else:
                compaction.combine(merged, values, name.prefix)
    return lambda tag: by_tag.get(tag, {})


def _snapshot(directory: Path) -> list[tuple[FileName, dict[bytes, Value], set[str], str | None]]:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(
            OSError
        ):  # without a lock the worst is one odd scrape while files are merged
            stack.enter_context(compaction.locked(directory, exclusive=False))
        return [(name, *_read(name)) for name in compaction.db_files(directory)]


Found = tuple[dict[bytes, Value], set[str], str | None]
_merged_before: dict[Path, tuple[tuple[int, int, int], Found]] = {}
"""What each merged file held when it was last read: it changes only when a worker dies."""


def _read(name: FileName) -> Found:
    if not is_merged(name):
        return compaction.read(name.path)
    try:
        stat = name.path.stat()
    except OSError:
        return compaction.read(name.path)
    version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    known, found = _merged_before.get(name.path, (None, None))
    if found is None or known != version:
        found = compaction.read(name.path)
        _merged_before[name.path] = (version, found)
    return found


def families(merged: Merged, *, skip: Callable[[str], bool] = lambda _name: False) -> list[Metric]:
    """Turn merged values into families, sorted by name.

    Args:
        merged: the values of one tag.
        skip: tells which families to leave out.
    """
    made: dict[str, Metric] = {}
    histograms: dict[str, dict[tuple[tuple[str, str], ...], _Histogram]] = {}
    for prefix, values in merged.items():
        kind = prefix.partition("_")[0]
        for raw, (value, _) in values.items():
            if math.isnan(value):
                continue  # a gauge that was taken back; a file only grows
            key = parse_key(raw)
            metric = made.get(key.metric)
            if metric is None:
                if skip(key.metric):
                    continue
                metric = made[key.metric] = Metric(key.metric, key.help, kind)
            elif metric.type != kind:
                continue  # an earlier release of the app gave this name to a metric of another type
            if kind == "histogram":
                _add(histograms.setdefault(key.metric, {}), key, value)
            else:
                metric.add_sample(key.sample, dict(key.labels), value)
    for name, children in histograms.items():
        for labels, histogram in children.items():
            histogram.write(made[name], dict(labels))
    return [made[name] for name in sorted(made)]


def show_worst(metric: Metric, label: str, states: tuple[str, ...]) -> None:
    """Leave, of the states that several workers are in, the worst as 1.

    Args:
        metric: a gauge with one child per state, 1 for each state that some worker is in.
        label: the label that names the state.
        states: its values, from good to bad.
    """
    worst: dict[tuple[tuple[str, str], ...], int] = {}
    for sample in metric.samples:
        rest = tuple(pair for pair in sample.labels.items() if pair[0] != label)
        if sample.value and sample.labels[label] in states:
            worst[rest] = max(worst.get(rest, -1), states.index(sample.labels[label]))
    shown = []
    for sample in metric.samples:
        rest = tuple(pair for pair in sample.labels.items() if pair[0] != label)
        holds = sample.labels[label] == states[worst[rest]] if rest in worst else False
        shown.append(sample._replace(value=float(holds)))
    metric.samples = shown


class _Histogram:
    """One child on its way from single buckets to cumulative ones."""

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets: dict[float, float] = {}
        self.sum: float | None = None

    def write(self, metric: Metric, labels: dict[str, str]) -> None:
        count = 0.0
        for bound in sorted(self.buckets):
            count += self.buckets[bound]
            metric.add_sample(f"{metric.name}_bucket", labels | {"le": bound_label(bound)}, count)
        metric.add_sample(f"{metric.name}_count", labels, count)
        if self.sum is not None:
            metric.add_sample(f"{metric.name}_sum", labels, self.sum)


def _add(children: dict[tuple[tuple[str, str], ...], _Histogram], key: Key, value: float) -> None:
    labels = tuple(pair for pair in key.labels if pair[0] != "le")
    child = children.setdefault(labels, _Histogram())
    if len(labels) < len(key.labels):
        child.buckets[float(dict(key.labels)["le"])] = value
    elif key.sample.endswith("_sum"):
        child.sum = value


def _with_pid(name: FileName, values: dict[bytes, Value]) -> dict[bytes, Value]:
    pid = name.path.stem.split("_", 2)[-1]
    renamed = {}
    for raw, value in values.items():
        metric, sample, labels, help_text = json.loads(raw)
        key = json.dumps([metric, sample, {**labels, "pid": pid}, help_text], sort_keys=True)
        renamed[key.encode()] = value
    return renamed


def _complain(name: FileName, damage: str) -> None:
    """Say once that a living process' file is damaged; it is read to the damage at every scrape."""
    if name.path not in _complained and not _just_made(name):
        _complained.add(name.path)
        compaction.count_damage(name.path)
        _logger.warning(
            "metric file '%s' is damaged: %s; what stands before the damage counts, the rest does not. "
            "It will be set aside when its process has exited.",
            name.path.name,
            damage,
        )


def _just_made(name: FileName) -> bool:
    """prometheus_client makes an empty file and fills it a moment later."""
    try:
        return name.pid is not None and name.path.stat().st_size == 0
    except FileNotFoundError:
        return True
