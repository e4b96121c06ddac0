"""The command line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from listener.config import Config, load
from listener.environment import Environment, read_environment
from listener.logs import configure
from manifests.errors import GpuDropError

app = typer.Typer(
    name="gpudrop",
    help="Drop a file or a manifest into a bucket folder; a GPU does the work; the outputs appear next to the inputs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", envvar="GPUDROP_CONFIG", help="The configuration file.")]
CONFIG = Path("config.yaml")


def main() -> None:
    """The console script. An error a user can meet is told in words, never as a traceback."""
    try:
        app()
    except GpuDropError as e:
        _tell(e)
        sys.exit(1)


@app.command()
def run(config: ConfigOption = CONFIG) -> None:
    """Watch the store and do what is dropped, until stopped (Ctrl-C, SIGTERM)."""
    from listener.serve import serve

    settings = load(config)
    configure(settings.log.level, settings.log.format)
    sys.exit(asyncio.run(serve(settings, _environment(), config_file=config)))


@app.command()
def demo(
    config: ConfigOption = CONFIG,
    model: Annotated[str, typer.Option(help="The Whisper model for the spoken sample.")] = "tiny.en",
) -> None:
    """Drop the samples, show them being done, and tell what appeared where."""
    from listener.demo import demonstrate

    settings = load(config)
    configure("error", "console")
    sys.exit(asyncio.run(demonstrate(settings, _environment(), model)))


@app.command()
def check(config: ConfigOption = CONFIG) -> None:
    """Look at configuration, store, workers, engines, ffmpeg and fonts: a line each, with a remedy."""
    from listener.check import check_all

    sys.exit(asyncio.run(check_all(config, _environment())))


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="A manifest, named as it would be dropped (NAME.job.yaml).")],
    config: ConfigOption = CONFIG,
) -> None:
    """Read a manifest without running it, and show it with every default filled in."""
    from listener.validate import validate_file

    fields = validate_file(file, load(config) if config.exists() else Config())
    typer.echo(json.dumps(fields, ensure_ascii=False, indent=2))


@app.command()
def status(
    what: Annotated[str, typer.Argument(help="A run's id, or the key of a drop; omitted: the latest runs.")] = "",
    config: ConfigOption = CONFIG,
    limit: Annotated[int, typer.Option(min=1, help="How many runs.")] = 20,
) -> None:
    """Show runs and how they stand."""
    from listener.commands import show_status

    asyncio.run(show_status(load(config), what, limit))


@app.command()
def cancel(
    what: Annotated[str, typer.Argument(help="A run's id, or the key of a drop.")], config: ConfigOption = CONFIG
) -> None:
    """End a run early. Deleting the dropped file, or dropping NAME.cancel, does the same."""
    from listener.commands import cancel_runs

    sys.exit(asyncio.run(cancel_runs(load(config), what)))


@app.command()
def redrive(
    what: Annotated[str, typer.Argument(help="A run's id, or the key of a drop.")], config: ConfigOption = CONFIG
) -> None:
    """Run an ended run again. The listener takes it up at once, or when it is started next."""
    from listener.commands import redrive_run

    sys.exit(asyncio.run(redrive_run(load(config), what)))


@app.command()
def schema(
    operation: Annotated[
        str, typer.Argument(help="transcribe, caption, img2vid, addaudio, render; omitted: any.")
    ] = "",
) -> None:
    """Print the JSON Schema of manifests, for editors and other programs."""
    from handlers.registry import load_registry
    from manifests.schema_files import render

    files = render(load_registry().models)
    name = f"{operation or 'manifest'}.schema.json"
    if name not in files:
        known = ", ".join(sorted(n.partition(".")[0] for n in files))
        raise typer.BadParameter(f"there is no operation {operation!r}; there are {known}")
    typer.echo(files[name], nl=False)


def _environment() -> Environment:
    return read_environment(os.environ)


def _tell(error: GpuDropError) -> None:
    typer.secho(f"{error.info.code}: {error}", fg="red", err=True)
    if error.info.hint:
        typer.echo(error.info.hint, err=True)
