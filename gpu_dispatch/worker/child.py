"""A worker on this machine: one job at a time, orders on stdin, reports on the original stdout.

    python -m gpu_dispatch.worker.child --work-root DIR [--file-root DIR] [--model-dir DIR] …

The owner starts it as the leader of a new process group. When stdin closes, the owner has ended, and the whole group
is killed at once, every ffmpeg included.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, NoReturn

from gpu_dispatch.compression import packed
from gpu_dispatch.protocol import (
    DoneReport,
    Order,
    ProgressReport,
    ReadyReport,
    RunOrder,
    WorkerReport,
    order_from_line,
    report_line,
)
from gpu_dispatch.task import GpuResult, Progress, TaskParams
from gpu_dispatch.worker.confinement import confine
from gpu_dispatch.worker.context import Operation
from gpu_dispatch.worker.job import run_job
from gpu_dispatch.worker.operations import Operations, OperationSettings
from manifests.errors import RunCancelled

_PR_SET_PDEATHSIG = 1


class OwnerChannel:
    """The two pipes to the owner; a thread each reads and writes, so that a busy event loop does not delay them."""

    def __init__(self, orders: BinaryIO, reports: BinaryIO) -> None:
        self._orders = orders
        self._reports = reports
        self._outbox: SimpleQueue[WorkerReport] = SimpleQueue()

    @classmethod
    def over_stdio(cls) -> OwnerChannel:
        """Takes over stdin and stdout: a library that prints writes to stderr, one that reads gets end of file."""
        orders, reports = os.dup(0), os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        return cls(os.fdopen(orders, "rb"), os.fdopen(reports, "wb", buffering=0))

    def start(self, deliver: Callable[[Order], None]) -> None:
        """Calls `deliver` for every order, in the reading thread."""
        threading.Thread(target=self._read, args=(deliver,), name="orders", daemon=True).start()
        threading.Thread(target=self._write, name="reports", daemon=True).start()

    def send(self, report: WorkerReport) -> None:
        """Queues a report, from any thread and without blocking; reports keep their order."""
        self._outbox.put(report)

    def _read(self, deliver: Callable[[Order], None]) -> None:
        try:
            for line in self._orders:
                deliver(order_from_line(line))
        finally:
            end_group()

    def _write(self) -> None:
        try:
            while True:
                left = memoryview(report_line(self._outbox.get()))
                while left:
                    left = left[self._reports.write(left) :]
        finally:
            end_group()


def end_group() -> NoReturn:
    """Kills this process and, when it leads its process group, everything it started."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def die_with_owner() -> None:
    """Kills the group on SIGTERM, which Linux sends when the owner ends even if its pipe leaked to another process."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: end_group())
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def serve_owner(
    channel: OwnerChannel, operations: Operation[TaskParams], settings: OperationSettings
) -> NoReturn:
    """Executes one job after the other, for ever; loaded models stay loaded."""
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[Order] = asyncio.Queue()

    def deliver(order: Order) -> None:
        loop.call_soon_threadsafe(inbox.put_nowait, order)

    channel.start(deliver)
    channel.send(ReadyReport())
    job, work = "", None
    while True:
        order = await inbox.get()
        if isinstance(order, RunOrder):
            job, work = order.job, asyncio.create_task(_do(order, channel, operations, settings))
        elif work and order.job == job:
            work.cancel()


async def _do(
    order: RunOrder, channel: OwnerChannel, operations: Operation[TaskParams], settings: OperationSettings
) -> None:
    def report(progress: Progress) -> None:
        channel.send(ProgressReport(order.job, progress))

    try:
        result = await run_job(
            order.task,
            operations=operations,
            work_root=settings.work_root,
            file_root=settings.file_root,
            report=report,
        )
    except asyncio.CancelledError:
        result = GpuResult(order.task.task_id, error=RunCancelled("The job was cancelled.").info)
    channel.send(DoneReport(order.job, await asyncio.to_thread(packed, result)))


def parse_options(arguments: Sequence[str]) -> tuple[OperationSettings, int]:
    """Returns the settings and the process's niceness."""
    parser = argparse.ArgumentParser(prog="gpu_dispatch.worker.child", description=__doc__)
    parser.add_argument("--work-root", type=Path, required=True)
    parser.add_argument("--file-root", type=Path)
    parser.add_argument("--model-dir", type=Path)
    parser.add_argument("--model", type=_named_path, action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--ffmpeg")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--offline", action="store_true", help="download no models")
    parser.add_argument("--nice", type=int, default=0)
    found = parser.parse_args(arguments)
    settings = OperationSettings(
        work_root=found.work_root,
        file_root=found.file_root,
        model_dir=found.model_dir,
        models=dict(found.model),
        ffmpeg=found.ffmpeg,
        device=found.device,
        allow_download=not found.offline,
    )
    return settings, found.nice


def _named_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, Path(path)


def main() -> None:
    confine()
    channel = OwnerChannel.over_stdio()
    die_with_owner()
    settings, niceness = parse_options(sys.argv[1:])
    os.nice(niceness)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(serve_owner(channel, Operations(settings), settings))


if __name__ == "__main__":
    main()
