"""Entry points of installed packages, found by their group."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any, Protocol


class EntryPoint(Protocol):
    """The part of importlib.metadata.EntryPoint that is used."""

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> str: ...

    def load(self) -> Any: ...


def installed(group: str) -> Iterable[EntryPoint]:
    """Returns the entry points of a group in every installed package."""
    return entry_points(group=group)
