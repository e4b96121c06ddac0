"""The commands of `gpudrop` and their options. A command's implementation is imported when it is called."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from listener.cli.output import configure
from listener.cli.plugins import WithAddedCommands
from listener.config.config import Config
from listener.config.environment import Environment, read_environment
from listener.config.loader import load_config
from manifests.errors import GpuDropError
from manifests.text import printable, printable_json

ConfigOption = Annotated[Path, typer.Option("--config", "-c", envvar="GPUDROP_CONFIG", help="The configuration file.")]
CONFIG = Path("config.yaml")


def environment() -> Environment:
    return read_environment(os.environ)


endpoints = typer.Typer(help="Where tasks run, and how each place stands.", invoke_without_command=True)


@endpoints.callback()
def endpoints_show(context: typer.Context, config: ConfigOption = CONFIG) -> None:
    """Show each endpoint: what it can do, its jobs, workers and price, and what is wrong with it."""
    from listener.cli.endpoints import show_endpoints
    from listener.cli.output import Terminal

    context.obj = config
    if context.invoked_subcommand is None:
        sys.exit(asyncio.run(show_endpoints(load_config(config), environment(), Terminal())))


@endpoints.command("purge")
def endpoints_purge(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="An endpoint of the configuration.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigOption = CONFIG,
) -> None:
    """Take back every job of a RunPod endpoint that waits for a worker."""
    from listener.cli.endpoints import purge_endpoint
    from listener.cli.output import Terminal

    def sure(question: str) -> bool:
        return yes or typer.confirm(question)

    file = context.obj if config == CONFIG else config
    work = purge_endpoint(load_config(file), environment(), Terminal(), name, sure=sure)
    sys.exit(asyncio.run(work))


app = typer.Typer(
    name="gpudrop",
    cls=WithAddedCommands,
    help="Drop a file or a manifest into a bucket folder; a GPU does the work; the outputs appear next to the inputs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(endpoints, name="endpoints")

CostsBy = Literal["day", "trigger", "operation", "endpoint", "run"]


def main() -> None:
    """Runs the console script. An error that a user can meet is printed in words, never as a traceback."""
    try:
        app()
    except GpuDropError as e:
        _report_error(e)
        sys.exit(1)


@app.command()
def run(config: ConfigOption = CONFIG) -> None:
    """Watch the store and do what is dropped, until stopped (Ctrl-C, SIGTERM)."""
    from listener.cli.run import run_listener

    settings = load_config(config)
    configure(settings.log.level, settings.log.format)
    sys.exit(asyncio.run(run_listener(settings, environment(), config_file=config)))


@app.command()
def demo(
    config: ConfigOption = CONFIG,
    model: Annotated[str, typer.Option(help="The Whisper model for the spoken sample.")] = "tiny.en",
) -> None:
    """Drop the samples, show them being done, and tell what appeared where."""
    from listener.cli.demo import demonstrate

    settings = load_config(config)
    configure("error", "console")
    sys.exit(asyncio.run(demonstrate(settings, environment(), model)))


@app.command()
def check(config: ConfigOption = CONFIG) -> None:
    """Look at configuration, store, workers, engines, ffmpeg and fonts: a line each, with a remedy."""
    from listener.cli.check import check_all

    sys.exit(asyncio.run(check_all(config, environment())))


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="A manifest, named as it would be dropped (NAME.job.yaml).")],
    config: ConfigOption = CONFIG,
) -> None:
    """Read a manifest without running it, and show it with every default filled in."""
    from listener.cli.validate import validate_file
    from listener.speech_models import speech_models

    settings = load_config(config) if config.exists() else Config()
    fields = validate_file(file, settings, speech_models(settings, environment()))
    typer.echo(printable_json(json.dumps(fields, ensure_ascii=False, indent=2)))


@app.command()
def status(
    what: Annotated[str, typer.Argument(help="A run's id, or the key of a drop; omitted: the latest runs.")] = "",
    config: ConfigOption = CONFIG,
    limit: Annotated[int, typer.Option(min=1, help="How many runs.")] = 20,
) -> None:
    """Show runs and how they stand."""
    from listener.cli.status import show_status

    asyncio.run(show_status(load_config(config), what, limit))


@app.command()
def cancel(
    what: Annotated[str, typer.Argument(help="A run's id, or the key of a drop.")], config: ConfigOption = CONFIG
) -> None:
    """End a run early. Deleting the dropped file, or dropping NAME.cancel, does the same."""
    from listener.cli.status import cancel_runs

    sys.exit(asyncio.run(cancel_runs(load_config(config), what)))


@app.command()
def redrive(
    what: Annotated[str, typer.Argument(help="A run's id, or the key of a drop.")], config: ConfigOption = CONFIG
) -> None:
    """Run an ended run again. The listener takes it up at once, or when it is started next."""
    from listener.cli.status import redrive_run

    sys.exit(asyncio.run(redrive_run(load_config(config), what)))


@app.command()
def callback(
    what: Annotated[str, typer.Argument(help="A run's id, or the key of a drop.")], config: ConfigOption = CONFIG
) -> None:
    """Send an ended run's callback again: the sidecar as it was, without running anything."""
    from listener.cli.status import send_callback

    sys.exit(asyncio.run(send_callback(load_config(config), what)))


@app.command()
def rebind(config: ConfigOption = CONFIG) -> None:
    """Say that the store which this state belongs to has moved: it belongs to the configuration's from now on."""
    from listener.cli.rebind import rebind_state

    sys.exit(asyncio.run(rebind_state(load_config(config))))


@app.command()
def costs(
    by: Annotated[CostsBy, typer.Option(help="What to sum up by.")] = "day",
    days: Annotated[int, typer.Option(min=1, max=400, help="How many days (UTC), today included.")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    config: ConfigOption = CONFIG,
) -> None:
    """Show what jobs have cost, and what today's budgets are."""
    from listener.cli.costs import show_costs
    from listener.cli.output import Terminal

    asyncio.run(show_costs(load_config(config), by, days, as_json=as_json, console=Terminal(), now=time.time()))


@app.command()
def schema(
    operation: Annotated[str, typer.Argument(help="transcribe, caption, img2vid, addaudio; omitted: any.")] = "",
) -> None:
    """Print the JSON Schema of manifests, for editors and other programs."""
    from handlers.registry import load_registry
    from manifests.schema_files import render_schema

    files = render_schema(load_registry().models)
    name = f"{operation or 'manifest'}.schema.json"
    if name not in files:
        known = ", ".join(sorted(n.partition(".")[0] for n in files))
        raise typer.BadParameter(f"there is no operation {operation!r}; there are {known}")
    typer.echo(files[name], nl=False)


def _report_error(error: GpuDropError) -> None:
    typer.secho(printable(f"{error.info.code}: {error}", keep="\n"), fg="red", err=True)
    if error.info.hint:
        typer.echo(printable(error.info.hint, keep="\n"), err=True)
