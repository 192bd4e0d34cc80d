"""A `PrometheusMetrics` of prometheus-flask-exporter for users' own decorators, without its own measuring.

``@metrics.counter(…)``, ``gauge``, ``histogram`` and ``summary`` go on working; requests are measured by this
package, which sees streams and refused requests, and the scrape is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import MissingDriverError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["make_exporter"]


def make_exporter(registry: CollectorRegistry | None = None) -> Any:
    """Return a ``PrometheusMetrics`` that serves no path and measures no request.

    Args:
        registry: where its metrics are registered; None makes one, its ``registry`` attribute. Give that to
            ``add_observability(registries=…)``.

    Raises:
        MissingDriverError: prometheus-flask-exporter is not installed.
    """
    from prometheus_client import CollectorRegistry

    try:
        from prometheus_flask_exporter import PrometheusMetrics
    except ImportError:
        raise MissingDriverError(
            "the exporter facade", module="prometheus_flask_exporter", extra="exporter"
        ) from None
    make: Any = PrometheusMetrics  # untyped, and its own hints do not know path=None
    return make(
        app=None, path=None, export_defaults=False, registry=registry or CollectorRegistry(auto_describe=True)
    )
