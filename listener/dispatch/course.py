"""The course of one attempt: its jobs followed to the end, one of which does the work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import structlog

from gpu_dispatch.backend import JobRef, JobStatus
from gpu_dispatch.task import GpuResult
from gpu_dispatch.watch import follow
from listener.defects import DEFECT
from listener.dispatch.budgets import cost_usd
from listener.dispatch.explaining import going_on, silent, taken_away, vanished
from listener.dispatch.legs import STOP_S, Leg, Means, from_the_store, left_answer
from listener.dispatch.request import JobRequest
from listener.dispatch.results import fitting
from listener.dispatch.sending import Sent
from listener.dispatch.timing import Timing
from manifests.errors import DuplicateJob, GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

ENDING_S = 10.0
"""Longer than this program takes to end."""


@dataclass(slots=True)
class Course:
    """`usd` is what its jobs have cost so far."""

    means: Means
    request: JobRequest
    attempt: int
    usd: float = 0.0
    _legs: dict[str, Leg] = field(default_factory=dict[str, Leg])
    _trouble: GpuDropError | None = None
    _hedged: bool = False

    @property
    def last(self) -> JobRef | None:
        """The job that did the work, or was sent last."""
        return next((leg.sent.job for leg in reversed(self._legs.values())), None)

    @property
    def claims(self) -> bool:
        """Whether it has left a claim in the store, or may have."""
        return any(leg.sent.backend.claims for leg in self._legs.values())

    @property
    def alone(self) -> bool:
        """Whether one job was sent, and no other can turn up that was."""
        return len(self._legs) == 1 and not self._hedged and all(leg.sent.alone for leg in self._legs.values())

    def add(self, sent: Sent) -> None:
        """A job to follow."""
        if sent.job.job_id in self._legs:
            return
        self.means.pool.opened(sent.row.endpoint)
        following = asyncio.create_task(
            follow(
                sent.backend,
                sent.job,
                on_status=lambda status: self._heard(sent.job, status),
                rng=self.means.rng,
                on_look=lambda told: self._looked(sent.job, told),
            )
        )
        now = self.means.now()
        age_s = max(0.0, self.means.clock.age_s(sent.row.sent)) if sent.row.sent else 0.0
        self._legs[sent.job.job_id] = Leg(sent, following, since=now - age_s, followed=now)

    async def result(self) -> GpuResult:
        """What the task came to. Raises its error, and what ends the run; jobs that are not needed are cancelled.

        Cancelled itself, it leaves them as they are: they are looked for again.
        """
        timing = Timing(self.means, self.request, self.attempt)
        ended = asyncio.create_task(self.means.ends.wait(self.request.run_id))
        try:
            while True:
                waited = {ended, *(leg.following for leg in self._open())}
                await asyncio.wait(waited, timeout=timing.gap(self._open()), return_when=asyncio.FIRST_COMPLETED)
                self.means.ends.check(self.request.run_id)
                if ended.done():
                    ended = asyncio.create_task(self.means.ends.wait(self.request.run_id))
                if found := await self._whoever_finished():
                    return found
                for leg in self._open():
                    if second := await timing.look(leg, tuple(self._legs.values())):
                        self.add(second)
        except GpuDropError as e:
            left = await self._stop(e.info.code)
            if left:
                raise going_on(e, left) from e
            raise
        except Exception:
            # What a story uses may be closed in a program that is ending and could not let the story go: jobs go on.
            await asyncio.sleep(ENDING_S)
            await self._stop(DEFECT.code)
            raise
        finally:
            ended.cancel()
            self._hedged = timing.hedged
            for leg in self._legs.values():
                leg.following.cancel()
                if not leg.over:
                    self.means.pool.closed(leg.sent.row.endpoint)

    async def _whoever_finished(self) -> GpuResult | None:
        """Raises when no job is left that could bring a result."""
        for leg in [leg for leg in self._open() if leg.following.done()]:
            if found := await self._finished(leg):
                return found
        if not self._open():
            raise self._trouble or vanished()
        return None

    def _open(self) -> list[Leg]:
        return [leg for leg in self._legs.values() if not leg.over]

    def _heard(self, job: JobRef, status: JobStatus) -> None:
        leg = self._legs.get(job.job_id)
        if leg and leg.running is None and status.state == "running":
            leg.running = self.means.now()
        self.means.tell(self.request, self.attempt, job, status)

    def _looked(self, job: JobRef, told: bool) -> None:
        leg = self._legs.get(job.job_id)
        if leg:
            leg.silent = not told

    async def _finished(self, leg: Leg) -> GpuResult | None:
        """The task's result, if this job brought it."""
        try:
            status = leg.following.result()
        except GpuDropError as e:
            status = JobStatus("failed", result=GpuResult(self.request.task_id, error=e.info))
        result = fitting(await self._told(leg, status), self.request.task)
        if result and result.payload:
            await self._close(leg, "done", result)
            await self._cancel_others("taken_back")
            return replace(result, task_id=self.request.task_id)
        error = (result.error if result else None) or silent(status, leg)
        error = self.means.placing.budgets.explained(taken_away(error, leg), leg.sent.row, result)
        await self._close(leg, error.code, result)
        if error.code == DuplicateJob.code:
            await self._who_then(leg)
        else:
            self._trouble = GpuDropError.from_info(error)
            if self._open() and await self._held(leg):
                raise self._trouble
        return None

    async def _held(self, leg: Leg) -> bool:
        """Whether the claim is this job's: then no other one of the attempt will do any work."""
        if not leg.sent.backend.claims:
            return False
        claim = await self.means.patiently(self.means.marks.claim, self.request, self.attempt)
        return claim is not None and claim.job_id == leg.sent.job.job_id

    async def _told(self, leg: Leg, status: JobStatus) -> GpuResult | None:
        """What the endpoint says, or better: what the worker left in the store, should the endpoint know less."""
        result = status.result
        if result and (result.payload or (result.error and result.error.code == DuplicateJob.code)):
            return result
        if not leg.sent.backend.claims:
            return result
        answer = await left_answer(self.means, self.request, self.attempt, leg.sent)
        if answer and (answer.payload or result is None):
            return replace(answer, delay_ms=result.delay_ms if result else answer.delay_ms)
        return result

    async def _who_then(self, leg: Leg) -> None:
        """A job says that another one holds the claim: if so, that one is followed instead.

        The holder may be the same job, where the provider has run it again.
        """
        claim = await self.means.patiently(self.means.marks.claim, self.request, self.attempt)
        itself = claim is not None and claim.job_id == leg.sent.job.job_id and claim.begun < 2
        holder = None if itself else await self.means.sender.claimed(self.request, self.attempt)
        if holder is None:
            self._trouble = self._trouble or vanished()
            return
        known = self._legs.get(holder.job.job_id)
        if known is None:
            self.add(holder)
        elif known.over:
            # Its endpoint has closed the book on it, and yet it works: the store will tell.
            known.over = False
            known.running = known.running or self.means.now()
            known.following = asyncio.create_task(from_the_store(self.means, self.request, self.attempt, known.sent))
            self.means.pool.opened(known.sent.row.endpoint)

    async def _close(self, leg: Leg, outcome: str, result: GpuResult | None = None) -> None:
        row = leg.sent.row
        leg.over = True
        self.means.pool.closed(row.endpoint)
        delay_ms, execution_ms = (result.delay_ms, result.execution_ms) if result else (0, 0)
        if not execution_ms and leg.running is not None:
            # Nobody told how long it worked: as long as it was seen to.
            execution_ms = round((self.means.now() - leg.running) * 1000)
        usd = cost_usd(execution_ms, row.usd_per_s)
        self.usd += usd
        await self.means.patiently(
            self.means.ledger.ended, row.entry, outcome=outcome, delay_ms=delay_ms, execution_ms=execution_ms, usd=usd
        )
        if outcome == "done":
            self.means.estimates.learn(replace(row, outcome=outcome, execution_ms=execution_ms, state="ended"))

    async def _stop(self, outcome: str) -> list[JobRef]:
        """Nothing of the attempt goes on: whatever is still to begin finds the claim taken.

        But for jobs that claim nothing and could not be cancelled: those it gives.
        """
        left = await self._cancel_others(outcome)
        if not self.claims:
            return left
        try:
            async with asyncio.timeout(STOP_S):
                await self.means.patiently(self.means.marks.revoke, self.request, self.attempt)
        except (TimeoutError, GpuDropError) as e:
            log.warning("claim_not_revoked", run_id=self.request.run_id, error=str(e))
        return left

    async def _cancel_others(self, outcome: str) -> list[JobRef]:
        """Those of them that nothing keeps from going on."""
        left: list[JobRef] = []
        for leg in self._open():
            leg.following.cancel()
            try:
                async with asyncio.timeout(STOP_S):
                    await leg.sent.backend.cancel(leg.sent.job)
            except (TimeoutError, GpuDropError) as e:
                endpoint, job = leg.sent.row.endpoint, leg.sent.job.job_id
                log.warning("job_not_cancelled", endpoint=endpoint, job=job, error=str(e))
                if not leg.sent.backend.claims:
                    left.append(leg.sent.job)
            await self._close(leg, outcome)
        return left
