"""How numbers are written wherever people read them: a real minus, no sign before a rounded zero."""

from __future__ import annotations

import json
import math
from typing import Any

MISSING = "-"
MINUS = "\N{MINUS SIGN}"


def number(value: float | None, decimals: int = 1, *, signed: bool = False) -> str:
    """Return `value` with fixed decimals and thousands separators; "-" when missing, no sign on a rounded zero."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{abs(value):,.{decimals}f}"
    if not text.strip("0.,"):
        return text
    return f"{MINUS if value < 0 else '+' if signed else ''}{text}"


def interval(bounds: tuple[float, float] | None, decimals: int = 1, *, signed: bool = False) -> str:
    """Return `[low, high]`, or "-" when missing."""
    if bounds is None:
        return MISSING
    return f"[{number(bounds[0], decimals, signed=signed)}, {number(bounds[1], decimals, signed=signed)}]"


def value_text(value: Any) -> str:
    """Return a value of a recipe as people write it; equal numbers alike."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def duration(seconds: float) -> str:
    """Return a time as people say it, in seconds, minutes or hours; "-" for none at all."""
    if not seconds:
        return MISSING
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{round(seconds / 60)} min"
