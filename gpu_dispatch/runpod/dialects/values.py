"""Reads values of untrusted JSON leniently."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast


def lenient_fields(value: Any) -> Mapping[str, Any]:
    """Returns `value` when it is an object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def lenient_items(value: Any) -> Sequence[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else ()


def lenient_text(value: Any) -> str:
    """Returns `value` when it is text, with lone surrogates replaced; otherwise ""."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def lenient_number(value: Any) -> float | None:
    """Returns `value` when it is a finite number or the text of one; otherwise None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
