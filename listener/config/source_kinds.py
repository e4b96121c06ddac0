"""Kinds of sources that a package adds: what each brings, and the registry which finds them by entry points.

A package adds one by an entry point of the group `gpudrop.sources`, named as the configuration names it, that leads to
a SourceKind. It is loaded when the configuration names it, and not before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from listener.config.environment import SourceSecrets
from listener.config.fields import Name, Section
from manifests.entry_points import EntryPoint, PartKind, PartRegistry

if TYPE_CHECKING:
    from listener.sources.base import EventSource

GROUP = "gpudrop.sources"


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


SourceKinds = PartRegistry[SourceKind[Any]]


def _problem(found: Any) -> str:
    return "" if isinstance(found, SourceKind) else "it is no SourceKind"


_KIND: PartKind[SourceKind[Any]] = PartKind(GROUP, "source", _problem)


def source_registry(find: Callable[[], Iterable[EntryPoint]] | None = None) -> SourceKinds:
    """Returns a registry of the kinds that `find` lists; None: those of all packages."""
    return PartRegistry(_KIND, find=find)


@cache
def source_kinds() -> SourceKinds:
    """Returns the registry of the kinds of the installed packages."""
    return source_registry()
