"""The operations layer of a Flask service: probes, circuit breakers, maintenance mode, metrics.

The public names are resolved at first use: importing the package imports neither Flask nor a driver, which
keeps the container probe and the command line quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import (
        BulkheadFullError,
        CircuitBreakerError,
        ConfigurationError,
        MissingDriverError,
        RetryExhaustedError,
        SvcInfraError,
    )
    from .extension import SvcInfra
    from .obs.slo import SLO

_HOMES = {
    "BulkheadFullError": "errors",
    "CircuitBreakerError": "errors",
    "ConfigurationError": "errors",
    "MissingDriverError": "errors",
    "RetryExhaustedError": "errors",
    "SLO": "obs.slo",
    "SvcInfra": "extension",
    "SvcInfraError": "errors",
}

__all__ = [  # noqa: RUF022 - in the order of sorted(), which a test holds
    "BulkheadFullError",
    "CircuitBreakerError",
    "ConfigurationError",
    "MissingDriverError",
    "RetryExhaustedError",
    "SLO",
    "SvcInfra",
    "SvcInfraError",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("flask-svc-infra")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
