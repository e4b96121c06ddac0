"""Changed triggers in config.yaml take effect at once; everything else does at the next start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog
from watchfiles import awatch  # pyright: ignore[reportUnknownVariableType]

from listener.config import load, triggers_of
from listener.triggers import Trigger
from manifests.errors import GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.config")


async def follow_config(path: Path, use: Callable[[tuple[Trigger, ...]], None]) -> None:
    """Until cancelled. A file that is not valid, or that `use` refuses, is reported, and the triggers in force stay.

    The folder is watched, not the file: editors replace files, and containers swap links to them.
    """
    folder = path.absolute().parent  # noqa: ASYNC240 - reads no file
    seen = triggers_of(load(path))
    async for _ in awatch(folder, recursive=False):
        try:
            triggers = triggers_of(load(path))
            if triggers != seen:
                use(triggers)
                seen = triggers
                log.info("triggers_reloaded", triggers=[t.name for t in triggers])
        except GpuDropError as e:
            log.error("config_not_reloaded", error=str(e), hint=e.info.hint)
