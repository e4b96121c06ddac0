"""`gpudrop deploy`"""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from listener.cli.main import CONFIG, ConfigOption, environment
from listener.config.loader import load_config

deploy = typer.Typer(add_completion=False)


@deploy.command("deploy")
def deploy_command(
    apply: Annotated[bool, typer.Option("--apply", help="Do it; otherwise the plan is only shown.")] = False,
    endpoint: Annotated[str, typer.Option("--endpoint", help="Only this one.")] = "",
    config: ConfigOption = CONFIG,
) -> None:
    """Make RunPod's templates and endpoints what config.yaml says; those of others stay as they are."""
    from listener.cli.output import Terminal
    from listener.deploy.command import deploy_endpoints

    work = deploy_endpoints(load_config(config), environment(), Terminal(), only=endpoint, apply=apply)
    sys.exit(asyncio.run(work))
