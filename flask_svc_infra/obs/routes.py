"""Which label a request gets, and where its counts are: looked up once per URL rule and method.

Every label value is from a bounded set: the app's URL rules (else ``<unmatched>``), the known methods (else
``OTHER``), three digits of status, and one class per rule and method.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .catalog import (
    HTTP_DURATION,
    HTTP_IN_PROGRESS,
    HTTP_REQUESTS,
    METHODS,
    OTHER_METHOD,
    UNCLASSIFIED,
    UNMATCHED,
    UNMATCHED_CLASS,
)

if TYPE_CHECKING:
    from werkzeug.routing import Rule

    from .instruments import Instruments

__all__ = ["LABELS", "Classifier", "RouteSeries", "Routes", "method_label"]

Classifier = Callable[[str, str], str]
_logger = logging.getLogger("flask_svc_infra.obs")
LABELS = {method: method for method in METHODS}
_FIRST_ERRORS = ("500", "503")
"""A counter that is born with its first increment shows no increase: these exist before anything fails."""
_NOT_A_STATUS = "invalid"


def method_label(method: str) -> str:
    """Return the label of a request method, in upper case as Flask reads it."""
    return LABELS.get(method) or LABELS.get(method.upper(), OTHER_METHOD)


class RouteSeries:
    """Where the counts of one URL rule and method are.

    Attributes:
        labels: method and path, as they are shown.
        sum: place of the durations' sum.
        buckets: places of the durations' buckets.
        statuses: place of the request counter for each status seen so far.
    """

    __slots__ = ("buckets", "labels", "statuses", "sum")

    def __init__(self, labels: tuple[str, str], total: int, buckets: tuple[int, ...]) -> None:
        self.labels = labels
        self.sum = total
        self.buckets = buckets
        self.statuses: dict[str, int] = {}


class Routes:
    """The series of one app's routes. Thread-safe.

    Args:
        instruments: where they count.
        classifier: gives the class that is appended to a path label; called once per (rule, method).
    """

    def __init__(self, instruments: Instruments, classifier: Classifier | None) -> None:
        self._instruments = instruments
        self._classifier = classifier
        self._classifying = threading.RLock()
        self._paths: dict[tuple[str | None, str], str] = {}
        self.known: dict[tuple[str | None, str], RouteSeries] = {}
        """The series made so far; `series` makes the others."""
        self.in_progress: dict[str, int] = {}
        """The places of the in-progress gauge made so far; `progress` makes the others."""
        self._complained = False

    def series(self, rule: str | None, method: str) -> RouteSeries:
        """Return the series of a URL rule (None: no rule matched) and a method label.

        Raises:
            OSError: they cannot be made.
        """
        series = self.known.get((rule, method))
        if series is None:
            labels = (method, self.path(rule, method))
            places = self._instruments.histogram(HTTP_DURATION, labels)
            series = self.known.setdefault((rule, method), RouteSeries(labels, places.sum, places.buckets))
        return series

    def status(self, series: RouteSeries, status: str) -> int:
        """Return the place of the request counter for *status*, three digits.

        Raises:
            OSError: it cannot be made.
        """
        place = series.statuses.get(status)
        if place is None:
            label = status if len(status) == 3 and status.isascii() and status.isdigit() else _NOT_A_STATUS  # noqa: PLR2004
            place = self._instruments.place(HTTP_REQUESTS, (*series.labels, label))
            if label == status:
                series.statuses[status] = place
        return place

    def progress(self, method: str) -> int:
        """Return the place of the in-progress gauge of a method label.

        Raises:
            OSError: it cannot be made.
        """
        place = self.in_progress.get(method)
        if place is None:
            place = self.in_progress[method] = self._instruments.place(HTTP_IN_PROGRESS, (method,))
        return place

    def path(self, rule: str | None, method: str) -> str:
        """Return the path label of a URL rule and method."""
        known = self._paths.get((rule, method))
        if known is not None:
            return known
        if self._classifier is None:
            label = UNMATCHED if rule is None else rule
        elif rule is None:
            label = f"{UNMATCHED}|{UNMATCHED_CLASS}"
        else:
            with self._classifying:
                if (rule, method) in self._paths:
                    return self._paths[(rule, method)]
                label = self._paths[(rule, method)] = (
                    f"{rule}|{self._classify(self._classifier, rule, method)}"
                )
        return self._paths.setdefault((rule, method), label)

    def prepare_errors(self, rules: Iterable[Rule], skipped: Callable[[str], bool]) -> None:
        """Make the 500 and 503 children of every rule and method, so that the first error is an increase.

        Raises:
            OSError: they cannot be made.
        """
        for rule in rules:
            if rule.endpoint == "static" or str(rule.endpoint).endswith(".static") or skipped(rule.rule):
                continue
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                label = method_label(method)
                labels = (label, self.path(rule.rule, label))
                for status in _FIRST_ERRORS:
                    self._instruments.place(HTTP_REQUESTS, (*labels, status))

    def _classify(self, classifier: Classifier, rule: str, method: str) -> str:
        try:
            found: object = classifier(rule, method)
        except Exception:
            self._complain("raised", rule, method, exc_info=True)
            return UNCLASSIFIED
        if not isinstance(found, str):
            self._complain(f"returned {type(found).__name__}, not a string,", rule, method)
            return UNCLASSIFIED
        return found

    def _complain(self, what: str, rule: str, method: str, *, exc_info: bool = False) -> None:
        if not self._complained:
            self._complained = True
            _logger.error(
                "the route classifier %s for '%s' %s; such routes are counted as '%s'. This is said once.",
                what,
                method,
                rule,
                UNCLASSIFIED,
                exc_info=exc_info,
            )
