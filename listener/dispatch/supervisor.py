"""Follows one attempt's jobs until one finishes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import structlog

from gpu_dispatch.backend import JobRef, JobStatus
from gpu_dispatch.task import GpuResult
from listener.defects import DEFECT
from listener.dispatch.claims import ClaimStore
from listener.dispatch.outcomes import cancelled_there, fitting, no_result, still_running, vanished
from listener.dispatch.submission import JobRecovery, SubmittedJob
from listener.dispatch.tracked_jobs import STOP_S, ActiveAttempt, JobTracker, TrackedJob
from listener.dispatch.watchdog import JobWatchdog
from listener.signals import Cancellations
from manifests.errors import DuplicateJob, GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

ENDING_S = 10.0
"""More seconds than this program takes to end."""


class AttemptSupervisor:
    """Brings attempts to their results: one of an attempt's jobs does the work, the others are cancelled."""

    def __init__(
        self,
        tracker: JobTracker,
        watchdog: JobWatchdog,
        recovery: JobRecovery,
        claims: ClaimStore,
        cancellations: Cancellations,
    ) -> None:
        self._tracker = tracker
        self._watchdog = watchdog
        self._recovery = recovery
        self._claims = claims
        self._cancellations = cancellations

    async def result(self, attempt: ActiveAttempt, jobs: Sequence[SubmittedJob]) -> GpuResult:
        """Returns the task's result, by one of `jobs` or of those found beside them.

        Raises the task's error, and the error that ends the run; jobs that are not needed are cancelled. Cancelled
        itself, it leaves them as they are: they are looked for again.
        """
        for job in jobs:
            self._tracker.track(attempt, job)
        try:
            return await self._follow(attempt)
        except GpuDropError as e:
            left = await self._stop(attempt, e.info.code)
            if left:
                raise still_running(e, left) from e
            raise
        except Exception:
            # A program that is ending may close what this uses before it cancels it. The jobs must go on then, so they
            # are stopped only if the program still runs after ENDING_S.
            await asyncio.sleep(ENDING_S)
            await self._stop(attempt, DEFECT.code)
            raise
        finally:
            self._tracker.release(attempt)

    async def _follow(self, attempt: ActiveAttempt) -> GpuResult:
        run_id = attempt.request.run_id
        ended = asyncio.create_task(self._cancellations.wait(run_id))
        try:
            while True:
                waited = {ended, *(job.watch for job in attempt.open)}
                pause_s = self._watchdog.pause_s(attempt.open)
                await asyncio.wait(waited, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
                self._cancellations.check(run_id)
                if ended.done():
                    ended = asyncio.create_task(self._cancellations.wait(run_id))
                if found := await self._result_of_any(attempt):
                    return found
                for job in attempt.open:
                    if second := await self._watchdog.check(attempt, job):
                        self._tracker.track(attempt, second)
        finally:
            ended.cancel()

    async def _result_of_any(self, attempt: ActiveAttempt) -> GpuResult | None:
        """Returns the result of a job that brought one. Raises when no job is left that could."""
        for job in [job for job in attempt.open if job.watch.done()]:
            if found := await self._result_of(attempt, job):
                return found
        if not attempt.open:
            raise attempt.error or vanished()
        return None

    async def _result_of(self, attempt: ActiveAttempt, job: TrackedJob) -> GpuResult | None:
        """Returns the task's result, if this job brought it."""
        request = attempt.request
        try:
            status = job.watch.result()
        except GpuDropError as e:
            status = JobStatus("failed", result=GpuResult(request.task_id, error=e.info))
        result = fitting(await self._best_answer(attempt, job, status), request.task)
        if result and result.payload:
            await self._tracker.close(attempt, job, "done", result)
            await self._tracker.cancel_open(attempt, "taken_back")
            return replace(result, task_id=request.task_id)
        durable = job.submitted.backend.durable
        error = (result.error if result else None) or no_result(status, job.endpoint, durable=durable)
        error = self._tracker.explained(cancelled_there(error, job.endpoint), job, result)
        await self._tracker.close(attempt, job, error.code, result)
        if error.code == DuplicateJob.code:
            await self._follow_holder(attempt, job)
        else:
            attempt.error = GpuDropError.from_info(error)
            if attempt.open and await self._holds_claim(attempt, job):
                raise attempt.error
        return None

    async def _best_answer(self, attempt: ActiveAttempt, job: TrackedJob, status: JobStatus) -> GpuResult | None:
        """Returns the endpoint's result, or the worker's answer in the store, should the endpoint know less."""
        result = status.result
        if result and (result.payload or (result.error and result.error.code == DuplicateJob.code)):
            return result
        if not job.claims:
            return result
        answer = await self._tracker.answer(attempt, job)
        if answer and (answer.payload or result is None):
            return replace(answer, delay_ms=result.delay_ms if result else answer.delay_ms)
        return result

    async def _holds_claim(self, attempt: ActiveAttempt, job: TrackedJob) -> bool:
        """Whether this job holds the claim: then no other one of the attempt will do any work."""
        if not job.claims:
            return False
        claim = await self._claims.holder(attempt.request, attempt.number)
        return claim is not None and claim.job_id == job.id

    async def _follow_holder(self, attempt: ActiveAttempt, job: TrackedJob) -> None:
        """Follows the job that holds the claim, after `job` has said that another one does. The holder may be the same
        job, where the provider has run it again."""
        claim = await self._claims.holder(attempt.request, attempt.number)
        itself = claim is not None and claim.job_id == job.id and claim.begun < 2
        holder = None if itself else await self._recovery.claimed(attempt.request, attempt.number)
        if holder is None:
            attempt.error = attempt.error or vanished()
            return
        known = attempt.jobs.get(holder.job.job_id)
        if known is None:
            self._tracker.track(attempt, holder)
        elif known.closed:
            self._tracker.reopen(attempt, known)

    async def _stop(self, attempt: ActiveAttempt, outcome: str) -> list[JobRef]:
        """Cancels the attempt's jobs and revokes its claim, so that none begins later. Returns the jobs that claim
        nothing and could not be cancelled."""
        left = await self._tracker.cancel_open(attempt, outcome)
        if not attempt.claims:
            return left
        try:
            async with asyncio.timeout(STOP_S):
                await self._claims.revoke(attempt.request, attempt.number)
        except (TimeoutError, GpuDropError) as e:
            log.warning("claim_not_revoked", run_id=attempt.request.run_id, error=str(e))
        return left
