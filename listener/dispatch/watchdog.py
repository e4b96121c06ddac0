"""What the clock says of a job: queued for too long, at work for too long, or done long since without a word."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from gpu_dispatch.endpoints import EndpointSpec
from listener.dispatch.dispatcher import Dispatcher
from listener.dispatch.endpoint_pool import EndpointPool
from listener.dispatch.limits import Deadlines, doubled
from listener.dispatch.outcomes import not_finished, not_taken
from listener.dispatch.scheduler import Scheduler
from listener.dispatch.submission import JobRecovery, SubmittedJob
from listener.dispatch.tracked_jobs import ActiveAttempt, JobTracker, TrackedJob
from manifests.errors import GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

LOOK_S = 10.0
_LEAST_S = 0.5

DUE_S = 60.0
"""The store is asked for the answer of a job this often that should be done by now, or of which its endpoint tells
nothing: it may never tell."""

OVERDUE_S = 300.0
"""A worker ends an overdue task itself. One that is silent for so much longer is given up."""


class JobWatchdog:
    """Looks at the jobs of an attempt from time to time: takes back, asks the store, or sends a second one."""

    def __init__(
        self,
        pool: EndpointPool,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        recovery: JobRecovery,
        tracker: JobTracker,
        *,
        deadlines: Deadlines,
    ) -> None:
        self._pool = pool
        self._scheduler = scheduler
        self._dispatcher = dispatcher
        self._recovery = recovery
        self._tracker = tracker
        self._deadlines = deadlines

    def pause_s(self, jobs: Sequence[TrackedJob]) -> float:
        """How long nobody needs to look, in seconds."""
        specs = [job.spec for job in jobs if job.running is None]
        limits = [limit for spec in specs if spec for limit in (spec.max_queue_s, spec.hedge_after_s) if limit]
        return max(_LEAST_S, min([LOOK_S, *limits]))

    async def look(self, attempt: ActiveAttempt, job: TrackedJob) -> SubmittedJob | None:
        """A second job for the attempt, if there is to be one, or has been.

        Raises TaskTimedOut and QueuedTooLong, when nothing is to be hoped for from this job.
        """
        now = self._tracker.now()
        if job.silent and job.claims and now - job.asked > DUE_S:
            await self._tracker.ask_store(attempt, job)
        queue_s, age_s = self._deadlines.queue_s(job.spec, attempt.number), now - job.since
        heard = now - job.tracked > DUE_S
        if age_s > self._deadlines.life_s(queue_s) and heard:
            await self._too_late(attempt, job, age_s)
        elif job.running is None:
            if age_s > queue_s and heard:
                await self._too_late_to_begin(attempt, job, age_s)
            return await self._queued(attempt, job, age_s)
        else:
            await self._working(attempt, job, now)
        return None

    async def _too_late(self, attempt: ActiveAttempt, job: TrackedJob, age_s: float) -> None:
        """The task's links work no more. A job that has not begun by now is sent again with new ones.

        One that ended while nobody listened has had a minute to be heard of.
        """
        if await self._tracker.take_answer(attempt, job):
            return
        if job.running is None and not job.holds_claim and await self._tracker.take_back(attempt, job):
            raise not_taken(job.endpoint, age_s)
        raise not_finished(age_s)

    async def _too_late_to_begin(self, attempt: ActiveAttempt, job: TrackedJob, age_s: float) -> None:
        """The task's links may end before its work would: it is sent again with new ones."""
        if job.submitted.backend.durable and not job.holds_claim and await self._tracker.take_back(attempt, job):
            raise not_taken(job.endpoint, age_s)

    async def _queued(self, attempt: ActiveAttempt, job: TrackedJob, age_s: float) -> SubmittedJob | None:
        if job.holds_claim or not job.submitted.backend.durable:
            return None
        used = frozenset(each.spec.name for each in attempt.jobs.values() if each.spec)
        if job.spec and self._pool.serves(job.spec.name) and _is_patient(job.spec, attempt.number, age_s):
            due = job.spec.hedge_after_s is not None and age_s > job.spec.hedge_after_s
            return await self._second(attempt, job, used) if due and len(attempt.jobs) == 1 else None
        if not await self._scheduler.has_room(attempt.request, used):
            return None
        if await self._tracker.take_back(attempt, job):
            raise not_taken(job.endpoint, age_s)
        if job.holds_claim and not any(each.running for each in attempt.jobs.values()):
            # A job that holds the claim and is on no record: sent beside this one, and its answer never came.
            return await self._recovery.claimed(attempt.request, attempt.number)
        return None

    async def _second(self, attempt: ActiveAttempt, job: TrackedJob, used: frozenset[str]) -> SubmittedJob | None:
        """Once for an attempt: should its answer be lost, more of them would be queued without end."""
        request = attempt.request
        if attempt.hedged or not job.claims:
            return None
        if not await self._scheduler.has_room(request, used | self._pool.unclaimed | self._scheduler.wanted):
            return None
        attempt.hedged = True
        try:
            return await self._dispatcher.second(request, attempt.number, used)
        except GpuDropError as e:
            log.info("no_second_job", run_id=request.run_id, code=e.info.code, error=str(e))
            return None

    async def _working(self, attempt: ActiveAttempt, job: TrackedJob, now: float) -> None:
        row, worked_s = job.submitted.row, now - (job.running or now)
        if job.submitted.backend.durable and worked_s > self._deadlines.work_s + OVERDUE_S:
            if await self._tracker.take_answer(attempt, job):
                return
            raise not_finished(worked_s)
        expected_s = row.estimate_usd / row.usd_per_s if row.usd_per_s else 0.0
        if worked_s > max(DUE_S, 2.0 * expected_s) and now - job.asked > DUE_S:
            job.asked = now
            await self._tracker.take_answer(attempt, job)


def _is_patient(spec: EndpointSpec, attempt: int, age_s: float) -> bool:
    """Whether a job may stay queued: ever longer, for where all endpoints are busy, moving on costs the place in every
    queue.
    """
    return spec.max_queue_s is None or age_s < doubled(spec.max_queue_s, attempt)
