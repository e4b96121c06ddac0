"""What several commands have in common: options, and what they are given beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from listener.configuration.environment import Environment, read_environment

ConfigOption = Annotated[Path, typer.Option("--config", "-c", envvar="GPUDROP_CONFIG", help="The configuration file.")]
CONFIG = Path("config.yaml")


def environment() -> Environment:
    return read_environment(os.environ)
