"""The jobs of one attempt while they are followed, and what is done to them: closed, cancelled, taken back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from gpu_dispatch.backend import JobRef, JobStatus, follow
from gpu_dispatch.endpoints import EndpointSpec
from gpu_dispatch.task import GpuResult
from listener.clock import Clock
from listener.dispatch.budgets import CostModel, cost_usd
from listener.dispatch.claims import ClaimStore
from listener.dispatch.endpoint_pool import EndpointPool
from listener.dispatch.outcomes import status_of
from listener.dispatch.request import JobRequest
from listener.dispatch.submission import SubmittedJob
from listener.ledger.jobs import JobLedger
from listener.outages import OutageRetry
from manifests.errors import ErrorInfo, GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

ANSWER_S = 5.0
"""Seconds between two reads of an answer that only the store can give."""

STOP_S = 60.0
"""Seconds that stopping unneeded jobs may take."""

JobObserver = Callable[[JobRequest, int, JobRef, JobStatus], None]
"""Called on every change with request, attempt, job and status."""


@dataclass(slots=True)
class TrackedJob:
    """One followed job. Times are seconds on the tracker's monotonic clock."""

    submitted: SubmittedJob
    spec: EndpointSpec | None
    """None where its endpoint is not in the configuration."""
    since: float
    """When it counts as sent."""
    tracked: float
    """Since when this process follows it."""
    watch: asyncio.Task[JobStatus] = field(init=False)
    """Ends with its last status."""
    running: float | None = None
    """When it was first seen working."""
    asked: float = 0.0
    """When the store was last read for its answer."""
    closed: bool = False
    holds_claim: bool = False
    """Whether it holds the claim, whatever its endpoint says of it."""
    silent: bool = False
    """Whether its endpoint said nothing believable of it when it was last asked."""

    @property
    def id(self) -> str:
        return self.submitted.job.job_id

    @property
    def claims(self) -> bool:
        """Whether its worker supports claims."""
        return self.submitted.backend.claims

    @property
    def endpoint(self) -> str:
        """The endpoint's name when the job was sent."""
        return self.submitted.row.endpoint


@dataclass(slots=True)
class ActiveAttempt:
    """One attempt at a task while its jobs are followed."""

    request: JobRequest
    number: int
    jobs: dict[str, TrackedJob] = field(default_factory=dict[str, TrackedJob])
    """By the provider's job id."""
    usd: float = 0.0
    """US dollars that its jobs have cost so far."""
    hedged: bool = False
    """Whether a second job was sent, or may have been."""
    error: GpuDropError | None = None
    """Error of the last job that failed."""

    @property
    def open(self) -> list[TrackedJob]:
        return [job for job in self.jobs.values() if not job.closed]

    @property
    def last(self) -> TrackedJob | None:
        """The job that did the work, or the one sent last."""
        return next(reversed(self.jobs.values()), None)

    @property
    def since(self) -> float:
        """When the first of its jobs was meant to be sent, in epoch seconds."""
        return min(job.submitted.row.intended for job in self.jobs.values())

    @property
    def claims(self) -> bool:
        """Whether it has left a claim in the store, or may have."""
        return any(job.claims for job in self.jobs.values())

    @property
    def alone(self) -> bool:
        """Whether exactly one job was sent, and no other can turn up."""
        return len(self.jobs) == 1 and not self.hedged and all(job.submitted.alone for job in self.jobs.values())


class JobTracker:
    """Follows jobs, and updates the pool, the ledger and the estimates when they end."""

    def __init__(
        self,
        pool: EndpointPool,
        ledger: JobLedger,
        claims: ClaimStore,
        costs: CostModel,
        outages: OutageRetry,
        *,
        observer: JobObserver,
        clock: Clock,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        """`clock` gives epoch seconds, `now` seconds on a monotonic clock."""
        self._pool = pool
        self._ledger = ledger
        self._claims = claims
        self._costs = costs
        self._outages = outages
        self._observer = observer
        self._clock = clock
        self._rng = rng
        self.now = now

    def track(self, attempt: ActiveAttempt, submitted: SubmittedJob) -> None:
        """Begins to follow a job, unless the attempt has it already."""
        if submitted.job.job_id in attempt.jobs:
            return
        row, now = submitted.row, self.now()
        age_s = max(0.0, self._clock.age_s(row.sent)) if row.sent else 0.0
        job = TrackedJob(submitted, self._pool.spec_of(submitted.backend), since=now - age_s, tracked=now)
        self._pool.opened(row.endpoint)
        job.watch = asyncio.create_task(
            follow(
                submitted.backend,
                submitted.job,
                on_status=lambda status: self._changed(attempt, job, status),
                rng=self._rng,
                on_poll=lambda told: self._asked(job, told),
            )
        )
        attempt.jobs[job.id] = job

    def reopen(self, attempt: ActiveAttempt, job: TrackedJob) -> None:
        """Follows a closed job again that works although its endpoint takes it for ended: the answer comes from the
        store."""
        job.closed = False
        job.running = job.running or self.now()
        job.watch = asyncio.create_task(self._wait_for_answer(attempt, job))
        self._pool.opened(job.endpoint)

    async def answer(self, attempt: ActiveAttempt, job: TrackedJob) -> GpuResult | None:
        """Returns the worker's answer in the store, with a working time of at most the time that the job is known."""
        answer = await self._claims.answer(attempt.request, attempt.number)
        known_ms = round(1000 * max(0.0, self._clock.age_s(job.submitted.row.intended)))
        return replace(answer, execution_ms=min(answer.execution_ms, known_ms)) if answer else None

    async def take_answer(self, attempt: ActiveAttempt, job: TrackedJob) -> bool:
        """Takes the worker's answer from the store as the job's status; returns whether there is one."""
        if not job.claims:
            return False
        answer = await self.answer(attempt, job)
        if answer:
            job.watch.cancel()
            job.watch = asyncio.create_task(_known(status_of(answer)))
        return answer is not None

    async def ask_store(self, attempt: ActiveAttempt, job: TrackedJob) -> None:
        """Reads the store for the state of a job of which its endpoint says nothing."""
        job.asked = self.now()
        if await self.take_answer(attempt, job) or job.holds_claim:
            return
        claim = await self._claims.holder(attempt.request, attempt.number)
        if claim and claim.job_id == job.id:
            job.holds_claim, job.running = True, job.running or job.asked

    async def take_back(self, attempt: ActiveAttempt, job: TrackedJob) -> bool:
        """Takes a job back; returns whether it is certain now that no worker will do anything for it."""
        if job.claims:
            claim = await self._claims.settle(attempt.request, attempt.number)
            job.holds_claim = claim is not None
            if claim and claim.job_id == job.id:
                job.running = job.running or self.now()
            return claim is None
        backend, ref = job.submitted.backend, job.submitted.job
        try:
            async with asyncio.timeout(STOP_S):
                if (await backend.status(ref)).state != "queued":
                    return False
                await backend.cancel(ref)
                return (await backend.status(ref)).state in ("cancelled", "lost")
        except (TimeoutError, GpuDropError) as e:
            log.warning("job_not_taken_back", endpoint=job.endpoint, job=job.id, error=str(e))
            return False

    def explained(self, error: ErrorInfo, job: TrackedJob, result: GpuResult | None) -> ErrorInfo:
        """Returns `error`, or BudgetExceeded if the job used up its budget."""
        return self._costs.budgets.explained(error, job.submitted.row, result)

    async def close(
        self, attempt: ActiveAttempt, job: TrackedJob, outcome: str, result: GpuResult | None = None
    ) -> None:
        """Records the job's end and its cost."""
        row = job.submitted.row
        job.closed = True
        self._pool.closed(row.endpoint)
        delay_ms, execution_ms = (result.delay_ms, result.execution_ms) if result else (0, 0)
        if not execution_ms and job.running is not None:
            # No working time was reported: what was seen of it counts.
            execution_ms = round((self.now() - job.running) * 1000)
        usd = cost_usd(execution_ms, row.usd_per_s)
        attempt.usd += usd
        await self._outages.retry(
            self._ledger.ended, row.entry, outcome=outcome, delay_ms=delay_ms, execution_ms=execution_ms, usd=usd
        )
        if outcome == "done":
            self._costs.estimates.learn(replace(row, outcome=outcome, execution_ms=execution_ms, state="ended"))

    async def cancel_open(self, attempt: ActiveAttempt, outcome: str) -> list[JobRef]:
        """Cancels and closes the open jobs. Returns those that nothing keeps from going on."""
        left: list[JobRef] = []
        for job in attempt.open:
            job.watch.cancel()
            try:
                async with asyncio.timeout(STOP_S):
                    await job.submitted.backend.cancel(job.submitted.job)
            except (TimeoutError, GpuDropError) as e:
                log.warning("job_not_cancelled", endpoint=job.endpoint, job=job.id, error=str(e))
                if not job.claims:
                    left.append(job.submitted.job)
            await self.close(attempt, job, outcome)
        return left

    def release(self, attempt: ActiveAttempt) -> None:
        """Stops following the attempt's jobs; open ones go on."""
        for job in attempt.jobs.values():
            job.watch.cancel()
            if not job.closed:
                self._pool.closed(job.endpoint)

    def _changed(self, attempt: ActiveAttempt, job: TrackedJob, status: JobStatus) -> None:
        if job.running is None and status.state == "running":
            job.running = self.now()
        self._observer(attempt.request, attempt.number, job.submitted.job, status)

    def _asked(self, job: TrackedJob, told: bool) -> None:
        job.silent = not told

    async def _wait_for_answer(self, attempt: ActiveAttempt, job: TrackedJob) -> JobStatus:
        """Waits for the worker's answer, for as long as it takes."""
        while True:
            if answer := await self.answer(attempt, job):
                return status_of(answer)
            await asyncio.sleep(ANSWER_S)


async def _known(status: JobStatus) -> JobStatus:
    return status
