"""Values of JSON that nobody vouches for, read leniently."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast


def lenient_fields(value: Any) -> Mapping[str, Any]:
    """`value` where it is an object; no fields where it is not."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def lenient_items(value: Any) -> Sequence[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else ()


def lenient_text(value: Any) -> str:
    """`value` where it is text, fit to be written; "" where it is not."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def lenient_number(value: Any) -> float | None:
    """`value` where it is a finite number, also one written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
