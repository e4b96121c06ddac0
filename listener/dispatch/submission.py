"""Submits tasks to endpoints: each is recorded before it is sent, and never sent again blindly."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from gpu_dispatch.backend import GpuBackend, JobRef
from gpu_dispatch.claims import Claim
from listener.dispatch.claims import ClaimStore
from listener.dispatch.endpoint_pool import EndpointPool
from listener.dispatch.limits import Deadlines
from listener.dispatch.request import JobRequest
from listener.dispatch.scheduler import Placement
from listener.dispatch.task_builder import TaskBuilder
from listener.ledger.job_rows import JobRow
from listener.ledger.jobs import JobLedger
from listener.outages import OutageRetry
from manifests.errors import EndpointDenied, EndpointUnavailable, GpuDropError, SubmitUnknown

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

_LAST_S = 2.0
"""Seconds to hear an endpoint's answer when this process ends: the engine leaves a workflow after 3 s."""


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A known job, and the backend to ask about it."""

    row: JobRow
    """As it stands in the ledger."""
    backend: GpuBackend
    job: JobRef
    alone: bool = True
    """Whether no other job was ever meant for its claim."""


class Submitter:
    """Submits a task to the endpoint where it has a slot, with its row in the ledger before and after."""

    def __init__(
        self, pool: EndpointPool, ledger: JobLedger, tasks: TaskBuilder, outages: OutageRetry, *, deadlines: Deadlines
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._tasks = tasks
        self._outages = outages
        self._deadlines = deadlines

    async def submit(self, request: JobRequest, attempt: int, placement: Placement) -> SubmittedJob:
        """Returns the job that the endpoint has taken.

        Raises what `GpuBackend.submit` raises, and what keeps a task from being built. No row is left of one that was
        not taken. Where no claim can show later whether a task was taken, a call that is cancelled waits for the answer
        first.
        """
        if placement.backend.claims or not placement.backend.durable:
            return await self._submit(request, attempt, placement)
        submitting = asyncio.create_task(self._submit(request, attempt, placement))
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            await asyncio.wait({submitting}, timeout=_LAST_S)
            submitting.cancel()
            raise

    async def record(self, row: JobRow, backend: GpuBackend, job: JobRef) -> SubmittedJob:
        """Records the job's id, before anything else happens."""
        await self._outages.retry(self._ledger.sent, row.entry, endpoint_id=job.endpoint, job_id=job.job_id)
        return SubmittedJob(replace(row, endpoint_id=job.endpoint, job_id=job.job_id, state="sent"), backend, job)

    async def withdraw(self, placement: Placement) -> None:
        """Removes the row of a task that was certainly not sent, or not taken."""
        await self._outages.retry(self._ledger.delete, placement.row.entry)

    async def abandon(self, row: JobRow, usd: float = 0.0) -> None:
        """Ends the row of a task that may have been taken: if it was, its claim shows it once it begins."""
        await self._outages.retry(self._ledger.ended, row.entry, outcome=SubmitUnknown.code, usd=usd)

    async def _submit(self, request: JobRequest, attempt: int, placement: Placement) -> SubmittedJob:
        name = placement.row.endpoint
        self._pool.submitting(name)
        try:
            job = await self._send(request, attempt, placement)
        except SubmitUnknown as e:
            self._pool.refused(name, e)
            await self._outages.retry(self._ledger.unknown, placement.row.entry)
            raise
        except GpuDropError as e:
            await self.withdraw(placement)
            if isinstance(e, EndpointUnavailable | EndpointDenied):
                self._pool.refused(name, e)
            raise
        self._pool.accepted(name)
        return await self.record(placement.row, placement.backend, job)

    async def _send(self, request: JobRequest, attempt: int, placement: Placement) -> JobRef:
        queue_s = self._deadlines.queue_s(self._pool.spec(placement.row.endpoint), attempt)
        task = await self._tasks.task(
            request,
            attempt,
            timeout_s=placement.timeout_s,
            claims=placement.backend.claims,
            lifetime_s=self._deadlines.link_lifetime_s(queue_s, placement.timeout_s),
        )
        return await placement.backend.submit(task)


class JobRecovery:
    """Finds the jobs that an attempt has already, by the ledger's rows and the attempt's claim."""

    def __init__(
        self, pool: EndpointPool, ledger: JobLedger, claims: ClaimStore, submitter: Submitter, outages: OutageRetry
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._claims = claims
        self._submitter = submitter
        self._outages = outages

    async def resume(self, request: JobRequest, attempt: int) -> tuple[SubmittedJob, ...]:
        """Returns the jobs that an attempt has already; none: it has not begun. Raises SubmitUnknown: retryable when it
        is certain that no job of the attempt will do any work."""
        rows = await self._outages.retry(self._ledger.of_attempt, request.task_id, attempt)
        known = tuple(replace(self._known(row), alone=len(rows) == 1) for row in rows if row.job_id)
        doubtful = [row for row in rows if not row.job_id and row.state != "ended"]
        if rows and not known:
            return (await self._settle(request, attempt, doubtful or rows),)
        for row in doubtful:
            # A second job, interrupted while it was sent.
            await self._submitter.abandon(row)
        return known

    async def claimed(self, request: JobRequest, attempt: int) -> SubmittedJob | None:
        """Returns the job that holds the attempt's claim; None while none does that can be the attempt's."""
        claim = await self._claims.holder(request, attempt)
        rows = await self._outages.retry(self._ledger.of_attempt, request.task_id, attempt)
        return await self._adopt(rows, claim) if claim else None

    async def _settle(self, request: JobRequest, attempt: int, rows: list[JobRow]) -> SubmittedJob:
        """Returns the job of an attempt that has none on record, if it has begun; otherwise makes sure that it never
        will, where it can, and raises SubmitUnknown."""
        row = rows[0]
        backend = self._backend(row)
        if backend.claims:
            claim = await self._claims.settle(request, attempt)
            if claim is not None:
                if adopted := await self._adopt(rows, claim):
                    log.info("job_found_again", run_id=row.run_id, task=row.task_id, job=claim.job_id)
                    return adopted
                # It names a job that this attempt cannot have: its worker is stopped.
                await self._claims.revoke(request, attempt)
            certain = True
        else:
            certain = not backend.durable or self._pool.resubmits(row.endpoint)
        for each in rows:
            await self._submitter.abandon(each, 0.0 if certain else each.estimate_usd)
        raise _submit_unknown(row.endpoint, certain=certain)

    async def _adopt(self, rows: Sequence[JobRow], claim: Claim) -> SubmittedJob | None:
        """Returns the job that a claim names, if one of the attempt's endpoints may have it, and no other task."""
        mine = [row for row in rows if row.job_id == claim.job_id]
        there = [row for row in rows if claim.endpoint_id in ("", row.endpoint_id)]
        row = next(iter(mine or [row for row in there if not row.job_id] or there), None)
        if row is None or await self._outages.retry(self._ledger.belongs_to_other_task, claim.job_id, row.task_id):
            log.warning("claim_not_believed", task=claim.task_id, job=claim.job_id, endpoint=claim.endpoint_id)
            return None
        backend = self._backend(row)
        job = JobRef(backend.name, row.endpoint_id, claim.job_id, row.task_id)
        return await self._submitter.record(row, backend, job)

    def _known(self, row: JobRow) -> SubmittedJob:
        backend = self._backend(row)
        return SubmittedJob(row, backend, JobRef(backend.name, row.endpoint_id, row.job_id, row.task_id))

    def _backend(self, row: JobRow) -> GpuBackend:
        return self._pool.backend_for(row.endpoint, row.endpoint_id, row.dialect)


def _submit_unknown(endpoint: str, *, certain: bool) -> SubmitUnknown:
    """`certain`: that no job of the attempt will do any work."""
    if certain:
        return SubmitUnknown(
            f"Nobody can say whether {endpoint} took the task; should it have, it will do nothing.",
            hint="It is sent again by itself.",
            retryable=True,
        )
    return SubmitUnknown(
        f"Nobody can say whether {endpoint} took the task.",
        hint="Look for the job in the provider's console, then redrive; or set resubmit_unknown on the endpoint.",
        retryable=False,
    )
