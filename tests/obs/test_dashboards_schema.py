"""The bundled dashboards against Grafana's own types; needs npm and the network, so not for every change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/check_dashboards.py"


@pytest.mark.nightly
def test_grafanas_types_accept_every_dashboard():
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
