"""Imports go one way, and the tests run against what users install."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

import flask_svc_infra

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.needs("importlinter")
def test_imports_go_one_way():
    """The contracts of setup.cfg, which `make lint` checks too."""
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / "setup.cfg", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_layers_in_the_documentation_are_those_that_are_checked():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    checked = config["importlinter:contract:layers"]["layers"].split("\n")
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = page.partition("## Layers\n\n```\n")[2].partition("```")[0].splitlines()
    assert [re.split(r"\s{2,}", line)[0] for line in drawn] == [
        re.sub(r"flask_svc_infra\.|[()]", "", line) for line in checked if line
    ]


def test_the_suite_runs_against_the_installed_wheel():
    """`make test` promises it: a checkout on the path would hide a file that is missing from the wheel."""
    is_checkout = Path(flask_svc_infra.__file__).parent == ROOT / "flask_svc_infra"
    assert not (is_checkout and os.environ.get("TESTS_EXPECT_WHEEL"))
