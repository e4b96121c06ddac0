"""The command line."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from listener.cli_endpoints import endpoints
from listener.cli_options import CONFIG, ConfigOption, environment
from listener.commands.added import WithAddedCommands
from listener.commands.logs import configure
from listener.configuration.config import Config
from listener.configuration.loading import load_config
from manifests.errors import GpuDropError
from manifests.printable import printable, printable_json

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
    """The console script. An error a user can meet is told in words, never as a traceback."""
    try:
        app()
    except GpuDropError as e:
        _tell(e)
        sys.exit(1)


@app.command()
def run(config: ConfigOption = CONFIG) -> None:
    """Watch the store and do what is dropped, until stopped (Ctrl-C, SIGTERM)."""
    from listener.commands.serve import run_listener

    settings = load_config(config)
    configure(settings.log.level, settings.log.format)
    sys.exit(asyncio.run(run_listener(settings, environment(), config_file=config)))


@app.command()
def demo(
    config: ConfigOption = CONFIG,
    model: Annotated[str, typer.Option(help="The Whisper model for the spoken sample.")] = "tiny.en",
) -> None:
    """Drop the samples, show them being done, and tell what appeared where."""
    from listener.commands.demo import demonstrate

    settings = load_config(config)
    configure("error", "console")
    sys.exit(asyncio.run(demonstrate(settings, environment(), model)))


@app.command()
def check(config: ConfigOption = CONFIG) -> None:
    """Look at configuration, store, workers, engines, ffmpeg and fonts: a line each, with a remedy."""
    from listener.commands.check import check_all

    sys.exit(asyncio.run(check_all(config, environment())))


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="A manifest, named as it would be dropped (NAME.job.yaml).")],
    config: ConfigOption = CONFIG,
) -> None:
    """Read a manifest without running it, and show it with every default filled in."""
    from listener.commands.validate import validate_file

    fields = validate_file(file, load_config(config) if config.exists() else Config())
    typer.echo(printable_json(json.dumps(fields, ensure_ascii=False, indent=2)))


@app.command()
def status(
    what: Annotated[str, typer.Argument(help="A run's id, or the key of a drop; omitted: the latest runs.")] = "",
    config: ConfigOption = CONFIG,
    limit: Annotated[int, typer.Option(min=1, help="How many runs.")] = 20,
) -> None:
    """Show runs and how they stand."""
    from listener.commands.ledger import show_status

    asyncio.run(show_status(load_config(config), what, limit))


@app.command()
def cancel(
    what: Annotated[str, typer.Argument(help="A run's id, or the key of a drop.")], config: ConfigOption = CONFIG
) -> None:
    """End a run early. Deleting the dropped file, or dropping NAME.cancel, does the same."""
    from listener.commands.ledger import cancel_runs

    sys.exit(asyncio.run(cancel_runs(load_config(config), what)))


@app.command()
def redrive(
    what: Annotated[str, typer.Argument(help="A run's id, or the key of a drop.")], config: ConfigOption = CONFIG
) -> None:
    """Run an ended run again. The listener takes it up at once, or when it is started next."""
    from listener.commands.ledger import redrive_run

    sys.exit(asyncio.run(redrive_run(load_config(config), what)))


@app.command()
def callback(
    what: Annotated[str, typer.Argument(help="A run's id, or the key of a drop.")], config: ConfigOption = CONFIG
) -> None:
    """Send an ended run's callback again: the sidecar as it was, without running anything."""
    from listener.commands.callback import send_callback

    sys.exit(asyncio.run(send_callback(load_config(config), what)))


@app.command()
def rebind(config: ConfigOption = CONFIG) -> None:
    """Say that the store which this state belongs to has moved: it belongs to the configuration's from now on."""
    from listener.commands.rebind import rebind_state

    sys.exit(asyncio.run(rebind_state(load_config(config))))


@app.command()
def costs(
    by: Annotated[CostsBy, typer.Option(help="What to sum up by.")] = "day",
    days: Annotated[int, typer.Option(min=1, max=400, help="How many days (UTC), today included.")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    config: ConfigOption = CONFIG,
) -> None:
    """Show what jobs have cost, and what today's budgets are."""
    from listener.commands.costs import show_costs
    from listener.commands.terminal import Terminal

    asyncio.run(show_costs(load_config(config), by, days, as_json=as_json, console=Terminal(), now=time.time()))


@app.command()
def deploy(
    apply: Annotated[bool, typer.Option("--apply", help="Do it; otherwise the plan is only shown.")] = False,
    endpoint: Annotated[str, typer.Option("--endpoint", help="Only this one.")] = "",
    config: ConfigOption = CONFIG,
) -> None:
    """Make RunPod's templates and endpoints what config.yaml says; those of others stay as they are."""
    from listener.commands.deploy import deploy_endpoints
    from listener.commands.terminal import Terminal

    work = deploy_endpoints(load_config(config), environment(), Terminal(), only=endpoint, apply=apply)
    sys.exit(asyncio.run(work))


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


def _tell(error: GpuDropError) -> None:
    typer.secho(printable(f"{error.info.code}: {error}", keep="\n"), fg="red", err=True)
    if error.info.hint:
        typer.echo(printable(error.info.hint, keep="\n"), err=True)
