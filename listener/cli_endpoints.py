"""`gpudrop endpoints …`"""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from listener.cli_options import CONFIG, ConfigOption, environment
from listener.configuration.loading import load_config

endpoints = typer.Typer(help="Where tasks run, and how each place stands.", invoke_without_command=True)


@endpoints.callback()
def endpoints_show(context: typer.Context, config: ConfigOption = CONFIG) -> None:
    """Show each endpoint: what it can do, its jobs, workers and price, and what is wrong with it."""
    from listener.commands.endpoints import show_endpoints
    from listener.commands.terminal import Terminal

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
    from listener.commands.endpoints import purge_endpoint
    from listener.commands.terminal import Terminal

    def sure(question: str) -> bool:
        return yes or typer.confirm(question)

    file = context.obj if config == CONFIG else config
    work = purge_endpoint(load_config(file), environment(), Terminal(), name, sure=sure)
    sys.exit(asyncio.run(work))
