"""What is mounted on an app, from registries and checks made for awaiting."""

from __future__ import annotations

from .. import health
from .sides import taking_sync_sides

__all__ = ["add_dependency_health", "add_health_routes", "add_startup_probe"]

add_dependency_health = taking_sync_sides(health.add_dependency_health)
add_health_routes = taking_sync_sides(health.add_health_routes)
add_startup_probe = taking_sync_sides(health.add_startup_probe)
