"""One attempt at a task, from a place to run it to its result; the same attempt again goes on where it was.

An attempt is a claim in the store, and every job that is sent for it carries that claim: the first to begin works, any
other ends at once. Before each request a row is written. What a row without a job's id stands for (a crash, or an
answer that never came) is settled through the claim: its job has begun, and is followed; or the claim is taken from it,
and it never will.
"""

from __future__ import annotations

import structlog

from gpu_dispatch.backend import JobRef
from gpu_dispatch.task import CaptionParams
from listener.defects import DEFECT
from listener.dispatch.course import Course
from listener.dispatch.legs import Means
from listener.dispatch.request import NOBODY_BEGAN, JobRequest, Tried, not_served
from listener.dispatch.sending import Sent
from manifests.errors import ErrorInfo, GpuDropError, JobLost, SubmitUnknown

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")


class Attempts:
    def __init__(self, means: Means) -> None:
        self._means = means

    async def carry_out(self, request: JobRequest, attempt: int, before: tuple[Tried, ...]) -> Tried:
        """Attempt number `attempt`, after those that failed `before`. Never raises for the attempt's own failure."""
        started = self._means.clock()
        course = Course(self._means, request, attempt)
        try:
            for sent in await self._begun(request, attempt, before):
                course.add(sent)
            result = await course.result()
        except GpuDropError as e:
            return await self._failed(course, started, e.info)
        except Exception:
            # The supervisor of an attempt: a defect ends it, and the other jobs of its run hear of it.
            log.exception("attempt_defect", run_id=request.run_id, task=request.task_id, attempt=attempt)
            return await self._failed(course, started, DEFECT)
        await self._means.uploads.end(request)
        at = self._means.clock()
        return Tried(
            started, at, course.last, result=result, usd=course.usd, marks=course.claims, alone=course.alone
        )  # fmt: skip

    async def forget(self, request: JobRequest, attempt: int, *, alone: bool) -> bool:
        """Its outcome is on record: its answer alone stays in the store. For `alone` see `Tried`.

        False: its job still holds the claim, and would work again but for the answer.
        """
        try:
            await self._means.marks.clear(request, attempt, task=isinstance(request.task.params, CaptionParams))
        except GpuDropError as e:
            # The sweep finds it.
            log.info("marks_left", run_id=request.run_id, code=e.info.code, error=str(e))
            return False
        if alone:
            self._means.late.add(request, attempt)
        return True

    async def drop_answer(self, bucket: str, task_id: str, attempt: int, *, claimed: bool) -> None:
        """The run has ended: nobody asks any more. `claimed`: but a job that still holds its claim, until that is
        withdrawn."""
        try:
            if claimed:
                await self._means.marks.withdraw(bucket, task_id, attempt)
            await self._means.marks.drop(bucket, task_id, attempt, "answer")
        except GpuDropError as e:
            log.info("answer_left", task=task_id, code=e.info.code, error=str(e))

    async def _begun(self, request: JobRequest, attempt: int, before: tuple[Tried, ...]) -> tuple[Sent, ...]:
        sender = self._means.sender
        # First: of a run that is to end, what was sent in an earlier life has to be cancelled.
        if known := await sender.resume(request, attempt):
            return known
        self._means.ends.check(request.run_id)
        last = before[-1] if before else None
        if last:
            await self._means.patiently(self._means.placing.admit, request)
        if last and last.job and last.error and not last.nobody_began:
            again = await sender.again(request, attempt, last.job)
            if again:
                return (again,)
        # A process that was started again is no worse a place than before.
        restarted = last and last.error and last.error.code == JobLost.code and not last.counts
        avoid = frozenset({last.job.backend} if last and last.job and not restarted else ())
        try:
            return (await sender.send(request, attempt, 1, avoid),)
        except SubmitUnknown:
            return await sender.resume(request, attempt)

    async def _failed(self, course: Course, started: float, error: ErrorInfo) -> Tried:
        await self._means.uploads.end(course.request)
        unserved = course.last is not None and not_served(error, course.request)
        if unserved and course.claims:
            # Whoever may not write this may not be served either: another attempt would be paid for in vain.
            await self._means.patiently(self._means.marks.revoke, course.request, course.attempt)
        at = self._means.clock()
        counts = self._counts(error, course)
        return Tried(started, at, course.last, error=error, usd=course.usd, counts=counts, unserved=unserved)

    def _counts(self, error: ErrorInfo, course: Course) -> bool:
        job: JobRef | None = course.last
        if error.code == JobLost.code and job is not None:
            backend = self._means.pool.backend(job.backend)
            return backend is None or backend.durable
        return error.code not in NOBODY_BEGAN
