"""Commands of parts that one may do without: found by their entry points, loaded when they are asked for.

A part adds one by an entry point of the group `gpudrop.commands` of gpudrop's own distribution that leads to a typer
application, whose name it is.
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
    """Of this distribution alone: to look through all that are installed would take longer than all else that
    `gpudrop --help` does.
    """
    try:
        return distribution("gpudrop").entry_points.select(group=GROUP)
    except PackageNotFoundError:
        return ()


class WithAddedCommands(TyperGroup):
    """The commands of the application, and those that `find` gives."""

    find: Callable[[], Iterable[EntryPoint]] = staticmethod(installed)

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(point.name for point in self.find())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if command := super().get_command(ctx, cmd_name):
            return command
        point = next((point for point in self.find() if point.name == cmd_name), None)
        return _loaded(point) if point else None


def _loaded(point: EntryPoint) -> Any:
    """One that cannot be loaded says so when it is called, and not when others are listed."""
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
