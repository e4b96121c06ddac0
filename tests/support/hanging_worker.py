"""Our worker on RunPod with an operation that leaves a thread behind which nobody can stop, as speech may."""

import asyncio
import os
import threading

from gpu_dispatch.task import Payload, Progress, TaskParams, TranscribeParams, Videos
from gpu_dispatch.worker.__main__ import lead_group, serve
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.environment import settings_from, start_logging

never = threading.Event()
hanging: list[asyncio.Future[bool]] = []


async def hang(params: TaskParams, job: JobContext) -> Payload:
    if isinstance(params, TranscribeParams) and params.model == "hang":
        hanging.append(asyncio.get_running_loop().run_in_executor(None, never.wait))
        job.report(Progress(50, "hang"))
        await asyncio.sleep(1000)
    return Videos((), "copy")


async def idle() -> None:
    for each in hanging:
        await asyncio.shield(each)


if __name__ == "__main__":
    start_logging()
    lead_group()
    serve(hang, settings_from(os.environ), idle=idle)
