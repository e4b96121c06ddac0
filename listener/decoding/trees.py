"""JSON of unknown shape, and steps into it."""

from __future__ import annotations

from typing import TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | None"


def item_at(value: Json, name: str) -> Json:
    """The member `name`; None where there is none, or where `value` is no object."""
    return value.get(name) if isinstance(value, dict) else None
