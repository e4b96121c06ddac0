"""Parts that installed packages add: entry points, found by their group."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any, Protocol


class EntryPoint(Protocol):
    """What is used of importlib.metadata's own."""

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> str: ...

    def load(self) -> Any: ...


def installed(group: str) -> Iterable[EntryPoint]:
    """Those of a group, of every installed package."""
    return entry_points(group=group)
