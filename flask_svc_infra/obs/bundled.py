"""What is shipped beside the code: Grafana dashboards and a file of Prometheus alerts."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

__all__ = ["alerting_rules", "dashboard", "dashboard_names"]

_OBS = files(__package__ or "flask_svc_infra.obs")


def dashboard_names() -> list[str]:
    """List the bundled dashboards by name, as in ``http-overview``."""
    folder = _OBS / "grafana" / "dashboards"
    return sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json"))


def dashboard(name: str) -> dict[str, Any]:
    """Return the model of the dashboard *name*, as Grafana's provisioning and import page take it.

    Grafana's HTTP API wants it wrapped: ``{"dashboard": model, "overwrite": true}``.

    Raises:
        KeyError: there is no dashboard of that name.
    """
    if name not in dashboard_names():
        known = ", ".join(dashboard_names())
        raise KeyError(f"there is no bundled dashboard '{name}'; there are {known}")
    text = (_OBS / "grafana" / "dashboards" / f"{name}.json").read_text(encoding="utf-8")
    model: dict[str, Any] = json.loads(text)
    return model


def alerting_rules() -> str:
    """Return the bundled alerts as the YAML that Prometheus' ``rule_files`` loads."""
    return (_OBS / "prometheus" / "alerting-rules.yaml").read_text(encoding="utf-8")
