"""Real Prometheus, promtool and Alertmanager from Debian's packages."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from .processes import eventually, finish, free_port, spawn, started
from .web import request

_SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "debian_binaries.py"


@cache
def binary(name: str) -> Path:
    """Return the path of ``prometheus``, ``promtool``, ``prometheus-alertmanager`` or ``amtool``."""
    if found := shutil.which(name):
        return Path(found)
    argv = [sys.executable, str(_SCRIPT), name]
    run = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    if run.returncode != 0:
        raise AssertionError(f"{name} is not installed and could not be brought:\n{run.stderr}")
    return Path(run.stdout.strip())


def promtool(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool; its output is text, its exit code is for the caller to judge."""
    argv = [str(binary("promtool")), *(str(argument) for argument in arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=cwd, check=False)


class Prometheus:
    """A Prometheus that scrapes the given targets every *interval* seconds.

    Args:
        folder: where it keeps its configuration and data.
        targets: ``host:port`` of what it scrapes; :meth:`scrape` changes them at run time.
        rules: rule files it loads.
        alertmanager: ``host:port`` of an Alertmanager.
        interval: scrape and evaluation interval, in seconds.
        metrics_path: the path it scrapes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        targets: Sequence[str] = (),
        rules: Sequence[Path] = (),
        alertmanager: str | None = None,
        interval: int = 1,
        metrics_path: str = "/metrics",
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "prometheus.log"
        self._targets = folder / "targets.json"
        self.scrape(*targets)
        config: dict[str, Any] = {
            "global": {"scrape_interval": f"{interval}s", "evaluation_interval": f"{interval}s"},
            "rule_files": [str(rule) for rule in rules],
            "scrape_configs": [
                {
                    "job_name": "app",
                    "metrics_path": metrics_path,
                    "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}],
                }
            ],
        }
        if alertmanager is not None:
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
        (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
        argv = [
            str(binary("prometheus")),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-lifecycle",
        ]
        self._process = spawn(argv, log=self._log, cwd=folder)
        with started(self._process, self._log):
            eventually(
                lambda: self._up("/-/ready"),
                timeout=30,
                message=f"Prometheus on port {self.port} is not ready",
            )

    def scrape(self, *targets: str) -> None:
        """Scrape *targets* from now on, and no others; they appear after a second or several."""
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps([{"targets": list(targets)}]), encoding="utf-8")
        new.rename(self._targets)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the instant vector of *expression*: ``{"metric": labels, "value": [time, text]}`` each."""
        result: list[dict[str, Any]] = self._api("query", query=expression)["result"]
        return result

    def value(self, expression: str) -> float | None:
        """Return the value of the one series of *expression*, or None when there is none."""
        rows = self.query(expression)
        assert len(rows) <= 1, f"{expression} gives {len(rows)} series"
        return float(rows[0]["value"][1]) if rows else None

    def alerts(self) -> list[dict[str, Any]]:
        """Return the pending and firing alerts."""
        result: list[dict[str, Any]] = self._api("alerts")["alerts"]
        return result

    def reload(self) -> None:
        """Read the configuration and the rule files again."""
        reply = request(f"{self.url}/-/reload", "POST")
        assert reply.status == 200, reply.text

    def close(self) -> None:
        finish(self._process)

    def _up(self, path: str) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"Prometheus exited with {self._process.returncode}")
        return request(self.url + path).status == 200

    def _api(self, what: str, **parameters: str) -> dict[str, Any]:
        reply = request(f"{self.url}/api/v1/{what}?{urlencode(parameters, quote_via=quote)}")
        answer = reply.json()
        assert answer["status"] == "success", answer
        data: dict[str, Any] = answer["data"]
        return data


class Alertmanager:
    """An Alertmanager that sends every alert to *webhook*, at once.

    Attributes:
        address: ``host:port``, for :class:`Prometheus`.
    """

    def __init__(self, folder: Path, *, webhook: str) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self._log = folder / "alertmanager.log"
        config = {
            "route": {
                "receiver": "test",
                "group_wait": "0s",
                "group_interval": "1s",
                "group_by": ["alertname"],
            },
            "receivers": [{"name": "test", "webhook_configs": [{"url": webhook, "send_resolved": True}]}],
        }
        (folder / "alertmanager.yml").write_text(json.dumps(config), encoding="utf-8")
        argv = [
            str(binary("prometheus-alertmanager")),
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
        ]
        self._process = spawn(argv, log=self._log, cwd=folder)
        with started(self._process, self._log):
            eventually(
                lambda: request(f"{self.url}/-/ready").status == 200,
                timeout=30,
                message=f"Alertmanager on {self.address} is not ready",
            )

    def close(self) -> None:
        finish(self._process)
