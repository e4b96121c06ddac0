"""The command line of `gpudrop events`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from listener.cli.main import CONFIG, ConfigOption, environment
from listener.config.config import Config
from listener.config.environment import Environment
from listener.config.loader import load_config

if TYPE_CHECKING:
    from rich.console import Console

    from listener.notifications.command import Request

events = typer.Typer(
    help="The bucket's notification rules, made from config.yaml's triggers.",
    no_args_is_help=True,
    add_completion=False,
)

BucketOption = Annotated[str, typer.Option("--bucket", help="Only this one of store.buckets.")]
TargetOption = Annotated[
    list[str] | None,
    typer.Option("--target", help="An ARN, eventbridge, or for Ceph RGW a URL. Omitted: what fits the sources."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]


@events.command("show")
def events_show(config: ConfigOption = CONFIG, bucket: BucketOption = "", target: TargetOption = None) -> None:
    """Show the rules on the server, whose they are, and what config.yaml wants."""
    from listener.notifications.command import show_events

    _on_bucket_events(show_events, config, bucket, target)


@events.command("apply")
def events_apply(
    config: ConfigOption = CONFIG, bucket: BucketOption = "", target: TargetOption = None, dry_run: DryRunOption = False
) -> None:
    """Make the server's rules match config.yaml; rules of others stay as they are."""
    from listener.notifications.command import apply_events

    _on_bucket_events(apply_events, config, bucket, target, dry_run)


@events.command("remove")
def events_remove(
    config: ConfigOption = CONFIG, bucket: BucketOption = "", target: TargetOption = None, dry_run: DryRunOption = False
) -> None:
    """Take our rules off the server; rules of others stay as they are."""
    from listener.notifications.command import remove_events

    _on_bucket_events(remove_events, config, bucket, target, dry_run)


def _on_bucket_events(
    work: Callable[[Config, Environment, Request, Console], Coroutine[Any, Any, int]],
    config: Path,
    bucket: str,
    target: list[str] | None,
    dry_run: bool = False,
) -> None:
    from listener.cli.output import Terminal
    from listener.notifications.command import Request

    request = Request(bucket, tuple(target or ()), dry_run)
    sys.exit(asyncio.run(work(load_config(config), environment(), request, Terminal())))
