"""Counters, gauges and histograms over rows of floats: the children's places, and what they add up to.

The request path asks for a place once (`Instruments.counter`, `Instruments.histogram`, …) and from then on
adds to the row itself under `Instruments.lock`; everything less hurried uses `inc`, `set` and `observe`.

Made with a directory, the rows are files and a scrape sums those of all processes; without one they are
memory.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from .bounds import bound_label
from .cells import Cells, MappedCells, MemoryCells
from .dbfile import key_text
from .kept import kept
from .owners import own_name

if TYPE_CHECKING:
    from .catalog import MetricSpec

__all__ = ["HistogramPlaces", "Instruments"]

_logger = logging.getLogger("flask_svc_infra.obs")


@dataclass(frozen=True, slots=True)
class HistogramPlaces:
    """Where one histogram child keeps its sum and its buckets (single, not cumulative)."""

    sum: int
    buckets: tuple[int, ...]


Places = int | HistogramPlaces
Labels = tuple[str, ...]


class Instruments:
    """The instruments of one app, or of the process, on rows of their own.

    Thread-safe. In a forked child the first write opens new rows (see `reopen`).

    Args:
        specs: the metrics.
        buckets: upper bounds that take the place of a configurable histogram's own.
        directory: where the files go; None keeps values in memory.
        tag: tells this set's files from another's.
    """

    def __init__(
        self, specs: Iterable[MetricSpec], *, buckets: Sequence[float], directory: Path | None, tag: str
    ) -> None:
        self.lock = threading.Lock()
        """Held around every read-modify-write of a row, and for nothing else."""
        self.specs = {spec.name: spec for spec in specs}
        self.directory = directory
        self.tag = tag
        self._buckets = tuple(buckets)
        self._making = threading.RLock()
        self._complained = False
        self._children: dict[str, dict[Labels, Places]] = {name: {} for name in self.specs}
        self._rows: dict[str, Cells] = {}
        for spec in self.specs.values():
            prefix = _prefix(spec)
            if prefix not in self._rows:
                self._rows[prefix] = (
                    MemoryCells()
                    if directory is None
                    else MappedCells(partial(_own_file, directory, prefix, tag))
                )
        _live.add(self)

    def row(self, spec: MetricSpec) -> Cells:
        """Return the row in which *spec*'s values are."""
        return self._rows[_prefix(spec)]

    def bounds(self, spec: MetricSpec) -> tuple[float, ...]:
        """Return a histogram's upper bounds without +Inf."""
        return self._buckets if spec.configurable else spec.buckets

    def place(self, spec: MetricSpec, labels: Labels) -> int:
        """Return the place of a counter's or gauge's child, made at the first call.

        Raises:
            OSError: its file cannot be made or grown.
        """
        places = self._children[spec.name].get(labels)
        if places is None:
            places = self._make(spec, labels, self._make_single)
        assert isinstance(places, int)  # noqa: S101 - the kind of a spec decides
        return places

    def histogram(self, spec: MetricSpec, labels: Labels) -> HistogramPlaces:
        """Return the places of a histogram's child, made at the first call.

        Raises:
            OSError: its file cannot be made or grown.
        """
        places = self._children[spec.name].get(labels)
        if places is None:
            places = self._make(spec, labels, self._make_histogram)
        assert not isinstance(places, int)  # noqa: S101 - the kind of a spec decides
        return places

    def inc(self, spec: MetricSpec, labels: Labels, amount: float = 1.0) -> None:
        """Add *amount* to a counter or gauge; a full disk is logged and costs only this value."""
        self._write(spec, lambda row: self._add(row, self.place(spec, labels), amount))

    def set(self, spec: MetricSpec, labels: Labels, value: float, *, at: float = 0.0) -> None:
        """Set a gauge, as `inc` does; NaN takes the child back.

        Args:
            spec: the gauge.
            labels: the child's labels.
            value: its value.
            at: of several workers' values, the one with the latest *at* is shown where the mode asks for it.
        """

        def write(row: Cells) -> None:
            place = self.place(spec, labels)
            with self.lock:
                assert row.values is not None  # noqa: S101 - _write has opened it
                row.values[place] = value
                if spec.mode == "livemostrecent" and self.directory is not None:
                    row.values[place + 1] = at  # a file keeps each value's time right behind it

        self._write(spec, write)

    def observe(self, spec: MetricSpec, labels: Labels, seconds: float) -> None:
        """Add one observation to a histogram, as `inc` does."""

        def write(row: Cells) -> None:
            places = self.histogram(spec, labels)
            self._add(row, places.buckets[bisect_left(self.bounds(spec), seconds)], 1.0)
            self._add(row, places.sum, seconds)

        self._write(spec, write)

    def reopen(self, *specs: MetricSpec) -> None:
        """In a forked child: open rows of its own for *specs*.

        Raises:
            OSError: a file cannot be made.
        """
        with self._making:
            for spec in specs:
                self.row(spec).reopen()

    def set_state(self, spec: MetricSpec, labels: Labels, state: str | None) -> None:
        """Set the children of a gauge with states: 1 for *state*, 0 for the others; None takes them back."""
        for candidate in spec.states:
            value = math.nan if state is None else float(candidate == state)
            self.set(spec, (*labels, candidate), value)

    def collect(self) -> list[Metric]:
        """Return this process' families with their samples, in the order of the specs."""
        return [self._family(spec) for spec in self.specs.values()]

    def _family(self, spec: MetricSpec) -> Metric:
        metric = Metric(spec.family, spec.help, spec.kind)
        values = self.row(spec).values or ()
        for labels, places in list(self._children[spec.name].items()):
            pairs = dict(zip(spec.labels, labels, strict=True))
            if not isinstance(places, int):
                _add_histogram(metric, pairs, places, self.bounds(spec), values)
            elif values and not math.isnan(values[places]):
                metric.add_sample(spec.name, pairs, values[places])
        return metric

    def _write(self, spec: MetricSpec, write: Callable[[Cells], None]) -> None:
        row = self.row(spec)
        try:
            if row.values is None:
                self.reopen(spec)
            write(row)
        except OSError as error:
            self._complain(spec, error)

    def _complain(self, spec: MetricSpec, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            _logger.error(
                "'%s' cannot be counted: %s; nothing else suffers, and values are lost. Make room in, or "
                "give access to, the directory named by PROMETHEUS_MULTIPROC_DIR. This is said once.",
                spec.name,
                error,
            )

    def _add(self, row: Cells, place: int, amount: float) -> None:
        with self.lock:
            assert row.values is not None  # noqa: S101 - _write has opened it
            row.values[place] += amount

    def _make(self, spec: MetricSpec, labels: Labels, make: Callable[[MetricSpec, Labels], Places]) -> Places:
        with self._making:
            known = self._children[spec.name].get(labels)
            if known is None:
                known = self._children[spec.name][labels] = make(spec, labels)
            return known

    def _make_single(self, spec: MetricSpec, labels: Labels) -> int:
        return self.row(spec).new(lambda: key_text(spec.family, spec.name, spec.labels, labels, spec.help))

    def _make_histogram(self, spec: MetricSpec, labels: Labels) -> HistogramPlaces:
        row, names = self.row(spec), (*spec.labels, "le")
        total = row.new(lambda: key_text(spec.name, f"{spec.name}_sum", spec.labels, labels, spec.help))

        def bucket(bound: float) -> int:
            values = (*labels, bound_label(bound))
            return row.new(lambda: key_text(spec.name, f"{spec.name}_bucket", names, values, spec.help))

        return HistogramPlaces(total, tuple(bucket(bound) for bound in (*self.bounds(spec), math.inf)))


def _add_histogram(
    metric: Metric,
    labels: dict[str, str],
    places: HistogramPlaces,
    bounds: tuple[float, ...],
    values: Sequence[float],
) -> None:
    count = 0.0
    for bound, place in zip((*bounds, math.inf), places.buckets, strict=True):
        count += values[place]
        metric.add_sample(f"{metric.name}_bucket", labels | {"le": bound_label(bound)}, count)
    metric.add_sample(f"{metric.name}_count", labels, count)
    metric.add_sample(f"{metric.name}_sum", labels, values[places.sum])


def _prefix(spec: MetricSpec) -> str:
    return f"gauge_{spec.mode}" if spec.kind == "gauge" else spec.kind


def _own_file(directory: Path, prefix: str, tag: str) -> Path:
    return directory / own_name(prefix, tag)


_live: weakref.WeakSet[Instruments] = kept("instruments", weakref.WeakSet)


def _after_fork() -> None:
    for instruments in list(_live):
        instruments.lock = threading.Lock()
        instruments._making = threading.RLock()  # noqa: SLF001 - this module's own


os.register_at_fork(after_in_child=_after_fork)
