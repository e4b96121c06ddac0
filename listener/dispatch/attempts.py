"""Executes one attempt at a task, from placement to result; executed again, the same attempt resumes where it was.

An attempt is a claim in the store, and every job that is sent for it carries that claim: the first to begin works, any
other ends at once. Before each request a row is written. The claim decides what a row without a job's id stands for (a
crash, or an answer that never came): either its job has begun, and is followed, or the listener takes the claim, and
the job never begins.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from gpu_dispatch.backend import JobRef
from listener.defects import DEFECT
from listener.dispatch.claims import ClaimStore, may_be_stored
from listener.dispatch.dispatcher import Dispatcher
from listener.dispatch.outcomes import fitting
from listener.dispatch.output_sizes import OutputSizes
from listener.dispatch.request import NOBODY_BEGAN, AttemptResult, JobRequest, store_not_served
from listener.dispatch.supervisor import AttemptSupervisor
from listener.dispatch.task_builder import MultipartUploads
from listener.dispatch.tracked_jobs import ActiveAttempt
from manifests.errors import ErrorInfo, GpuDropError, JobLost

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")


class Attempts:
    """Executes attempts at tasks."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        supervisor: AttemptSupervisor,
        claims: ClaimStore,
        uploads: MultipartUploads,
        outputs: OutputSizes,
        *,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives epoch seconds."""
        self._dispatcher = dispatcher
        self._supervisor = supervisor
        self._claims = claims
        self._uploads = uploads
        self._outputs = outputs
        self._clock = clock

    async def execute(self, request: JobRequest, number: int, before: tuple[AttemptResult, ...]) -> AttemptResult:
        """Executes attempt `number`, after those in `before` that failed. Never raises for its own failure."""
        started = self._clock()
        attempt = ActiveAttempt(request, number)
        try:
            jobs = await self._dispatcher.known(request, number)
            if not jobs and (late := await self._late_answer(request, started, before)):
                return late
            jobs = jobs or await self._dispatcher.begin(request, number, before)
            result = await self._supervisor.result(attempt, jobs)
            await self._outputs.check(request, attempt.since)
        except GpuDropError as e:
            return await self._failed(attempt, started, e.info)
        except Exception:
            # A defect ends the attempt like any failure, so that the run's other jobs are ended too.
            log.exception("attempt_defect", run_id=request.run_id, task=request.task_id, attempt=number)
            return await self._failed(attempt, started, DEFECT)
        await self._uploads.end(request)
        return AttemptResult(
            started,
            self._clock(),
            _job_of(attempt),
            result=result,
            usd=attempt.usd,
            marks=attempt.claims,
            alone=attempt.alone,
        )

    async def _late_answer(
        self, request: JobRequest, started: float, before: tuple[AttemptResult, ...]
    ) -> AttemptResult | None:
        """Returns the result of the attempt before, if its job was given up as lost and its answer came after that: a
        worker that has looked at its claim for the last time finishes."""
        lost = before[-1] if before else None
        if lost is None or lost.error is None or lost.error.code != JobLost.code or not lost.counts:
            return None
        answer = fitting(await self._claims.answer(request, len(before)), request.task)
        if answer is None or answer.payload is None:
            return None
        await self._outputs.check(request, lost.started)
        log.info("late_answer_taken", run_id=request.run_id, task=request.task_id, attempt=len(before))
        return AttemptResult(started, self._clock(), lost.job, result=answer)

    async def _failed(self, attempt: ActiveAttempt, started: float, error: ErrorInfo) -> AttemptResult:
        await self._uploads.end(attempt.request)
        if attempt.last:
            await self._outputs.clean(attempt.request, attempt.since)
        unserved = attempt.last is not None and store_not_served(error, attempt.request)
        if unserved and attempt.claims:
            # A store that refuses this may refuse the worker, too: another attempt would be paid for in vain.
            await self._claims.revoke(attempt.request, attempt.number)
        if attempt.claims and may_be_stored(attempt.request):
            await self._delete_task(attempt)
        return AttemptResult(
            started,
            self._clock(),
            _job_of(attempt),
            error=error,
            usd=attempt.usd,
            counts=_counts(error, attempt),
            unserved=unserved,
        )

    async def _delete_task(self, attempt: ActiveAttempt) -> None:
        request = attempt.request
        try:
            await self._claims.delete_task(request, attempt.number)
        except GpuDropError as e:
            log.info("task_left", run_id=request.run_id, code=e.info.code, error=str(e))


def _job_of(attempt: ActiveAttempt) -> JobRef | None:
    return attempt.last.submitted.job if attempt.last else None


def _counts(error: ErrorInfo, attempt: ActiveAttempt) -> bool:
    """Whether it counts as one of the attempts that a task may have."""
    if error.code == JobLost.code and attempt.last is not None:
        return attempt.last.submitted.backend.durable
    return error.code not in NOBODY_BEGAN
