"""What a worker makes of SIGTERM; under a real gunicorn in tests/gunicorn/test_draining.py."""

from __future__ import annotations

import subprocess
import sys

WORKER = """
import os, signal, time
from flask_svc_infra.ops import draining, signals

over = []
signal.signal(signal.SIGTERM, lambda signum, frame: over.append(time.monotonic()))
signals.chain_worker(0.3)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.1)
began = draining.board().begin()  # as the master does
until = time.monotonic() + 10
while not over and time.monotonic() < until:
    time.sleep(0.01)
print("over" if over and over[0] - began >= 0.3 else "stuck or too soon")
"""


def test_a_worker_told_before_its_master_drains_as_long_as_the_others_and_ends():
    """An init system that signals the whole group may reach the worker first."""
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, check=False)
    assert done.stdout == "over\n", done.stderr
