"""The clock that users' tests get is the one ours use."""

from __future__ import annotations

from flask_svc_infra.testing import FakeClock

__all__ = ["FakeClock"]
