"""Kinds of sources that a package adds: what each brings, and the registry which finds them by entry points.

A package adds one by an entry point of the group `gpudrop.sources`, named as the configuration names it, that leads to
a SourceKind. It is loaded when the configuration names it, and not before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from listener.config.environment import SourceSecrets
from listener.config.fields import Name, Section
from manifests.entry_points import EntryPoint, installed
from manifests.errors import ConfigError

if TYPE_CHECKING:
    from listener.sources.base import EventSource

GROUP = "gpudrop.sources"
_INSTALLED = partial(installed, GROUP)


class SourceSettings(Section, frozen=True):
    """What the settings of every kind of source have in common."""

    kind: str
    name: Name | None = None

    @property
    def named(self) -> str:
        """The source's name: in logs, in `gpudrop status`, and in the names of its secrets."""
        return self.name or self.kind


class TargetedSource(SourceSettings, frozen=True):
    """The settings of a source that a store can send to."""

    target: str | None = None
    """The store's name of this target, an ARN. Default: it is looked up."""


@dataclass(frozen=True, slots=True)
class PushNames:
    """The names under which a store (Ceph RGW) publishes to a broker."""

    topic: str = ""
    exchange: str = ""


S = TypeVar("S", bound=SourceSettings)


@dataclass(frozen=True, slots=True)
class SourceKind(Generic[S]):
    """A kind of source: its settings, and what is made of them."""

    name: str
    """As `kind` names it in the configuration."""
    settings: type[S]
    build: Callable[[S, SourceSecrets], EventSource]
    """Raises ConfigError for what the settings lack, and for a client library that is not installed."""
    check: Callable[[S, SourceSecrets], Awaitable[str]]
    """Connects, takes nothing, and returns what is well in words. Raises GpuDropError."""
    minio_variables: Callable[[S, SourceSecrets], Sequence[tuple[str, str]]] | None = None
    """Names and values of MinIO's MINIO_NOTIFY_<KIND>_<NAME>_<ID>. None: MinIO cannot send there."""
    push_names: Callable[[S], PushNames] | None = None
    """None: no store publishes there."""


class SourceKinds:
    """The kinds that `find` gives, each loaded when it is first asked for."""

    def __init__(self, find: Callable[[], Iterable[EntryPoint]] = _INSTALLED) -> None:
        self._find = find
        self._loaded: dict[str, SourceKind[Any]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Every name there is; nothing is loaded."""
        return tuple(dict.fromkeys(point.name for point in self._find()))

    def find(self, name: str) -> SourceKind[Any] | None:
        """None: there is no such kind. Raises ConfigError for one that cannot be used."""
        if name not in self._loaded:
            points = [point for point in self._find() if point.name == name]
            if not points:
                return None
            if len(points) > 1:
                raise ConfigError(
                    f"Two packages bring the source {name!r}: {points[0].value} and {points[1].value}.",
                    hint="Uninstall one of them.",
                    where=f"{GROUP}: {name}",
                )
            self._loaded[name] = _load(points[0])
        return self._loaded[name]

    def get(self, name: str) -> SourceKind[Any]:
        """Raises ConfigError, also where there is no such kind."""
        if kind := self.find(name):
            return kind
        raise ConfigError(
            f"There is no source {name!r}.", hint=f"Packages add {', '.join(self.names)}.", where="sources"
        )


@cache
def source_kinds() -> SourceKinds:
    """Those of the installed packages."""
    return SourceKinds()


def _load(point: EntryPoint) -> SourceKind[Any]:
    try:
        kind: Any = point.load()
    except Exception as error:
        # Code of others runs here and may raise anything.
        raise _broken(point, f"{type(error).__name__}: {error}") from error
    if not isinstance(kind, SourceKind):
        raise _broken(point, "it is no SourceKind")
    found = cast(SourceKind[Any], kind)
    if found.name != point.name:
        raise _broken(point, f"it calls itself {found.name!r}")
    return found


def _broken(point: EntryPoint, problem: str) -> ConfigError:
    return ConfigError(
        f"The source {point.name!r} ({point.value}) cannot be used: {problem}.",
        hint="Update or uninstall the package it comes from.",
        where=f"{GROUP}: {point.name}",
    )
