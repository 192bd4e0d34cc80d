"""Service level objectives, as one line each.

``SLO("availability", objective=0.999)`` says: of a service's requests, 99.9 % succeed. What may fail is the
error budget, ``1 - objective``. Rules, alerts, their tests and the dashboards follow from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from decimal import Decimal

from ..errors import ConfigurationError
from . import promql
from .catalog import METHODS, OTHER_METHOD, UNMATCHED

__all__ = ["SLO", "add_bounds", "check_bounds", "check_slos"]

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_STATUS = re.compile(r"[1-5](?:[0-9]{2}|xx)")
SHORTEST_WINDOW = "1d"
"""Below it the burn-rate table (1 h to 3 d) has next to nothing left to say."""
LONGEST_WINDOW = "366d"
FINEST = 1e-9
"""A budget below one request in a thousand million cannot be told from rounding in Prometheus."""


@dataclass(frozen=True, slots=True)
class SLO:
    """What share of which requests must be good, over which time.

    Without `latency` a request is bad when it was answered 5xx; with it, when it took longer. The duration
    histogram does not know the status, so a quick failure is a good request to a latency objective: declare
    both.

    Args:
        name: unique; a label value, part of rule group names. Letters, digits, dots, hyphens, underscores.
        objective: the share that must be good, between 0 and 1: 0.999, not 99.9.
        latency: seconds within which a request is good; None: judge by status.
        path: one URL rule, as it is registered (``/orders/<int:id>``); None: all but the probes'.
        route_class: one class of the route classifier; None: every class.
        methods: the methods that count; None: all.
        window: the time the objective is kept over, rolling, at least a day. Prometheus must keep samples for
            that long (its default is 15 days).
        exclude_status: statuses that are left out, neither good nor bad, as in ``(404, "4xx")``. Not with
            `latency`.
        description: what it means to a customer; shown in the alerts.
        runbook: a URL for its alerts; None: our chapter on them.

    Raises:
        ConfigurationError: a value cannot work; it says which and how to write it.
    """

    name: str
    _: KW_ONLY
    objective: float
    latency: float | None = None
    path: str | None = None
    route_class: str | None = None
    methods: tuple[str, ...] | None = None
    window: str = "30d"
    exclude_status: tuple[int | str, ...] = ()
    description: str | None = None
    runbook: str | None = None

    def __post_init__(self) -> None:
        if not _is_text(self.name) or not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"an SLO cannot be called {self.name!r}; it was not made. Use up to 63 letters, digits, "
                "dots, hyphens and underscores, beginning and ending with a letter or a digit."
            )
        self._check_objective()
        if self.latency is not None and (not _is_number(self.latency) or self.latency <= 0):
            raise self._refused(
                f"has latency {self.latency!r}",
                "Write seconds above zero, as in latency=0.5, or leave it out.",
            )
        self._check_requests()
        self._check_window()
        for attribute in ("description", "runbook"):
            text = getattr(self, attribute)
            if text is not None and (not _is_text(text) or not text.strip()):
                raise self._refused(f"has {attribute} {text!r}", "Write a sentence, or leave it out.")

    def _refused(self, state: str, cure: str) -> ConfigurationError:
        return ConfigurationError(f"SLO '{self.name}' {state}, which cannot work; it was not made. {cure}")

    def _check_objective(self) -> None:
        objective = self.objective
        if not _is_number(objective):
            raise self._refused(
                f"has objective {objective!r}", "Write a number between 0 and 1, as in objective=0.999."
            )
        if objective in {1, 100}:
            raise self._refused(
                f"has objective {objective}",
                "It leaves no error budget: every failure breaks it. Write less than 1, as in 0.999.",
            )
        if 1 < objective < 100:  # noqa: PLR2004 - percent
            share = promql.number(float(Decimal(repr(float(objective))) / 100))
            raise self._refused(
                f"has objective {promql.number(objective)}, a percentage",
                f"Write it as a share: objective={share}.",
            )
        if not FINEST <= objective <= 1 - FINEST:
            raise self._refused(
                f"has objective {objective!r}", "Write a number between 0 and 1, as in objective=0.999."
            )

    def _check_requests(self) -> None:
        path = self.path
        if path is not None and (not _is_text(path) or not (path.startswith("/") or path == UNMATCHED)):
            raise self._refused(
                f"has path {path!r}", "Write the URL rule as it is registered, as in path='/orders/<int:id>'."
            )
        if self.route_class is not None and (not _is_text(self.route_class) or not self.route_class):
            raise self._refused(
                f"has route_class {self.route_class!r}",
                "Write what the route classifier returns, as in 'public'.",
            )
        object.__setattr__(self, "methods", self._read_methods())
        object.__setattr__(self, "exclude_status", self._read_statuses())

    def _read_methods(self) -> tuple[str, ...] | None:
        if self.methods is None:
            return None
        cure = "Write a list of methods, as in methods=['GET', 'HEAD'], or leave it out."
        if not _is_list(self.methods):
            raise self._refused(f"has methods {self.methods!r}", cure)
        methods = tuple(str(method).upper() for method in self.methods)
        for method in methods:
            if method not in (*METHODS, OTHER_METHOD):
                raise self._refused(
                    f"has the method {method!r}",
                    f"Methods are counted as {', '.join(METHODS)}; all others as {OTHER_METHOD}.",
                )
        if not methods:
            raise self._refused("has no methods", cure)
        return tuple(dict.fromkeys(methods))

    def _read_statuses(self) -> tuple[int | str, ...]:
        cure = "Write statuses or classes of them in a list, as in exclude_status=[404, '3xx']."
        if not _is_list(self.exclude_status):
            raise self._refused(f"has exclude_status {self.exclude_status!r}", cure)
        statuses = tuple(str(status).lower() for status in self.exclude_status)
        for status in statuses:
            if not _STATUS.fullmatch(status):
                raise self._refused(f"has exclude_status {status!r}", cure)
        if "5xx" in statuses:
            raise self._refused(
                "leaves out every 5xx", "Nothing could be bad then; leave out single statuses."
            )
        if statuses and self.latency is not None:
            raise self._refused(
                "has both latency and exclude_status",
                "The duration histogram has no status label; leave exclude_status out.",
            )
        return tuple(dict.fromkeys(statuses))

    def _check_window(self) -> None:
        cure = f"Write at least {SHORTEST_WINDOW} and at most {LONGEST_WINDOW}, as in window='30d'."
        try:
            length = promql.seconds(self.window)
        except (ConfigurationError, TypeError):
            raise self._refused(f"has window {self.window!r}", cure) from None
        if not promql.seconds(SHORTEST_WINDOW) <= length <= promql.seconds(LONGEST_WINDOW):
            raise self._refused(f"has window {self.window!r}", cure)

    @property
    def budget(self) -> float:
        """The share that may be bad, without the noise of ``1 - 0.999`` in floating point."""
        return float(1 - Decimal(repr(float(self.objective))))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_list(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str)


def _is_text(text: object) -> bool:
    """Tell whether *text* can be a label's value: any Unicode but lone surrogates."""
    if not isinstance(text, str):
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_slo(value: object) -> bool:
    return isinstance(value, SLO)


def check_slos(slos: Iterable[SLO]) -> tuple[SLO, ...]:
    """Return *slos* as a tuple.

    Raises:
        ConfigurationError: two have one name, or something in it is no SLO.
    """
    if not isinstance(slos, Iterable):
        raise ConfigurationError(f"slos is {slos!r}, not several SLOs; none was accepted. Write slos=[...].")
    checked = tuple(slos)
    strangers = [slo for slo in checked if not _is_slo(slo)]
    if strangers:
        raise ConfigurationError(
            f"{strangers[0]!r} is no SLO; none was accepted. Write SLO('availability', objective=0.999)."
        )
    names: set[str] = set()
    for slo in checked:
        if slo.name in names:
            raise ConfigurationError(
                f"there are two SLOs called '{slo.name}'; none was accepted. Give each a name of its own."
            )
        names.add(slo.name)
    return checked


def add_bounds(buckets: Sequence[float], slos: Iterable[SLO]) -> tuple[float, ...]:
    """Return *buckets* with every objective's latency among the bounds, in order."""
    wanted = {float(slo.latency) for slo in slos if slo.latency is not None}
    return tuple(sorted({*map(float, buckets), *wanted}))


def check_bounds(buckets: Sequence[float], slos: Iterable[SLO]) -> None:
    """Refuse a latency that is no bucket's bound: what lies within a bucket cannot be counted.

    Raises:
        ConfigurationError: it names the objective and the nearest bounds.
    """
    bounds = sorted(bound for bound in map(float, buckets) if math.isfinite(bound))
    for slo in slos:
        if slo.latency is None or float(slo.latency) in bounds:
            continue
        below = [bound for bound in bounds if bound < slo.latency][-1:]
        above = [bound for bound in bounds if bound > slo.latency][:1]
        near = " or ".join(promql.number(bound) for bound in [*below, *above])
        raise ConfigurationError(
            f"SLO '{slo.name}' has latency {promql.number(slo.latency)}, which is no bound of the duration "
            f"histogram; requests within it cannot be counted. Use {near}, or add it to "
            "SVC_INFRA_METRICS_BUCKETS."
        )
