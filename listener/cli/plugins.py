"""Commands of optional parts, found by their entry points and loaded when they are used.

A part adds a command by an entry point of the group `gpudrop.commands` in gpudrop's own distribution. The entry point
has the command's name and leads to a typer application.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution
from typing import Any

import typer
from typer.core import TyperGroup

from manifests.errors import ConfigError

GROUP = "gpudrop.commands"


def installed() -> Iterable[EntryPoint]:
    """Returns the entry points of this distribution: a search of all installed ones takes longer than the rest of
    `gpudrop --help`.
    """
    try:
        return distribution("gpudrop").entry_points.select(group=GROUP)
    except PackageNotFoundError:
        return ()


class WithAddedCommands(TyperGroup):
    """A group of the application's commands and those that `find` returns."""

    find: Callable[[], Iterable[EntryPoint]] = staticmethod(installed)

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(point.name for point in self.find())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if command := super().get_command(ctx, cmd_name):
            return command
        point = next((point for point in self.find() if point.name == cmd_name), None)
        return _loaded(point) if point else None


def _loaded(point: EntryPoint) -> Any:
    """Loads a command. One that cannot be loaded raises when it is called, not when commands are listed."""
    try:
        part: Any = point.load()
        if not isinstance(part, typer.Typer):
            raise TypeError("it is no typer application")
    except Exception as e:  # noqa: BLE001 - a part that is broken may raise anything
        part = _broken(point, e)
    command: Any = typer.main.get_command(part)
    command.name = point.name
    return command


def _broken(point: EntryPoint, error: Exception) -> typer.Typer:
    broken = typer.Typer(help="Cannot be used.", add_completion=False, invoke_without_command=True)

    @broken.callback()
    def tell() -> None:  # pyright: ignore[reportUnusedFunction]
        raise ConfigError(
            f"The command {point.name!r} ({point.value}) cannot be used: {type(error).__name__}: {error}.",
            hint="Install gpudrop again.",
            where=f"{GROUP}: {point.name}",
        )

    return broken
