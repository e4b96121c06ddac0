"""`gpudrop run`: the listener until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import signal
import sys
from pathlib import Path

import structlog

from listener.app.app import running
from listener.config.config import Config
from listener.config.environment import Environment
from manifests.errors import GpuDropError

_PR_SET_DUMPABLE = 4

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener")


async def run_listener(config: Config, environment: Environment, *, config_file: Path | None) -> int:
    """The exit status: 0 after a signal, 1 when a part of the listener failed."""
    hide_process()
    _open_more_files()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running(config, environment, config_file=config_file) as app:
        # Thousands of runs wait at once and live for long: looking at all of them for garbage, as often as the default
        # would, took a quarter of the time.
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, *app.tasks}, return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in app.tasks if task.done()]
        stopped.cancel()
        for task in failed:
            _tell(task.exception())
        log.info("stopping")
    return 1 if failed else 0


def hide_process() -> None:
    """No other process of the same user reads this one's memory and environment, where keys stand, or debugs it.

    The files of it in /proc belong to root then; py-spy and gdb need root, faulthandler works as before.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _open_more_files() -> None:
    """As many as the machine's owner allows: the usual limit is one for programs that use `select`."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _tell(error: BaseException | None) -> None:
    """What a user can mend needs no traceback."""
    if isinstance(error, GpuDropError):
        log.error("part_failed", code=error.info.code, error=str(error), hint=error.info.hint)
    else:
        log.error("part_failed", error=repr(error), exc_info=error)
