"""Follows a job to its end, on any backend."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from gpu_dispatch.backend import GpuBackend, JobRef, JobStatus
from gpu_dispatch.waiting import Backoff
from manifests.errors import EndpointDenied, GpuDropError

LOOK_S = 30.0
"""The longest one look may take."""


async def follow(
    backend: GpuBackend,
    job: JobRef,
    *,
    on_status: Callable[[JobStatus], None],
    rng: random.Random,
    backoff: Backoff | None = None,
    on_look: Callable[[bool], object] = bool,
) -> JobStatus:
    """The final status of `job`; "lost" is one, too. `on_status` hears every new status once, the final one included;
    `on_look` hears after every look whether the backend told anything.

    Retryable errors of the backend are waited out, for as long as it takes: whoever follows sets the deadline. Being
    cancelled leaves the job as it is: it may be looked for again.
    """
    pause = backoff or Backoff()
    known: JobStatus | None = None
    failures = 0
    while True:
        try:
            status = await backend.status(job, wait_s=LOOK_S if known else 0.0)
        except GpuDropError as e:
            # A key that was revoked is a reason to wait: the job goes on, and is paid for.
            if not e.retryable and not isinstance(e, EndpointDenied):
                raise
            on_look(False)
            failures += 1
            await asyncio.sleep(pause.delay(failures, rng))
            continue
        on_look(True)
        failures = 0
        if status != known:
            on_status(status)
            known = status
        if status.final:
            return status
