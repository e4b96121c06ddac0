"""Commands of parts that one may do without: listed with the others, loaded when they are asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
import typer
from typer.testing import CliRunner

from listener.cli.main import app
from listener.cli.plugins import GROUP, WithAddedCommands
from manifests.errors import ConfigError

part = typer.Typer(add_completion=False, help="A part of its own.")


@part.command("say")
def say() -> None:
    """Says it."""
    typer.echo("said")


@part.command("other")
def other() -> None:
    """Says nothing."""


no_part = "text"


def application(*points: tuple[str, str]) -> typer.Typer:
    class Found(WithAddedCommands):
        find = staticmethod(lambda: [EntryPoint(name, value, GROUP) for name, value in points])

    found = typer.Typer(cls=Found, add_completion=False)
    found.command("own")(other)
    found.callback()(lambda: None)
    return found


def test_an_added_command_stands_beside_the_others() -> None:
    run = CliRunner()
    made = application(("part", f"{__name__}:part"))
    assert "A part of its own." in run.invoke(made, ["--help"]).output
    assert run.invoke(made, ["part", "say"]).output == "said\n"
    assert run.invoke(made, ["absent"]).exit_code == 2


@pytest.mark.parametrize("value", [f"{__name__}:no_part", f"{__name__}:absent", "no.such.module:part"])
def test_one_that_cannot_be_used_hides_no_other(value: str) -> None:
    made = application(("part", value))
    listed = CliRunner().invoke(made, ["--help"])
    assert listed.exit_code == 0 and "own" in listed.output
    error = CliRunner().invoke(made, ["part"]).exception
    assert isinstance(error, ConfigError) and value in str(error)


def test_those_of_gpudrop_are_there_and_are_not_loaded_for_others() -> None:
    assert "--dry-run" in CliRunner().invoke(app, ["events", "apply", "--help"]).output
    assert "--apply" in CliRunner().invoke(app, ["deploy", "--help"]).output
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom listener.cli.main import app\n"
        "CliRunner().invoke(app, [*sys.argv[1:], '--help'])\n"
        "print(sorted({m for m in sys.modules if m in ('listener.notifications', 'listener.deploy')}))"
    )
    loaded: list[str] = []
    for command in ("run", "deploy"):
        run = [sys.executable, "-c", script, command]
        loaded.append(subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip())
    assert loaded == ["[]", "['listener.deploy']"]
