"""Calls that are worth being insisted on, because asking twice does no harm."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from gpu_dispatch.backend import JobRef
from gpu_dispatch.runpod.answers import Answer
from gpu_dispatch.runpod.client import RunPodClient
from gpu_dispatch.runpod.troubles import mistaken
from gpu_dispatch.runpod.watching import AFTER_TROUBLE, now
from gpu_dispatch.waiting import Deadline
from manifests.errors import EndpointUnavailable

_ATTEMPTS = 3


class Insisting:
    """`within_s`: for how long a call is repeated that finds RunPod unable to answer."""

    def __init__(self, client: RunPodClient, rng: random.Random, within_s: float) -> None:
        self._client = client
        self._rng = rng
        self._within_s = within_s

    async def cancel(self, job: JobRef) -> bool:
        """Whether RunPod says that `job` is cancelled now."""
        answer = await self._insist(job, lambda: self._client.cancel(job.endpoint, job.job_id))
        return answer is not None and answer.state == "cancelled"

    async def run_again(self, job: JobRef, useless: Callable[[Answer], bool]) -> bool:
        """Whether a job that failed is in the queue again, or beyond. Where an answer is lost, the job itself tells.

        One that is there already was put there by an earlier call, whose answer was lost. `useless`: a job is done, and
        what it brought is nothing; RunPod does not start such a one again.
        """
        before = await self._status(job)
        if before is None or before.state == "cancelled" or useless(before):
            return False
        if before.state not in ("failed", "timed_out"):
            return True
        attempt = 0
        while True:
            attempt += 1
            try:
                taken = await self._client.retry(job.endpoint, job.job_id)
            except EndpointUnavailable:
                if await self._differs(job, before):
                    return True
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(AFTER_TROUBLE.delay(attempt, self._rng))
            else:
                return taken is not None or await self._differs(job, before)

    async def _differs(self, job: JobRef, before: Answer) -> bool:
        answer = await self._status(job)
        return answer is not None and answer != before

    async def _status(self, job: JobRef) -> Answer | None:
        return await self._insist(job, lambda: self._client.status(job.endpoint, job.job_id))

    async def _insist(self, job: JobRef, ask: Callable[[], Awaitable[Answer | None]]) -> Answer | None:
        deadline = Deadline.after(self._within_s, now())
        failures = 0
        while True:
            try:
                answer = await ask()
                if answer and not answer.about(job.job_id):
                    raise mistaken(job.endpoint, job.job_id)
                return answer
            except EndpointUnavailable:
                failures += 1
                if deadline.over(now()):
                    raise
                await asyncio.sleep(min(AFTER_TROUBLE.delay(failures, self._rng), deadline.left(now())))
