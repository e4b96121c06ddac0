"""`gpudrop run`: runs the listener until a signal ends it."""

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
    """Runs the listener and returns the exit status: 0 after a signal, 1 when a part failed."""
    hide_process()
    _open_more_files()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running(config, environment, config_file=config_file) as app:
        # Thousands of runs wait at once and live long: searching them for garbage at the default rate took a quarter
        # of the time.
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, *app.tasks}, return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in app.tasks if task.done()]
        stopped.cancel()
        for task in failed:
            _report_error(task.exception())
        log.info("stopping")
    return 1 if failed else 0


def hide_process() -> None:
    """Keeps other processes of the same user from debugging this one and reading its memory and environment (keys).

    Its files in /proc then belong to root; py-spy and gdb need root, faulthandler works.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _open_more_files() -> None:
    """Raises the limit of open files to the most allowed: the usual one is for programs that use `select`."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _report_error(error: BaseException | None) -> None:
    """Logs why a part failed, without a traceback where a user can fix it."""
    if isinstance(error, GpuDropError):
        log.error("part_failed", code=error.info.code, error=str(error), hint=error.info.hint)
    else:
        log.error("part_failed", error=repr(error), exc_info=error)
