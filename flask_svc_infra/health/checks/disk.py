"""Is there room left on a file system?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigurationError
from ..model import HealthStatus
from .making import BuiltInCheck, Found

if TYPE_CHECKING:
    from ..model import HealthCheckFn

__all__ = ["check_disk"]


def check_disk(
    path: str | os.PathLike[str] = "/", *, degraded_below: float = 0.1, unhealthy_below: float = 0.05
) -> HealthCheckFn:
    """Make a check of the free space on the file system that holds *path*.

    Free is what this process may still write, without the part reserved for root. Ten and five in a hundred
    are the kubelet's own marks for evicting pods from a node.

    Args:
        path: any file or folder on it.
        degraded_below: the free part, from 0 to 1, below which it is degraded.
        unhealthy_below: the free part below which it is unhealthy; at most *degraded_below*.

    Raises:
        ConfigurationError: an argument cannot work, or there is nothing at *path*.
    """
    place = _require(path, degraded_below, unhealthy_below)

    def look(_: float) -> Found:
        usage = shutil.disk_usage(place)
        part = usage.free / usage.total if usage.total else 0.0
        details = {"free_bytes": usage.free, "total_bytes": usage.total}
        message = f"{part:.1%} free at {place}"
        if part < unhealthy_below:
            return Found(HealthStatus.UNHEALTHY, message, details)
        if part < degraded_below:
            return Found(HealthStatus.DEGRADED, message, details)
        return Found(HealthStatus.HEALTHY, None, details)

    return BuiltInCheck("disk", look)


def _require(path: Any, degraded_below: Any, unhealthy_below: Any) -> Path:
    for option, part in (("degraded_below", degraded_below), ("unhealthy_below", unhealthy_below)):
        if isinstance(part, bool) or not isinstance(part, int | float) or not 0 <= part <= 1:
            raise ConfigurationError(
                f"check_disk has {option}={part!r}; no check was made. Pass a part of the whole, from 0 to 1."
            )
    if unhealthy_below > degraded_below:
        raise ConfigurationError(
            f"check_disk has unhealthy_below={unhealthy_below} above degraded_below={degraded_below}; "
            "no check was made. What is unhealthy has less room than what is degraded."
        )
    if not isinstance(path, str | os.PathLike) or not Path(path).exists():
        raise ConfigurationError(
            f"check_disk was given the path {str(path)!r}, and there is nothing; no check was made. "
            "Pass a file or a folder that exists."
        )
    return Path(path)
