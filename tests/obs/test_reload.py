"""``importlib.reload`` of our modules: nothing twice, nothing lost, and the app from before goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import importlib, os, sys
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families
import flask_svc_infra.obs
from flask_svc_infra.resilience import CircuitBreaker

breaker = CircuitBreaker("kept", failure_threshold=1, recovery_timeout=600)

def build():
    from flask_svc_infra.obs import add_observability
    app = Flask("same", static_folder=None)
    app.add_url_rule("/", "home", lambda: "ok")
    add_observability(app)
    return app

def read(app, name, /, **labels):
    text = app.test_client().get("/metrics").text
    return sum(s.value for f in text_string_to_metric_families(text) for s in f.samples
               if s.name == name and labels.items() <= s.labels.items())

old = build()
old.test_client().get("/")
read(old, "http_requests_total")
for _ in range(3):
    for name in [n for n in sys.modules if n.startswith("flask_svc_infra.obs")]:
        importlib.reload(sys.modules[name])
new = build()
for _ in range(4):
    old.test_client().get("/")
new.test_client().get("/")
try:
    with breaker:
        raise OSError
except OSError:
    pass
for app in (old, new):
    print(read(app, "http_requests_total", path="/", status="200"),
          read(app, "circuit_breaker_calls_total", name="kept", outcome="failure"),
          read(app, "circuit_breaker_transitions_total", name="kept", state="open"))
try:
    with breaker:
        pass
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("several", [False, True])
def test_reloading_every_module_leaves_one_of_everything(several: bool, tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"}
    if several:
        env["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["5.0 1.0 1.0", "1.0 1.0 1.0", "CircuitBreakerError"]
