"""The operations page: how the service is, and the switches for whoever is paged at night.

It is served where ``SVC_INFRA_CONSOLE`` is on, and imported nowhere else.
"""

from .views import add_console

__all__ = ["add_console"]
