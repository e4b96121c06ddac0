"""Checks jobs against the clock: queued for too long, working for too long, or finished long since without a report."""

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

CHECK_INTERVAL_S = 10.0
_LEAST_S = 0.5

DUE_S = 60.0
"""Seconds between two reads of the store for the answer of a job that should be done by now, or of which its endpoint
says nothing: it may never do."""

OVERDUE_S = 300.0
"""Seconds after its deadline until a silent job is given up. A worker ends an overdue task itself."""


class JobWatchdog:
    """Checks the jobs of an attempt from time to time: takes one back, reads the store, or sends a second one."""

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
        """Returns the seconds until the next check is needed."""
        specs = [job.spec for job in jobs if job.running is None]
        limits = [limit for spec in specs if spec for limit in (spec.max_queue_s, spec.hedge_after_s) if limit]
        return max(_LEAST_S, min([CHECK_INTERVAL_S, *limits]))

    async def check(self, attempt: ActiveAttempt, job: TrackedJob) -> SubmittedJob | None:
        """Checks a job; returns a second one for the attempt, if one was sent or found. Raises TaskTimedOut and
        QueuedTooLong when nothing is to be expected of this job."""
        now = self._tracker.now()
        if job.silent and job.claims and now - job.asked > DUE_S:
            await self._tracker.ask_store(attempt, job)
        queue_s, age_s = self._deadlines.queue_s(job.spec, attempt.number), now - job.since
        heard = now - job.tracked > DUE_S
        if age_s > self._deadlines.link_lifetime_s(queue_s) and heard:
            await self._too_late(attempt, job, age_s)
        elif job.running is None:
            if age_s > queue_s and heard:
                await self._too_late_to_begin(attempt, job, age_s)
            return await self._queued(attempt, job, age_s)
        else:
            await self._working(attempt, job, now)
        return None

    async def _too_late(self, attempt: ActiveAttempt, job: TrackedJob, age_s: float) -> None:
        """Gives up a job whose links have expired, unless it left an answer; one that has not begun is sent again with
        new links. One that ended while no listener ran has had a minute to be reported."""
        if await self._tracker.take_answer(attempt, job):
            return
        if job.running is None and not job.holds_claim and await self._tracker.take_back(attempt, job):
            raise not_taken(job.endpoint, age_s)
        raise not_finished(age_s)

    async def _too_late_to_begin(self, attempt: ActiveAttempt, job: TrackedJob, age_s: float) -> None:
        """Takes back a job whose links may expire before its work would end: it is sent again with new ones."""
        if job.submitted.backend.durable and not job.holds_claim and await self._tracker.take_back(attempt, job):
            raise not_taken(job.endpoint, age_s)

    async def _queued(self, attempt: ActiveAttempt, job: TrackedJob, age_s: float) -> SubmittedJob | None:
        if job.holds_claim or not job.submitted.backend.durable:
            return None
        used = frozenset(each.spec.name for each in attempt.jobs.values() if each.spec)
        if job.spec and self._pool.serves(job.spec.name) and _may_stay_queued(job.spec, attempt.number, age_s):
            due = job.spec.hedge_after_s is not None and age_s > job.spec.hedge_after_s
            return await self._second(attempt, job, used) if due and len(attempt.jobs) == 1 else None
        if not await self._scheduler.has_room(attempt.request, used):
            return None
        if await self._tracker.take_back(attempt, job):
            raise not_taken(job.endpoint, age_s)
        if job.holds_claim and not any(each.running for each in attempt.jobs.values()):
            # A job without a record holds the claim: it was sent beside this one, and the answer never came.
            return await self._recovery.claimed(attempt.request, attempt.number)
        return None

    async def _second(self, attempt: ActiveAttempt, job: TrackedJob, used: frozenset[str]) -> SubmittedJob | None:
        """Sends a second job, once for an attempt: if its answer were lost, more would be queued without end."""
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


def _may_stay_queued(spec: EndpointSpec, attempt: int, age_s: float) -> bool:
    """Whether a job may stay queued: longer with each attempt, because where all endpoints are busy, moving on costs
    the position in every queue."""
    return spec.max_queue_s is None or age_s < doubled(spec.max_queue_s, attempt)
