"""The registry of dialects by name: gpudrop's own and those of installed packages.

A package adds a dialect by an entry point of the group `gpudrop.dialects` with the dialect's name; it refers to a class
without constructor arguments. A dialect is loaded when an endpoint uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any, cast

from gpu_dispatch.runpod.dialects.base import Dialect
from gpu_dispatch.runpod.dialects.gpudrop import NAME as OURS
from gpu_dispatch.runpod.dialects.gpudrop import GpudropDialect
from manifests.entry_points import EntryPoint, installed
from manifests.errors import ConfigError

GROUP = "gpudrop.dialects"
_INSTALLED = partial(installed, GROUP)

_NEEDED = ("name", "claims", "names_tasks", "capabilities", "refusal", "request", "progress", "result")


class Dialects:
    """Finds and loads dialects; `find` lists the entry points of packages."""

    def __init__(self, find: Callable[[], Iterable[EntryPoint]] = _INSTALLED) -> None:
        self._find = find
        self._loaded: dict[str, Dialect] = {OURS: GpudropDialect()}

    @property
    def names(self) -> tuple[str, ...]:
        """All names, gpudrop's own first."""
        return (OURS, *sorted({point.name for point in self._find()} - {OURS}))

    def find(self, name: str) -> Dialect | None:
        """Returns the dialect; None when there is none. Raises ConfigError for one that cannot be used."""
        if name not in self._loaded:
            points = [point for point in self._find() if point.name == name]
            if not points:
                return None
            if len(points) > 1:
                raise ConfigError(
                    f"Two packages bring the dialect {name!r}: {points[0].value} and {points[1].value}.",
                    hint="Uninstall one of them.",
                    where=f"{GROUP}: {name}",
                )
            self._loaded[name] = _load(points[0])
        return self._loaded[name]

    def get(self, name: str) -> Dialect:
        """Returns the dialect. Raises ConfigError when there is none or it cannot be used."""
        if dialect := self.find(name):
            return dialect
        raise ConfigError(
            f"There is no dialect {name!r}.", hint=f"Use one of {', '.join(self.names)}.", where="endpoints"
        )


@cache
def dialects() -> Dialects:
    """Returns the registry of gpudrop's own dialect and those of the installed packages."""
    return Dialects()


def _load(point: EntryPoint) -> Dialect:
    try:
        dialect: Any = point.load()()
        missing = [name for name in _NEEDED if not hasattr(dialect, name)]
        problem = f"it lacks {', '.join(missing)}" if missing else ""
    except Exception as error:
        raise _broken(point, f"{type(error).__name__}: {error}") from error
    if problem or dialect.name != point.name:
        raise _broken(point, problem or f"it calls itself {dialect.name!r}")
    return cast(Dialect, dialect)


def _broken(point: EntryPoint, problem: str) -> ConfigError:
    return ConfigError(
        f"The dialect {point.name!r} ({point.value}) cannot be used: {problem}.",
        hint="Update or uninstall the package it comes from.",
        where=f"{GROUP}: {point.name}",
    )
