"""The bundled dashboards against Grafana's own types: what Grafana drops without a word is an error there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "flask_svc_infra/obs/grafana/dashboards"


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/check_dashboards.py", folder],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    if done.returncode == 2:
        pytest.skip(f"Grafana's types are on npm alone: {done.stderr.strip()}")
    return done


def test_grafanas_types_accept_every_dashboard():
    done = check(BUNDLED)
    assert done.returncode == 0, done.stdout + done.stderr


MISTAKES = {
    '"graphTooltip"': '"grafTooltip"',
    '"lineWidth"': '"lineWith"',
    '"sort": "desc"': '"sort": "down"',
}


def test_what_grafana_would_drop_is_found(tmp_path):
    """A key of the dashboard, a key of a panel, and a value outside its enumeration."""
    text = (BUNDLED / "http-overview.json").read_text(encoding="utf-8")
    for right, wrong in MISTAKES.items():
        assert right in text
        text = text.replace(right, wrong)
    (tmp_path / "broken.json").write_text(text, encoding="utf-8")
    done = check(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert all(word in done.stdout for word in ("grafTooltip", "lineWith", '"down"'))
