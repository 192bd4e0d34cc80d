"""The probe short cut, as this room calls it. It lives a floor below, where health routes reach it too."""

from __future__ import annotations

from ..shortcut import flask_path, install_shortcut, shortcut

__all__ = ["flask_path", "install_shortcut", "shortcut"]
