"""Changed triggers in config.yaml take effect at once; everything else does at the next start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog
from watchfiles import awatch  # pyright: ignore[reportUnknownVariableType]

from listener.configuration.loading import load_config
from listener.configuration.triggers import triggers_of
from listener.triggers import Trigger
from manifests.errors import GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.config")

STEP_MS = 500
LOOK_MS = 5000
"""Also looked at this often: for changes before the watch began, and file systems that tell nothing."""


async def follow_config(path: Path, in_force: tuple[Trigger, ...], use: Callable[[tuple[Trigger, ...]], None]) -> None:
    """Until cancelled. A file that is not valid, or that `use` refuses, is reported, and the triggers in force stay.

    The folder is watched, not the file: editors replace files, and containers swap links to them.
    """
    folder = path.absolute().parent  # noqa: ASYNC240 - reads no file
    looked_at: tuple[int, int] | None = None
    async for _ in awatch(folder, recursive=False, step=STEP_MS, rust_timeout=LOOK_MS, yield_on_timeout=True):
        stamp = await asyncio.to_thread(_stamp, path)
        if stamp == looked_at:
            continue
        looked_at = stamp
        try:
            triggers = triggers_of(load_config(path))
            if triggers != in_force:
                use(triggers)
                in_force = triggers
                log.info("triggers_reloaded", triggers=[t.name for t in triggers])
        except GpuDropError as e:
            log.error("config_not_reloaded", error=str(e), hint=e.info.hint)


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes with the file; None while there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
