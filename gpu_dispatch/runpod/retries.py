"""RunPod calls that are retried because repeating them is harmless."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from gpu_dispatch.backend import JobRef
from gpu_dispatch.net.retries import RUNPOD_READ, RUNPOD_RESTART, Retries
from gpu_dispatch.runpod.client import RunPodClient
from gpu_dispatch.runpod.errors import wrong_job_response
from gpu_dispatch.runpod.responses import JobResponse
from manifests.errors import EndpointUnavailable


class RetryingCalls:
    """Cancels and restarts jobs with retries; `within_s` is how long a call is repeated while RunPod is unavailable."""

    def __init__(self, client: RunPodClient, rng: random.Random, within_s: float) -> None:
        self._client = client
        self._rng = rng
        self._policy = replace(RUNPOD_READ, total_s=within_s)

    async def cancel(self, job: JobRef) -> bool:
        """Cancels `job`; whether RunPod reports it as cancelled."""
        answer = await self._retried(job, lambda: self._client.cancel(job.endpoint, job.job_id))
        return answer is not None and answer.state == "cancelled"

    async def run_again(self, job: JobRef, has_no_payload: Callable[[JobResponse], bool]) -> bool:
        """Queues a failed job again; whether it is queued, running or has ended since.

        After a lost response the job's own status decides. A job that has not failed was restarted by an earlier call
        whose response was lost. `has_no_payload` recognises a completed job without a payload, which RunPod does not
        restart.
        """
        before = await self._status(job)
        if before is None or before.state == "cancelled" or has_no_payload(before):
            return False
        if before.state not in ("failed", "timed_out"):
            return True

        async def again() -> bool:
            try:
                taken = await self._client.retry(job.endpoint, job.job_id)
            except EndpointUnavailable:
                if await self._differs(job, before):
                    return True
                raise
            return taken is not None or await self._differs(job, before)

        return await Retries(RUNPOD_RESTART, rng=self._rng).call(again, on=_is_unavailable)

    async def _differs(self, job: JobRef, before: JobResponse) -> bool:
        answer = await self._status(job)
        return answer is not None and answer != before

    async def _status(self, job: JobRef) -> JobResponse | None:
        return await self._retried(job, lambda: self._client.status(job.endpoint, job.job_id))

    async def _retried(self, job: JobRef, ask: Callable[[], Awaitable[JobResponse | None]]) -> JobResponse | None:
        async def asked() -> JobResponse | None:
            answer = await ask()
            if answer and not answer.is_about(job.job_id):
                raise wrong_job_response(job.endpoint, job.job_id)
            return answer

        return await Retries(self._policy, rng=self._rng).call(asked, on=_is_unavailable)


def _is_unavailable(error: Exception) -> bool:
    return isinstance(error, EndpointUnavailable)
