"""Check the bundled dashboards against Grafana's own types, with the TypeScript compiler.

``@grafana/schema`` is what Grafana generates from its schema; a misspelt key or a value outside an
enumeration is a type error there, while Grafana itself drops it without a word. Needs npm; its packages are
fetched once, into ``.grafana-schema`` at the root of the sources.

Run it as ``python scripts/check_dashboards.py``; the exit code is tsc's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DASHBOARDS = ROOT / "flask_svc_infra/obs/grafana/dashboards"
FOLDER = ROOT / ".grafana-schema"
PACKAGES = ("@grafana/schema@13", "typescript@5")
TYPES = "@grafana/schema/dist/esm/raw"
PANELS = {
    "timeseries": ("timeseries", "TimeSeries", True),
    "stat": ("stat", "Stat", False),
    "table": ("table", "Table", True),
    "state-timeline": ("statetimeline", "StateTimeline", True),
}
"""Panel type: where its types are, what their file is called, whether it has field options of its own."""

HEADER = f"""\
import type {{
    AnnotationQuery, Dashboard, Panel, VariableModel,
}} from "{TYPES}/dashboard/x/Dashboard_types.gen";
// JSON holds an enumeration's text, not its member.
type Json<T> = T extends string ? `${{T}}` : T extends (infer U)[] ? Json<U>[]
    : T extends object ? {{[K in keyof T]: Json<T[K]>}} : T;
// What the Prometheus data source adds to annotations and variables is in no schema.
type Note = Json<AnnotationQuery> & {{
    expr: string; step: string; titleFormat: string; textFormat: string; useValueForTime: boolean;
}};
type Choice = Json<VariableModel> & {{definition?: string}};
type Model = Omit<Json<Dashboard>, "annotations" | "templating"> & {{
    annotations: {{list: Note[]}}; templating: {{list: Choice[]}};
}};
"""


def main() -> int:
    """Write the dashboards as typed constants, and compile them."""
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not installed; the dashboards were not checked. Install Node.js.", file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n", encoding="utf-8")
    (FOLDER / "dashboards.ts").write_text(typescript(), encoding="utf-8")
    if not (FOLDER / "node_modules").is_dir():
        argv = [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(FOLDER), *PACKAGES]
        subprocess.run(argv, check=True)
    compiler = FOLDER / "node_modules/.bin/tsc"
    flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022"]
    done = subprocess.run([str(compiler), *flags, "dashboards.ts"], cwd=FOLDER, check=False)
    return done.returncode


def typescript() -> str:
    """Return every dashboard, and every panel's options, as a constant of its type."""
    lines = [HEADER]
    for kind, (folder, name, _) in PANELS.items():
        types = f"{TYPES}/composable/{folder}/panelcfg/x/{name}PanelCfg_types.gen"
        lines.append(f'import type * as {_word(kind)} from "{types}";')
    for path in sorted(DASHBOARDS.glob("*.json")):
        model = json.loads(path.read_text(encoding="utf-8"))
        name = _word(path.stem)
        lines.append(f"export const {name}: Model = {json.dumps(model, indent=1)};")
        for panel in [
            *model["panels"],
            *(inner for row in model["panels"] for inner in row.get("panels", [])),
        ]:
            if panel["type"] != "row":
                lines += _panel(f"{name}_{panel['id']}", panel)
    return "\n".join(lines) + "\n"


def _panel(name: str, panel: dict[str, object]) -> list[str]:
    kind = str(panel["type"])
    lines = [
        f"export const {name}: Json<Panel> = {json.dumps(panel, indent=1)};",
        f"export const {name}_options: Json<{_word(kind)}.Options> = {json.dumps(panel['options'])};",
    ]
    if PANELS[kind][2]:
        custom = json.dumps(panel["fieldConfig"]["defaults"]["custom"])  # type: ignore[index]
        lines.append(f"export const {name}_custom: Json<{_word(kind)}.FieldConfig> = {custom};")
    return lines


def _word(text: str) -> str:
    return text.replace("-", "_")


if __name__ == "__main__":
    raise SystemExit(main())
