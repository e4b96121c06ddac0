"""The registry of dialects by name: gpudrop's own and those of installed packages.

A package adds a dialect by an entry point of the group `gpudrop.dialects` with the dialect's name; it refers to a class
without constructor arguments. A dialect is loaded when an endpoint uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from gpu_dispatch.runpod.dialects.base import Dialect
from gpu_dispatch.runpod.dialects.gpudrop import GpudropDialect
from manifests.entry_points import EntryPoint, PartKind, PartRegistry

GROUP = "gpudrop.dialects"

_NEEDED = ("name", "claims", "names_tasks", "capabilities", "refusal", "request", "progress", "result")

Dialects = PartRegistry[Dialect]


def _problem(dialect: Any) -> str:
    missing = [name for name in _NEEDED if not hasattr(dialect, name)]
    return f"it lacks {', '.join(missing)}" if missing else ""


_KIND: PartKind[Dialect] = PartKind(GROUP, "dialect", _problem, is_made=True)


def dialect_registry(find: Callable[[], Iterable[EntryPoint]] | None = None) -> Dialects:
    """Returns a registry of gpudrop's own dialect and those that `find` lists; None: those of all packages."""
    return PartRegistry(_KIND, own=(GpudropDialect(),), find=find)


@cache
def dialects() -> Dialects:
    """Returns the registry of gpudrop's own dialect and those of the installed packages."""
    return dialect_registry()
