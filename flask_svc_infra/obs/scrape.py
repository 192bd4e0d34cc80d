"""What one app shows at a scrape: its own metrics, the process', and the users'."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.core import Metric

from . import catalog, merge, multiprocess
from .exposition import Families, gather
from .owners import PLAIN, PROCESS_TAG

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from .collectors import AppState, ProcessState
    from .http import HttpMetrics
    from .instruments import Instruments

__all__ = ["AppCollector"]

_logger = logging.getLogger("flask_svc_infra.obs")
_all: weakref.WeakSet[AppCollector] = weakref.WeakSet()


class AppCollector:
    """Everything this package measures for one app, as prometheus_client collects it.

    Args:
        own: the app's instruments.
        process: the process' state, the same for every app.
        state: the app's state.
        http: the app's requests.
        registry: the app's registry, in which users may register metrics of this app.
    """

    def __init__(
        self,
        own: Instruments,
        process: ProcessState,
        state: AppState,
        http: HttpMetrics,
        registry: CollectorRegistry,
    ) -> None:
        self._own = own
        self._process = process
        self._state = state
        self._http = http
        self.registry = registry
        _all.add(self)

    def refresh(self) -> None:
        """Bring what is read rather than counted up to date."""
        for part in (self._process, self._state):
            try:
                part.refresh()
            except Exception:
                _logger.exception(
                    "%s could not be read for the metrics; what it said last is shown", type(part).__name__
                )

    def describe(self) -> list[Metric]:
        """Return the families without samples, so that a second metric of their names is refused."""
        return [Metric(spec.family, spec.help, spec.kind) for spec in catalog.CATALOG]

    def collect(self) -> list[Metric]:
        """Return this package's families, of all workers."""
        return self._families()[0]

    def scrape(self) -> Families:
        """Return this package's families and the users'."""
        own, users = self._families()
        if self._own.directory is None or multiprocess.warn_if_late():
            return gather(own, self.registry, REGISTRY, skip=self)
        # Files do not say which app's registry a metric is in: one that only another app knows is left to
        # that.
        foreign = set[str]().union(*(names_in(other.registry) for other in _all if other is not self))
        foreign -= names_in(self.registry) | names_in(REGISTRY)
        return gather([*own, *(metric for metric in users if metric.name not in foreign)])

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
        for spec in catalog.CATALOG:
            metric = found.get(spec.family) or Metric(spec.family, spec.help, spec.kind)
            if spec.states:
                merge.show_worst(metric, spec.labels[-1], spec.states)
            if metric.samples or spec in catalog.CONTRACT:
                own.append(metric)
        return own, users


def names_in(registry: CollectorRegistry) -> set[str]:
    """Return the names of the metrics registered in *registry*."""
    return set(registry._names_to_collectors)  # noqa: SLF001 - there is no other way to ask without collecting
