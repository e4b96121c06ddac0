"""Follows a job to its end, on any backend."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from gpu_dispatch.backend import GpuBackend, JobRef, JobStatus
from gpu_dispatch.net.retries import JOB_STATUS, Retries, RetryPolicy
from manifests.errors import EndpointDenied, GpuDropError

LOOK_S = 30.0
"""The longest one look may take."""


async def follow(
    backend: GpuBackend,
    job: JobRef,
    *,
    on_status: Callable[[JobStatus], None],
    rng: random.Random,
    policy: RetryPolicy = JOB_STATUS,
    on_look: Callable[[bool], object] = bool,
) -> JobStatus:
    """The final status of `job`; "lost" is one, too. `on_status` hears every new status once, the final one included;
    `on_look` hears after every look whether the backend told anything.

    Retryable errors of the backend are waited out, for as long as it takes: whoever follows sets the deadline. Being
    cancelled leaves the job as it is: it may be looked for again.
    """
    retries = Retries(policy, rng=rng)
    known: JobStatus | None = None
    while True:
        look = partial(backend.status, job, wait_s=LOOK_S if known else 0.0)
        status = await retries.call(look, on=_is_waited_out, told=lambda _: on_look(False))
        on_look(True)
        if status != known:
            on_status(status)
            known = status
        if status.final:
            return status


def _is_waited_out(error: Exception) -> bool:
    """A key that was revoked is a reason to wait: the job goes on, and is paid for."""
    return isinstance(error, GpuDropError) and (error.retryable or isinstance(error, EndpointDenied))
