"""The extension: wires the parts to an app. It holds no logic and keeps no app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from .config import require_bool
from .errors import ConfigurationError
from .health import HealthRegistry, add_health_routes
from .mounts import mounts_of, require_unserved, settings_of
from .obs import add_observability, make_exporter
from .obs.objectives import declare_slos
from .obs.slo import check_slos
from .ops import (
    Maintenance,
    add_circuit_error_handler,
    add_circuit_gate,
    add_draining,
    add_maintenance_mode,
    add_probes,
)
from .ops.shared import add_shared_state, share_state
from .resilience import Breakers
from .state.urls import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Flask, Request
    from prometheus_client import CollectorRegistry

    from .config import Settings
    from .obs.slo import SLO
    from .resilience import BreakerOptions, CircuitBreaker
    from .state.reporter import Reporter

__all__ = ["SvcInfra"]


class SvcInfra:
    """Probes, health checks, maintenance mode, circuit gate and metrics for a Flask app, in one object.

    One object may serve several apps, and keeps none of them: health checks and breakers belong to the object
    and are shared, what is mounted belongs to each app. Every part has working defaults and needs no
    configuration; ``app.config`` may say where a deployment differs, see
    :class:`~flask_svc_infra.config.Settings`.

    Args:
        app: the app to wire at once; None for the factory pattern, with ``init_app`` later.
        route_classifier: called with ``(URL rule, method)``, gives the class that is appended to every path
            label as ``rule|class``.
        authorize: called with the request and an action, says whether the request may take it. The action is
            ``"metrics"`` for a scrape; for the console, which is not served without, ``"console"`` to look,
            and ``"breaker.force_open"``, ``"breaker.disable"``, ``"breaker.reset"``,
            ``"maintenance.enable"``, ``"maintenance.disable"``. None: whoever reaches the port may scrape.
        slos: service level objectives; their latencies become bounds of the duration histogram, and
            ``flask svc-infra rules generate`` makes rules of them.
        db_engines: SQLAlchemy engines whose pools are measured.
        probes: whether to mount the plain probes under ``/_ops``.
        health_routes: whether to mount the dependency-aware probes under ``/_health``.
        maintenance_mode: whether to install the maintenance gate.
        circuit_gate: whether to install the gate that ``CIRCUIT_OPEN=1`` shuts.
        metrics: whether to measure requests and expose ``/metrics``.

    Attributes:
        health: the registry of health checks.
        breakers: the registry of circuit breakers.
        maintenance: switches maintenance on and off by code, for every app it serves.
        slos: the objectives.

    Example:
        >>> infra = SvcInfra()
        >>> payments = infra.breaker("payments", failure_threshold=5)
        >>> def create_app():
        ...     app = Flask(__name__)
        ...     infra.init_app(app)
        ...     return app
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        slos: Iterable[SLO] = (),
        route_classifier: Callable[[str, str], str] | None = None,
        authorize: Callable[[Request, str], bool] | None = None,
        db_engines: Iterable[Any] | None = None,
        probes: bool = True,
        health_routes: bool = True,
        maintenance_mode: bool = True,
        circuit_gate: bool = True,
        metrics: bool = True,
    ) -> None:
        self.health = HealthRegistry()
        self.breakers = Breakers()
        self.maintenance = Maintenance()
        self.slos = check_slos(slos)
        self._route_classifier = route_classifier
        self._authorize = authorize
        self._registries: list[CollectorRegistry] = []
        self._exporter: Any = None
        self._db_engines = None if db_engines is None else tuple(db_engines)
        self._sharing: tuple[tuple[str, ...], Reporter] | None = None
        self._wanted = {
            "probes": probes,
            "health_routes": health_routes,
            "maintenance_mode": maintenance_mode,
            "circuit_gate": circuit_gate,
            "metrics": metrics,
        }
        for part, wanted in self._wanted.items():
            require_bool(part, wanted)
        if app is not None:
            self.init_app(app)

    def __repr__(self) -> str:
        checks = [check.name for check in self.health.checks]
        breakers = [breaker.name for breaker in self.breakers]
        return f"<SvcInfra {checks=} {breakers=} slos={[slo.name for slo in self.slos]}>"

    def init_app(self, app: Flask) -> None:
        """Wire every part that is switched on to *app*.

        Call it after ``app.config`` is filled and before the first request.

        Raises:
            ConfigurationError: a ``SVC_INFRA_*`` key is unknown or malformed, or ``SVC_INFRA_CONSOLE`` is on
                without ``authorize``; nothing was mounted.
            MissingDriverError: the state is to be shared on Redis, and redis-py is not installed.
            RuntimeError: a SvcInfra has been wired to this app before, a part of it was mounted by hand at
                the same place, or the app has served a request; the message says which, and the cure.
        """
        settings = settings_of(app)  # refuses bad settings before anything is mounted
        mounts = mounts_of(app)
        require_unserved(app, "SvcInfra")
        if settings.console and self._authorize is None:
            raise ConfigurationError(
                "SVC_INFRA_CONSOLE is on, but SvcInfra was made without authorize=, so whoever reaches the "
                "port could switch the service; nothing was mounted. Write SvcInfra(authorize=may_operate), "
                "a function that takes a request and an action and returns whether it is allowed, or set "
                "SVC_INFRA_CONSOLE to off."
            )
        reporter = self._reporter_of(settings, app.instance_path)
        mounts.claim(
            "SvcInfra", "Call init_app once per app: drop either SvcInfra(app) or the later init_app(app)."
        )
        unmeasure: Callable[[], None] | None = None
        try:
            declare_slos(app, self.slos)
            if self._wanted["metrics"]:
                unmeasure = add_observability(
                    app,
                    db_engines=self._db_engines,
                    metrics_path=settings.metrics_path,
                    route_classifier=self._route_classifier,
                    authorize=self._authorize,
                    registries=self._registries,
                )
            self._mount(app, settings)
            if reporter is not None:
                add_shared_state(app, reporter, self.breakers)  # last, to be the first of all hooks
            if settings.console:
                self._add_console(app, settings, reporter)
        except BaseException:  # so that it can be tried again: Flask can give up everything but blueprints
            if unmeasure is not None:
                unmeasure()
            mounts.release("SvcInfra")
            raise

    def _reporter_of(self, settings: Settings, folder: str) -> Reporter | None:
        """Return what shares this object's circuits and maintenance; None where nothing is shared."""
        store = open_store(settings.state_url, namespace=settings.namespace, folder=folder)
        where = (store.url, settings.namespace)
        if self._sharing is None:
            if not store.shared:
                return None
            self._sharing = where, share_state(store, self.breakers, self.maintenance)
        elif self._sharing[0] != where:
            raise ConfigurationError(
                "the apps of one SvcInfra share its circuits, but this one's SVC_INFRA_STATE_URL or "
                "SVC_INFRA_NAMESPACE differs from the first's; nothing was mounted. Give both the same."
            )
        return self._sharing[1]

    def _mount(self, app: Flask, settings: Settings) -> None:
        if self._wanted["probes"]:
            add_probes(app, prefix=settings.ops_prefix)
        if self._wanted["health_routes"]:
            add_health_routes(
                app,
                self.health,
                prefix=settings.health_prefix,
                detailed_on_failure=settings.detailed_on_failure,
            )
        if self._wanted["maintenance_mode"]:
            add_maintenance_mode(
                app,
                env_var=settings.maintenance_env_var,
                exempt_prefixes=settings.maintenance_exempt_prefixes,
                maintenance=self.maintenance,
            )
        if self._wanted["circuit_gate"]:
            add_circuit_gate(app)
        add_circuit_error_handler(app)
        add_draining(app)

    def _add_console(self, app: Flask, settings: Settings, reporter: Reporter | None) -> None:
        from .console import add_console  # here: who does not serve it does not pay for it

        add_console(
            app,
            path=settings.console_path,
            authorize=self._authorize,
            registry=self.health,
            breakers=self.breakers,
            reporter=reporter,
            namespace=settings.namespace,
            max_age=settings.health_cache_ttl,
        )

    def breaker(self, name: str, **options: Unpack[BreakerOptions]) -> CircuitBreaker:
        """Return the breaker called *name*, made at the first call.

        Args:
            name: unique among this object's breakers.
            **options: as :class:`~flask_svc_infra.resilience.CircuitBreaker` takes them.

        Raises:
            ConfigurationError: *name* exists with other options (the message shows both), or an option
                cannot work.
        """
        return self.breakers.get(name, **options)

    @property
    def exporter(self) -> Any:
        """A ``PrometheusMetrics`` of prometheus-flask-exporter: ``@infra.exporter.counter(…)`` and the like.

        Its metrics are shown by every app this object serves; it serves no path and measures no request of
        its own. Made at the first use, before or after ``init_app``.

        Raises:
            MissingDriverError: prometheus-flask-exporter is not installed.
        """
        if self._exporter is None:
            self._exporter = make_exporter()
            self._registries.append(self._exporter.registry)
        return self._exporter
