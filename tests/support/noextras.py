"""A pytest plugin for an environment with the core dependencies alone: ``pytest -p support.noextras``.

There, a test that needs a package which is not installed is left out; every other test has to pass. Whether
a test needs one shows by itself where it, its module or its fixtures import the package, or where the package
under test says that a driver is missing. Elsewhere ``@pytest.mark.needs("asgiref")`` says it; that mark does
nothing in an ordinary run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


def _absent(name: str | None) -> bool:
    """Tell whether the module *name* is not there; a folder of tests that bears its name is not it."""
    if not name:
        return False
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return True
    return spec is None or spec.origin is None


def _imports(path: Path) -> Iterator[str]:
    """Yield what a module imports outside its functions."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            package, _, module = node.module.partition(".")
            if package != "support":
                yield node.module
            elif module:
                yield from _imports(Path(__file__).parent / f"{module}.py")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out a module that cannot be imported here."""
    if collection_path.suffix == ".py" and any(_absent(name) for name in _imports(collection_path)):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what its mark says needs a package that is not here."""
    for item in items:
        for mark in item.iter_markers("needs"):
            if any(_absent(name) for name in mark.args):
                item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(mark.args)}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[Any]) -> Iterator[Any]:
    """Turn a failure for want of a package that is not here into a skip."""
    report = yield
    error = call.excinfo.value if call.excinfo is not None else None
    missing = getattr(error, "module", None) or getattr(error, "name", None)
    if report.failed and isinstance(error, ImportError) and isinstance(missing, str) and _absent(missing):
        report.outcome = "skipped"
        report.longrepr = (str(report.location[0]), report.location[1] or 0, f"Skipped: needs {missing}")
    return report
