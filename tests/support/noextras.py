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


def _missing(error: BaseException | None) -> str | None:
    """Return the absent module for want of which *error* was raised, if that is why."""
    while error is not None:
        name = getattr(error, "module", None) or getattr(error, "name", None)
        if isinstance(error, ImportError) and isinstance(name, str) and _absent(name):
            return name
        error = error.__cause__
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[Any]) -> Iterator[Any]:
    """Turn a failure for want of a package that is not here into a skip."""
    report = yield
    missing = _missing(call.excinfo.value) if report.failed and call.excinfo is not None else None
    if missing:
        report.outcome = "skipped"
        report.longrepr = (str(report.location[0]), report.location[1] or 0, f"Skipped: needs {missing}")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[Any]:
    """Leave out a module that cannot be set up for want of a package that is not here."""
    report = yield
    missing = (
        _missing(report.call.excinfo.value) if report.failed and report.call.excinfo is not None else None
    )
    if missing:
        report.outcome = "skipped"
        report.longrepr = (report.nodeid, 0, f"Skipped: needs {missing}")
    return report
