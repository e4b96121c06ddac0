"""Begins attempts: with the jobs that one has already, or with one that an endpoint takes."""

from __future__ import annotations

from dataclasses import replace

from gpu_dispatch.backend import JobRef
from listener.dispatch.endpoint_pool import EndpointPool
from listener.dispatch.request import AttemptResult, JobRequest
from listener.dispatch.scheduler import Scheduler
from listener.dispatch.submission import JobRecovery, SubmittedJob, Submitter
from listener.outages import OutageRetry
from manifests.errors import EndpointDenied, EndpointUnavailable, JobLost, SubmitUnknown, TaskRefused


class Dispatcher:
    """Places and submits an attempt's jobs until an endpoint takes one."""

    def __init__(
        self,
        pool: EndpointPool,
        scheduler: Scheduler,
        submitter: Submitter,
        recovery: JobRecovery,
        outages: OutageRetry,
    ) -> None:
        self._pool = pool
        self._scheduler = scheduler
        self._submitter = submitter
        self._recovery = recovery
        self._outages = outages

    async def known(self, request: JobRequest, attempt: int) -> tuple[SubmittedJob, ...]:
        """Returns the jobs that an attempt has already, as before a restart. Comes before everything else: if the run
        is to end, they have to be cancelled. Raises SubmitUnknown."""
        return await self._recovery.resume(request, attempt)

    async def begin(
        self, request: JobRequest, attempt: int, before: tuple[AttemptResult, ...]
    ) -> tuple[SubmittedJob, ...]:
        """Returns the jobs of an attempt that has none, after those attempts in `before` that failed. Raises what
        `Scheduler.place` raises, and SubmitUnknown when it is unknown whether a task was taken."""
        last = before[-1] if before else None
        await self._outages.retry(self._scheduler.admit, request, first=last is None)
        if last and last.job and last.error and not last.nobody_began:
            restarted = await self._restart(request, attempt, last.job)
            if restarted:
                return (restarted,)
        # A restarted process is as good an endpoint as it was.
        same_place = last and last.error and last.error.code == JobLost.code and not last.counts
        avoid = frozenset({last.job.backend} if last and last.job and not same_place else ())
        try:
            return (await self._send(request, attempt, avoid),)
        except SubmitUnknown:
            return await self._recovery.resume(request, attempt)

    async def second(self, request: JobRequest, attempt: int, used: frozenset[str]) -> SubmittedJob | None:
        """Submits another job beside one that waits, for the same claim, at an endpoint that is not in `used`.

        None when there is no room for it now. Raises what `GpuBackend.submit` raises. If it was taken after all, the
        claim shows it once it begins.
        """
        never = used | self._pool.unclaimed
        placement = await self._outages.retry(self._scheduler.place_now, request, attempt, 2, never)
        if placement is None:
            return None
        try:
            return replace(await self._submitter.submit(request, attempt, placement), alone=False)
        except SubmitUnknown:
            await self._submitter.abandon(placement.row)
            raise

    async def _send(self, request: JobRequest, attempt: int, avoid: frozenset[str]) -> SubmittedJob:
        """Submits the first job of an attempt, at endpoints in `avoid` only when no other takes it now."""
        refusing: frozenset[str] = frozenset()
        while True:
            sent = await self._outages.retry(self._try_once, request, attempt, avoid, refusing)
            if isinstance(sent, SubmittedJob):
                return sent
            refusing |= sent

    async def _try_once(
        self, request: JobRequest, attempt: int, avoid: frozenset[str], refusing: frozenset[str]
    ) -> SubmittedJob | frozenset[str]:
        """Returns the job, or the endpoints that refuse such a task. Raises the store's error about links: the caller
        waits for the store without a slot, which others may use meanwhile."""
        placement = await self._scheduler.place(request, attempt, 1, avoid, refusing)
        try:
            return await self._submitter.submit(request, attempt, placement)
        except (EndpointUnavailable, EndpointDenied):
            return frozenset()
        except TaskRefused:
            refused = frozenset({placement.row.endpoint})
            if not self._pool.able(request.task.params) - refusing - refused:
                raise
            return refused

    async def _restart(self, request: JobRequest, attempt: int, failed: JobRef) -> SubmittedJob | None:
        """Restarts the job of an earlier attempt at its endpoint; None where that cannot be. It is recorded before the
        request: if it is unknown whether it was restarted, the job itself shows it."""
        backend = self._pool.backend(failed.backend)
        if backend is None or backend.claims or not backend.durable:
            return None
        others = self._pool.names - {failed.backend}
        placement = await self._outages.retry(self._scheduler.place, request, attempt, 1, others)
        if placement.row.endpoint == failed.backend:
            job = await self._submitter.record(placement.row, backend, failed)
            try:
                if await backend.restart(failed):
                    return job
            except EndpointUnavailable:
                return job
            except EndpointDenied as e:
                self._pool.refused(failed.backend, e)
        await self._submitter.withdraw(placement)
        return None
