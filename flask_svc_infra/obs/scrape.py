"""What one app shows at a scrape: its own metrics, the process', and the users'."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.core import Metric

from . import catalog, merge, multiprocess, tracing
from .exposition import Families, gather
from .kept import kept
from .owners import PLAIN, PROCESS_TAG

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.samples import Exemplar

    from .collectors import AppState, ProcessState
    from .compat import SvcInfraNames
    from .http import HttpMetrics
    from .instruments import Instruments

__all__ = ["AppCollector"]

_logger = logging.getLogger("flask_svc_infra.obs")
_all: weakref.WeakSet[AppCollector] = kept("app collectors", weakref.WeakSet)


class AppCollector:
    """Everything this package measures for one app, as prometheus_client collects it.

    Args:
        own: the app's instruments.
        process: the process' state, the same for every app.
        state: the app's state.
        http: the app's requests.
        registries: the app's registry, in which users may register metrics of this app, and others of theirs.
        compat: shows ours under svc-infra's names too.
    """

    def __init__(
        self,
        own: Instruments,
        *,
        process: ProcessState,
        state: AppState,
        http: HttpMetrics,
        registries: tuple[CollectorRegistry, Sequence[CollectorRegistry]],
        compat: SvcInfraNames | None,
    ) -> None:
        self._own = own
        self._process = process
        self._state = state
        self._http = http
        self.registry, self._registries = registries
        self._compat = compat
        _all.add(self)

    def refresh(self) -> None:
        """Bring what is read rather than counted up to date."""
        self._http.exemplar = tracing.exemplar_source()
        tracing.follow_circuits()
        for part in (self._process, self._state):
            try:
                part.refresh()
            except Exception:
                _logger.exception(
                    "%s could not be read for the metrics; what it said last is shown", type(part).__name__
                )

    def describe(self) -> list[Metric]:
        """Return the families without samples, so that a second metric of their names is refused."""
        specs = catalog.CATALOG if self._compat is None else (*catalog.CATALOG, *catalog.COMPAT)
        return [Metric(spec.family, spec.help, spec.kind) for spec in specs]

    def collect(self) -> list[Metric]:
        """Return this package's families, of all workers."""
        return self._families()[0]

    def scrape(self) -> Families:
        """Return this package's families and the users'."""
        own, users = self._families()
        if self._own.directory is None or multiprocess.warn_if_late():
            return gather(own, *self.users(), REGISTRY, skip=self)
        # Files do not say which app's registry a metric is in: one that only another app knows is left to
        # that.
        foreign = _names(registry for other in _all if other is not self for registry in other.users())
        foreign -= _names([*self.users(), REGISTRY])
        return gather([*own, *(metric for metric in users if metric.name not in foreign)])

    def users(self) -> list[CollectorRegistry]:
        """Return the registries of this app's users' metrics."""
        return [self.registry, *self._registries]

    def _families(self) -> tuple[list[Metric], list[Metric]]:
        self._http.settle_dropped()
        self.refresh()
        directory = self._own.directory
        users: list[Metric] = []
        if directory is None:
            listed = [*self._own.collect(), *self._process.instruments.collect()]
        else:
            values = merge.read_directory(directory)
            listed = [m for tag in (self._own.tag, PROCESS_TAG) for m in merge.families(values(tag))]
            users = merge.families(values(PLAIN))
        found = {metric.name: metric for metric in listed}
        own = []
        for spec in (*catalog.CATALOG, *catalog.COMPAT):
            metric = found.get(spec.family) or Metric(spec.family, spec.help, spec.kind)
            if spec.states:
                merge.show_worst(metric, spec.labels[-1], spec.states)
            if metric.samples or spec in catalog.CONTRACT:
                own.append(metric)
            if spec is catalog.HTTP_DURATION:
                _attach(metric, self._http.exemplars_by_bucket())
        if self._compat is not None:
            own += self._compat.families(own)
        return own, users


def _names(registries: Iterable[CollectorRegistry]) -> set[str]:
    """Return the names of the metrics registered in *registries*, without collecting them."""
    return set[str]().union(*(registry._names_to_collectors for registry in registries))  # noqa: SLF001


def _attach(metric: Metric, exemplars: Mapping[tuple[str, str, str], Exemplar]) -> None:
    """Give each bucket the exemplar this process has for it."""
    if exemplars:
        metric.samples = [
            sample._replace(exemplar=exemplars.get(_bucket(sample.labels)))
            if "le" in sample.labels
            else sample
            for sample in metric.samples
        ]


def _bucket(labels: Mapping[str, str]) -> tuple[str, str, str]:
    return labels["method"], labels["path"], labels["le"]
