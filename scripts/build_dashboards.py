"""Write the bundled Grafana dashboards from their Python in ``scripts/dashboards/``.

Run it after changing one: ``python scripts/build_dashboards.py [NAME ...]``. With ``--check`` nothing is
written, and the exit code is 1 when a file is not what would be written.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dashboards import http_overview, resilience, slo
from dashboards.render import render

TARGET = Path(__file__).parents[1] / "flask_svc_infra/obs/grafana/dashboards"
DASHBOARDS = {
    "http-overview": http_overview.DASHBOARD,
    "resilience": resilience.DASHBOARD,
    "slo": slo.DASHBOARD,
}


def main() -> int:
    """Write the files, or compare them."""
    check = "--check" in sys.argv[1:]
    names = [argument for argument in sys.argv[1:] if argument != "--check"] or list(DASHBOARDS)
    stale = []
    for name in names:
        path = TARGET / f"{name}.json"
        text = json.dumps(render(DASHBOARDS[name]), indent=2, ensure_ascii=False) + "\n"
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path)
    for path in stale:
        print(f"{path} is not what scripts/dashboards would make; run python scripts/build_dashboards.py")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
