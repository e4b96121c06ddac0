"""Follows a job to its end, on any backend."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from gpu_dispatch.backend import GpuBackend, JobRef, JobStatus
from gpu_dispatch.waiting import Backoff, Deadline
from manifests.errors import GpuDropError, TaskTimedOut

LOOK_S = 30.0
"""The longest one look may take."""


async def wait_until_final(
    backend: GpuBackend,
    job: JobRef,
    *,
    deadline_s: float,
    on_status: Callable[[JobStatus], None],
    rng: random.Random,
    backoff: Backoff | None = None,
) -> JobStatus:
    """The final status of `job`; "lost" is one, too. `on_status` hears every new status once, the final one included.

    Retryable errors of the backend are waited out. After `deadline_s` seconds the job is cancelled and TaskTimedOut
    raised, unless it became final meanwhile. Being cancelled leaves the job as it is: it may be looked for again.
    """
    clock = asyncio.get_running_loop().time
    deadline = Deadline.after(deadline_s, clock())
    pause = backoff or Backoff()
    known: JobStatus | None = None
    failures = 0
    wait_s = 0.0
    while True:
        try:
            status = await backend.status(job, wait_s=wait_s)
            failures = 0
        except GpuDropError as e:
            if not e.retryable or deadline.over(clock()):
                raise
            failures += 1
            await asyncio.sleep(min(pause.delay(failures, rng), deadline.left(clock())))
            continue
        if status != known:
            on_status(status)
            known = status
        if status.final:
            return status
        if deadline.over(clock()):
            return await _give_up(backend, job, deadline_s, on_status)
        wait_s = min(LOOK_S, deadline.left(clock()))


async def _give_up(
    backend: GpuBackend, job: JobRef, deadline_s: float, on_status: Callable[[JobStatus], None]
) -> JobStatus:
    await backend.cancel(job)
    status = await backend.status(job)
    if status.state == "completed":
        on_status(status)
        return status
    raise TaskTimedOut(
        f"The job was not finished after {deadline_s:g} s and was cancelled.",
        hint="Use a shorter input, a smaller model or a faster GPU, or raise the timeout in config.yaml.",
    )
