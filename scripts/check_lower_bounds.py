"""Fail unless the dependencies installed here are exactly the lower bounds that the package names.

`tox -e lowest` asks first: a resolver that lifted a bound would make its green mean nothing.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import requires, version

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[\w,]+\])?>=(?P<bound>[\w.]+)(?P<marker>.*)")
DRIVERS = ("postgres", "redis", "http", "exporter", "async")


def lifted() -> list[str]:
    """Return what is installed newer than its bound, of the core dependencies and the drivers."""
    found = []
    for requirement in requires("flask-svc-infra") or ():
        match = _REQUIREMENT.fullmatch(requirement)
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if match is None or (extra is not None and extra[1] not in DRIVERS):
            continue
        have = version(match["name"])
        if re.sub(r"(\.0)+$", "", have) != re.sub(r"(\.0)+$", "", match["bound"]):
            found.append(f"{match['name']}: the bound is {match['bound']}, installed is {have}")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(lifted()) or 0)
