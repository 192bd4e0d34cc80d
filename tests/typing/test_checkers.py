"""Types survive decoration, for both type checkers: each must accept every case file, ignores and all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CASES = sorted(Path(__file__).parent.glob("*_cases.py"))


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a checker outside the checkout: there it would judge the package too."""
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=cwd)


def test_there_are_cases():
    assert [case.name for case in CASES] == ["breaker_cases.py", "retry_cases.py"]


@pytest.mark.slow
@pytest.mark.needs("mypy")
def test_mypy_accepts_the_cases(tmp_path):
    done = run(
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        f"--cache-dir={tmp_path}",
        *map(str, CASES),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.needs("pyright")
def test_pyright_accepts_the_cases(tmp_path):
    settings = tmp_path / "pyrightconfig.json"
    settings.write_text(
        json.dumps(
            {
                "include": [str(case) for case in CASES],
                "typeCheckingMode": "strict",
                "enableTypeIgnoreComments": False,
                "reportUnnecessaryTypeIgnoreComment": "error",
                "reportPrivateUsage": "none",
                "reportUnknownLambdaType": "none",
                "reportUnknownArgumentType": "none",
                "reportUnknownVariableType": "none",
                "reportUnknownMemberType": "none",
            }
        )
    )
    done = run(
        sys.executable,
        "-m",
        "pyright",
        "--project",
        str(settings),
        "--pythonpath",
        sys.executable,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
