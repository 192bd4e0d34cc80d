"""What the gunicorn tests serve, and how they watch it."""

from __future__ import annotations

import pytest
from support.served import APP, CONF


@pytest.fixture
def serve(gunicorn):
    """Serve ``APP`` under the conf module, and wait until it answers."""

    def run(**options):
        options.setdefault("source", APP)
        if "conf_source" not in options:
            options.setdefault("conf", CONF)
        server = gunicorn(**options)
        server.wait_ready("/_ops/live")
        return server

    return run
