"""Draw the picture of the console for the docs: the example shop while its payment API is down.

Run it as ``python scripts/draw_console.py``; needs Chromium (Debian: ``apt install chromium``) and Pillow,
writes ``docs/pictures/console.png``. It starts ``examples/shop/demo.py`` and ends it again.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from base64 import b64encode
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests")]

from PIL import Image  # noqa: E402
from support.processes import eventually, finish, spawn  # noqa: E402 - as the tests end what they start
from support.web import request  # noqa: E402

PICTURE = ROOT / "docs/pictures/console.png"
ORDERS = [
    {"action": "breaker.disable", "circuit": "payments", "reason": "we watch a deploy of theirs"},
    {"action": "breaker.reset", "circuit": "payments", "reason": "it went well"},
    {
        "action": "maintenance.enable",
        "mode": "read-only",
        "minutes": "30",
        "reason": "nobody can pay; the provider is on it",
    },
]
SWITCHES = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]


def main() -> int:
    """Start the demo, let things go wrong, and photograph what one sees."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("Chromium is needed to draw the picture; install Debian's package chromium.")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "demo.log"
        demo = spawn([sys.executable, "-u", ROOT / "examples/shop/demo.py", "--port", "0"], log=log)
        try:
            found = eventually(
                lambda: re.search(
                    r"(http://\S+)/_ops/console .*password (\S+)\)[\s\S]*?'(http://[^/]+)/faults",
                    log.read_text(),
                ),
                timeout=60,
                message="the demo did not start",
            )
            _go_wrong(*found.groups())
            _photograph(browser, found[1], found[2], folder)
        finally:
            finish(demo, signum=signal.SIGINT, timeout=30)
    return 0


def _go_wrong(shop: str, password: str, api: str) -> None:
    credentials = b64encode(f"ann:{password}".encode()).decode()
    headers = {
        "Authorization": f"Basic {credentials}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    for order in ORDERS[:-1]:
        request(f"{shop}/_ops/console", "POST", body=urlencode(order), headers=headers)
    request(f"{api}/faults?failure_rate=1", "PUT")
    eventually(
        lambda: 'name="payments",state="open"} 1.0' in request(f"{shop}/metrics").text,
        timeout=30,
        message="the circuit did not open",
    )
    request(f"{shop}/_ops/console", "POST", body=urlencode(ORDERS[-1]), headers=headers)


def _photograph(browser: str, shop: str, password: str, folder: str) -> None:
    url = shop.replace("://", f"://ann:{password}@") + "/_ops/console"
    size = ["--window-size=1000,1330", f"--screenshot={PICTURE}", f"--user-data-dir={folder}/profile"]
    subprocess.run([browser, *SWITCHES, *size, url], check=True, timeout=60, stderr=subprocess.DEVNULL)
    Image.open(PICTURE).quantize(256).save(PICTURE, optimize=True)


if __name__ == "__main__":
    raise SystemExit(main())
