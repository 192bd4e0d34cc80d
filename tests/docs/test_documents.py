"""What the documentation says is so: its Python runs, its data parses, its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from urllib.parse import unquote

import pytest
import yaml
from support.markdown import DOCUMENTS, ROOT, anchors, blocks, links, under

README = ROOT / "README.md"
TITLES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
WITH_PYTHON = [
    title
    for title in TITLES
    if any(block.language == "python" for block in blocks((ROOT / title).read_text()))
]


@pytest.mark.parametrize("title", WITH_PYTHON)
def test_every_python_block_runs(title, postgres, valkey, web, tmp_path):
    """A page's blocks run in order, in one namespace and a process of their own, against real servers."""
    lines: list[str] = []
    for block in blocks((ROOT / title).read_text(encoding="utf-8")):
        if block.language == "python":
            lines += [""] * (block.line - 1 - len(lines))  # so that a traceback names the page's line
            lines += block.text.splitlines()
    page = tmp_path / title.replace("/", "_")
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-W", "error", str(page)],
        cwd=tmp_path,
        env={**os.environ, "SQL_URL": postgres.url, "REDIS_URL": valkey.url, "API_URL": web.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, f"{title}:\n{run.stdout}{run.stderr}"


@pytest.mark.parametrize("title", TITLES)
def test_every_json_and_yaml_block_parses(title):
    for block in blocks((ROOT / title).read_text(encoding="utf-8")):
        if block.language == "json":
            json.loads(block.text)
        elif block.language in {"yaml", "yml"}:
            list(yaml.safe_load_all(block.text))


@pytest.mark.parametrize("title", TITLES)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(title):
    page = ROOT / title
    lost = []
    for line, target in links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue  # somebody else's page: not ours to prove, and a test needs no network
        path, _, anchor = target.partition("#")
        there = (page.parent / unquote(path)).resolve() if path else page
        if not there.exists():
            lost.append(f"{title}:{line}: {target}: no such file")
        elif anchor and there.suffix == ".md" and anchor not in anchors(there.read_text(encoding="utf-8")):
            lost.append(f"{title}:{line}: {target}: no such heading")
    assert lost == []


def test_readme_leads_to_every_page():
    """A page nobody is led to is a page nobody reads."""
    linked = {target.partition("#")[0] for _, target in links(README.read_text(encoding="utf-8"))}
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= linked


@pytest.mark.parametrize(("heading", "command"), [("Try it", "make demo"), ("Run the tests", "make test")])
def test_readme_gives_one_command_first_under_each_heading(heading, command):
    first = under(README.read_text(encoding="utf-8"), heading)[0]
    assert first.language in {"sh", "shell", "bash", "console"}
    assert first.text.strip().splitlines()[-1] == command


def test_ci_runs_the_command_that_readme_names():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").strip().splitlines()
    assert script[-1] == "exec make test"


def test_every_make_target_named_in_the_documentation_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        match
        for path in DOCUMENTS
        for match in re.findall(
            r"`make ([a-z]+)|^make ([a-z]+)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        for match in match
        if match
    }
    assert named <= targets
    assert {"demo", "test", "lint", "bench", "docs"} <= targets
