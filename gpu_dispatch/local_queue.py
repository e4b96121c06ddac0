"""The jobs of one kind that wait for a slot on this machine."""

from __future__ import annotations

import asyncio
import time

from gpu_dispatch.fair_queue import FairQueue
from gpu_dispatch.local_job import LocalJob


class JobQueue:
    """Folders take turns, so that nobody waits for all that another one has dropped. Belongs to one event loop."""

    def __init__(self) -> None:
        self._all: FairQueue[LocalJob] = FairQueue()
        self._short: FairQueue[LocalJob] = FairQueue()
        self._come = asyncio.Event()

    def put(self, job: LocalJob, *, short: bool) -> None:
        """`short`: the express slot may have it, too."""
        path = tuple(job.task.share.split("/"))
        job.taken = False
        self._all.push(path, job)
        if short:
            self._short.push(path, job)
        come, self._come = self._come, asyncio.Event()
        come.set()

    async def take(self) -> LocalJob:
        """The next one, once there is one."""
        while (job := self._pop(self._all)) is None:
            await self._come.wait()
        job.taken = True
        return job

    async def take_short(self, waited_s: float) -> LocalJob:
        """The next short one that no slot has taken for so long."""
        while True:
            while (job := self._pop(self._short)) is None:
                await self._come.wait()
            await asyncio.sleep(job.submitted + waited_s - time.monotonic())
            if not job.taken and not job.status.final:
                job.taken = True
                return job

    def _pop(self, queue: FairQueue[LocalJob]) -> LocalJob | None:
        """Without those that another slot has, and those that ended while they waited."""
        while queue:
            job = queue.pop()
            if not job.taken and not job.status.final:
                return job
        return None
