"""Parts that installed packages add: entry points, found by their group and loaded one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from typing import Any, Generic, Protocol, TypeVar, cast

from manifests.errors import ConfigError


class EntryPoint(Protocol):
    """What is used of importlib.metadata's own."""

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> str: ...

    def load(self) -> Any: ...


class Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T")
N = TypeVar("N", bound=Named)


def installed(group: str) -> Iterable[EntryPoint]:
    """Those of a group, of every installed package."""
    return entry_points(group=group)


@dataclass(frozen=True, slots=True)
class PartKind(Generic[T]):
    """A kind of part that packages may add."""

    group: str
    """The entry points' group."""
    noun: str
    """The kind's name in errors."""
    problem_of: Callable[[Any], str]
    """Returns why an object is no such part; "" when it is one."""
    is_made: bool = False
    """Whether an entry point may lead to a class that makes the part without arguments."""

    def load(self, point: EntryPoint) -> T:
        """Raises ConfigError for a part that cannot be used."""
        try:
            found: Any = point.load()
            part: Any = found() if self.is_made and isinstance(found, type) else found
            problem = self.problem_of(part)
        except Exception as error:
            # Third-party code runs here and may raise anything.
            raise self.unusable(point, f"{type(error).__name__}: {error}") from error
        if problem:
            raise self.unusable(point, problem)
        return cast(T, part)

    def unusable(self, point: EntryPoint, problem: str) -> ConfigError:
        return ConfigError(
            f"The {self.noun} {point.name!r} ({point.value}) cannot be used: {problem}.",
            hint="Update or uninstall the package it comes from.",
            where=f"{self.group}: {point.name}",
        )


class PartRegistry(Generic[N]):
    """Finds parts of one kind by name: `own` ones, and those of packages, loaded when they are first asked for."""

    def __init__(
        self,
        kind: PartKind[N],
        *,
        own: Sequence[N] = (),
        find: Callable[[], Iterable[EntryPoint]] | None = None,
    ) -> None:
        """`find` lists the entry points; None: those of all packages."""
        self._kind = kind
        self._own = tuple(part.name for part in own)
        self._loaded = {part.name: part for part in own}
        self._find = find or partial(installed, kind.group)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, own ones first; nothing is loaded."""
        return (*self._own, *sorted({point.name for point in self._find()} - set(self._own)))

    def find(self, name: str) -> N | None:
        """Returns the part; None when there is none. Raises ConfigError for one that cannot be used."""
        if name not in self._loaded:
            points = [point for point in self._find() if point.name == name]
            if not points:
                return None
            self._loaded[name] = self._load(points)
        return self._loaded[name]

    def get(self, name: str) -> N:
        """Returns the part. Raises ConfigError when there is none or it cannot be used."""
        if part := self.find(name):
            return part
        noun, group = self._kind.noun, self._kind.group
        raise ConfigError(f"There is no {noun} {name!r}.", hint=f"Use one of {', '.join(self.names)}.", where=group)

    def _load(self, points: Sequence[EntryPoint]) -> N:
        first, *others = points
        if others:
            raise ConfigError(
                f"Two packages bring the {self._kind.noun} {first.name!r}: {first.value} and {others[0].value}.",
                hint="Uninstall one of them.",
                where=f"{self._kind.group}: {first.name}",
            )
        part = self._kind.load(first)
        if part.name != first.name:
            raise self._kind.unusable(first, f"it calls itself {part.name!r}")
        return part
