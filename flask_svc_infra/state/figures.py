"""Numbers that come from a store, where anybody may have written them."""

from __future__ import annotations

from typing import Any

__all__ = ["LARGEST", "whole"]

LARGEST = 10**14 - 1
"""Lua's JSON writes fourteen digits: a larger number was not written by us."""


def whole(value: Any, least: int, most: int) -> bool:
    """Tell whether *value* is a whole number from *least* to *most*; a bool, infinity and NaN are none."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and least <= value <= most
        and value == int(value)
    )
