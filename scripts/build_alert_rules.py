"""Write ``flask_svc_infra/obs/prometheus/alerting-rules.yaml`` from ``flask_svc_infra/obs/alerts.py``.

Run it after changing an alert: ``python scripts/build_alert_rules.py``. With ``--check`` nothing is written,
and the exit code is 1 when the file is not what would be written.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flask_svc_infra.obs.alerts import service_alerts
from flask_svc_infra.obs.rules import to_rule_file

TARGET = Path(__file__).parents[1] / "flask_svc_infra/obs/prometheus/alerting-rules.yaml"
HEADING = """\
Alerts for a service that wears flask-svc-infra. Load it with Prometheus' rule_files.
Made by scripts/build_alert_rules.py; change flask_svc_infra/obs/alerts.py instead. For one service, other
labels or service level objectives, generate your own: flask svc-infra rules generate
"""


def main() -> int:
    """Write the file, or compare it."""
    text = to_rule_file([service_alerts()], heading=HEADING)
    if "--check" in sys.argv[1:]:
        return int(TARGET.read_text(encoding="utf-8") != text)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
