"""One app's metrics, mounted: made in one place, taken off in one place."""

from __future__ import annotations

import hashlib
import itertools
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from ..mounts import entry_of, mounts_of, settings_of
from . import catalog
from .collectors import AppState, process_state
from .compat import SvcInfraNames
from .exposition import Exposition, Families
from .http import HttpMetrics
from .instruments import Instruments
from .kept import kept
from .listener import Listener
from .pools import measure_pools
from .routes import Classifier, Routes
from .scrape import AppCollector

if TYPE_CHECKING:
    from flask import Flask

    from ..access import Access

__all__ = ["Mounted", "Wishes"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What was asked for, checked."""

    path: str
    skip: tuple[str, ...]
    engines: tuple[Any, ...]
    classifier: Classifier | None
    access: Access | None
    listen: tuple[str, int] | None
    compat: bool
    registries: Sequence[CollectorRegistry]


class Mounted:
    """The metrics on one app.

    Args:
        app: the app.
        wishes: how.
        directory: where several workers' values meet; None keeps them in memory.
    """

    def __init__(self, app: Flask, wishes: Wishes, directory: Path | None) -> None:
        self._app = weakref.ref(app)
        self._path = wishes.path
        mounts = mounts_of(app)
        tag = _take_tag(app, wishes.path)
        specs = [spec for spec in (*catalog.CATALOG, *catalog.COMPAT) if spec.scope == "app"]
        own = Instruments(specs, buckets=settings_of(app).metrics_buckets, directory=directory, tag=tag)
        process = process_state(directory)
        self._state = AppState(own, mounts)
        self._routes = Routes(own, wishes.classifier)
        self._exposition = Exposition(self._collect, access=wishes.access)
        self._http = HttpMetrics(
            own,
            self._routes,
            match=self._match,
            answer=self._exposition,
            paths=(wishes.path,),
            skip=wishes.skip,
        )
        self._compat = SvcInfraNames(app, own, self._routes) if wishes.compat else None
        registry = CollectorRegistry(auto_describe=True)
        self._collector = AppCollector(
            own,
            process=process,
            state=self._state,
            http=self._http,
            registries=(registry, wishes.registries),
            compat=self._compat,
        )
        registry.register(self._collector)
        if directory is not None:
            self._http.refresh_each_second(self._collector.refresh)
        self._stop_pools = measure_pools(wishes.engines, process)
        mounts.parts["obs"] = self
        mounts.parts["obs.registry"] = registry
        mounts.metrics_paths = (*mounts.metrics_paths, wishes.path)
        entry_of(app).observe(self._middleware)
        self._listener = None if wishes.listen is None else Listener(wishes.listen, self._exposition)

    def remove(self) -> None:
        """Take everything off the app."""
        app = self._app()
        if self._listener is not None:
            self._listener.stop()
        if self._compat is not None:
            self._compat.close()
        self._stop_pools()
        self._state.close()
        if app is None:
            return
        mounts = mounts_of(app)
        entry_of(app).observe(None)
        mounts.metrics_paths = tuple(path for path in mounts.metrics_paths if path != self._path)
        mounts.parts.pop("obs", None)
        mounts.parts.pop("obs.registry", None)
        _tags.pop(app, None)

    def _middleware(self, inner: Any) -> Any:
        return self._http.middleware(inner if self._compat is None else self._compat.middleware(inner))

    def _collect(self) -> Families:
        app = self._app()
        if app is not None:
            try:
                self._routes.prepare_errors(app.url_map.iter_rules(), self._http.is_skipped)
            except OSError as error:
                self._http.complain(error)
        return self._collector.scrape()

    def _match(self, environ: dict[str, Any]) -> str | None:
        """Match a request again whose context is gone, as after an exception that Flask let through."""
        app = self._app()
        if app is None:
            return None
        try:
            adapter = app.create_url_adapter(app.request_class(environ, populate_request=False))
            if adapter is None:
                return None
            rule, _ = adapter.match(return_rule=True)
        except Exception:  # it matches nothing, for whatever reason: a hostile Host, a path that is not UTF-8
            return None
        return rule.rule


_tags: weakref.WeakKeyDictionary[Any, str] = kept("tags", weakref.WeakKeyDictionary)


def _take_tag(app: Flask, path: str) -> str:
    """Return what tells this app's files from another's, the same in every worker that builds the same apps.

    It is made of the app's import name and metrics path; apps that share both are numbered in the order in
    which they are set up, and a number is free again when its app is gone.
    """
    taken = set(_tags.values())
    names: Iterable[str] = (f"{app.import_name}\0{path}\0{number}" for number in itertools.count())
    for name in names:
        # A letter first: it becomes part of a file name, where a number would be a time.
        tag = f"a{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        if tag not in taken:
            _tags[app] = tag
            return tag
    raise AssertionError("there is always another number")  # pragma: no cover - count() does not end
