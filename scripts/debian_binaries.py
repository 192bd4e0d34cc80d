"""Bring a program from Debian's packages without installing anything: unpacked under ``.cache/debian``.

    python scripts/debian_binaries.py prometheus promtool prometheus-alertmanager

prints the path of each. What is on the PATH is taken as it is. Works as any user: apt keeps its lists and its
downloads under ``.cache`` too, so nothing outside the checkout changes and no service is started.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import time
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache"
ROOT = CACHE / "debian"
PACKAGES = {
    "amtool": "prometheus-alertmanager",
    "memcached": "memcached",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "promtool": "prometheus",
}
"""The package of each program that may be asked for."""

_TRIES = 3
"""A registry may be slow or cut off a download; a 'no' shows at the first try as well as at the third."""


def locate(program: str) -> Path | None:
    """Return where *program* is, or None."""
    found = shutil.which(program) or shutil.which(program, path=str(ROOT / "usr" / "bin"))
    return None if found is None else Path(found)


def bring(program: str) -> Path:
    """Return where *program* is, unpacked from its package if it was missing."""
    if program not in PACKAGES:
        sys.exit(f"'{program}' is unknown here; known are: {', '.join(PACKAGES)}")
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "debian.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = locate(program)
        if found is None:
            _unpack(PACKAGES[program])
            found = locate(program)
    if found is None:
        sys.exit(f"the package '{PACKAGES[program]}' was unpacked but holds no program '{program}'")
    return found


def _unpack(package: str) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        sys.exit(f"apt-get and dpkg-deb are needed to bring '{package}'; install {package} by hand instead")
    folder = CACHE / "debs"
    folder.mkdir(exist_ok=True)
    # The machine's own lists first: they are enough where `apt-get update` has run.
    if not _download(package, folder, private=False):
        _download(package, folder, private=True) or sys.exit(f"apt-get could not download '{package}'")
    for archive in folder.glob(f"{package}_*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(ROOT)], check=True)
        archive.unlink()


def _download(package: str, folder: Path, *, private: bool) -> bool:
    options: list[str] = ["-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3", "-q"]
    if private:
        state, cache = CACHE / "apt" / "state", CACHE / "apt" / "cache"
        for part in (state / "lists" / "partial", cache / "archives" / "partial"):
            part.mkdir(parents=True, exist_ok=True)
        options += ["-o", f"Dir::State={state}", "-o", f"Dir::Cache={cache}"]
        options += ["-o", "Dir::State::status=/var/lib/dpkg/status"]
        if not _try(["apt-get", *options, "update"], folder):
            return False
    return _try(["apt-get", *options, "download", package], folder, tries=_TRIES if private else 1)


def _try(argv: list[str], folder: Path, *, tries: int = _TRIES) -> bool:
    for attempt in range(tries):
        if attempt:
            time.sleep(2**attempt)
        run = subprocess.run(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        if run.returncode == 0:
            return True
        print(run.stderr.decode(errors="replace").strip(), file=sys.stderr)
    return False


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(bring(name))
