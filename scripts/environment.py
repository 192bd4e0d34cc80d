"""Make one of the checkout's virtual environments, from nothing but Python and its pip.

    python3 scripts/environment.py test     .venv-test: the built wheel (not the checkout) with its test extra
    python3 scripts/environment.py bench    .venv-bench: the same with what `make bench` compares us with
    python3 scripts/environment.py lint     .venv-lint: the checkout with what `make lint` runs

uv does the installing (seconds where pip takes most of a minute); pip brings uv once, into
``.cache/uv-venv``. An environment is brought up to date on every call and made anew when its Python has gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
OLDEST = (3, 11)
UV_DEFAULTS = {
    "UV_CACHE_DIR": str(CACHE / "uv"),  # a home directory may be read-only, or missing
    "UV_NO_PROGRESS": "1",
    "UV_PYTHON_DOWNLOADS": "never",
    "UV_SYSTEM_CERTS": "1",  # as pip and curl do: a network may have its own certificate authority
}
"""Unless the caller's environment says otherwise."""
GROUPS: dict[str, tuple[str, ...]] = {"test": (), "bench": ("bench",), "lint": ("lint",)}
"""The environments, each with the dependency groups of pyproject.toml that it takes beside the test extra."""


def main(name: str) -> None:
    """Make or refresh the environment *name* and print where it is."""
    if name not in GROUPS:
        sys.exit(f"'{name}' is not an environment; there are: {', '.join(GROUPS)}")
    if sys.version_info < OLDEST:
        wanted, have = (".".join(map(str, version)) for version in (OLDEST, sys.version_info[:3]))
        sys.exit(f"Python {wanted} or newer is needed, this is {have}: run  make PYTHON=python{wanted} …")
    began = time.monotonic()
    uv = bring_uv()
    home = ROOT / f".venv-{name}"
    if not works(home / "bin" / "python"):
        shutil.rmtree(home, ignore_errors=True)
        run(uv, "venv", "--quiet", "--python", sys.executable, str(home))
    install = [uv, "pip", "install", "--quiet", "--python", str(home / "bin" / "python")]
    groups = [part for group in GROUPS[name] for part in ("--group", f"{ROOT / 'pyproject.toml'}:{group}")]
    if name == "lint":
        run(*install, *groups, "--editable", f"{ROOT}[test]")
    else:
        run(*install, *groups, "--reinstall-package", "flask-svc-infra", f"{build_wheel(uv)}[test]")
    print(f"{home.name} is ready ({time.monotonic() - began:.1f}s)")


def bring_uv() -> str:
    """Return a uv: the one on the PATH, else one of our own, installed with pip."""
    if found := shutil.which("uv"):
        return found
    home = CACHE / "uv-venv"
    uv = home / "bin" / "uv"
    if not works(uv):
        print("bringing uv …", flush=True)
        try:
            venv.create(home, clear=True, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit("python3 cannot make a virtual environment with pip: install Debian's python3-venv")
        run(str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv")
    return str(uv)


def build_wheel(uv: str) -> Path:
    """Build the wheel and return it: tests against it notice a file that is missing from it."""
    folder = CACHE / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    run(uv, "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    return wheel


def works(program: Path) -> bool:
    """Tell whether *program* starts: a moved checkout or a removed Python leaves one that does not."""
    try:
        return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run(*argv: str) -> None:
    """Run a command; if it fails, so do we, having said which."""
    code = subprocess.run(argv, env={**UV_DEFAULTS, **os.environ}, check=False).returncode
    if code:
        sys.exit(f"failed with {code}: {' '.join(argv)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else "")  # noqa: PLR2004
