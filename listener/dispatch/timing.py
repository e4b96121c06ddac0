"""What the clock says of a job: queued for too long, at work for too long, or done long since without a word."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from gpu_dispatch.backend import JobStatus
from gpu_dispatch.endpoints import EndpointSpec
from listener.dispatch.legs import STOP_S, Leg, Means, left_answer, status_of
from listener.dispatch.lives import life_seconds, queue_seconds
from listener.dispatch.request import JobRequest
from listener.dispatch.sending import Sent
from manifests.errors import GpuDropError, QueuedTooLong, TaskTimedOut

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

LOOK_S = 10.0
_LEAST_S = 0.5

DUE_S = 60.0
"""The store is asked for the answer of a job this often that should be done by now, or of which its endpoint tells
nothing: it may never tell."""

OVERDUE_S = 300.0
"""A worker ends an overdue task itself. One that is silent for so much longer is given up."""


_DOUBLED = 10


class Timing:
    """`hedged`: a second job was sent, or may have been."""

    def __init__(self, means: Means, request: JobRequest, attempt: int) -> None:
        self._means = means
        self._request = request
        self._attempt = attempt
        self.hedged = False

    def gap(self, legs: Sequence[Leg]) -> float:
        """How long nobody needs to look, in seconds."""
        specs = [self._means.pool.spec_of(leg.sent.backend) for leg in legs if leg.running is None]
        limits = [limit for spec in specs if spec for limit in (spec.max_queue_s, spec.hedge_after_s) if limit]
        return max(_LEAST_S, min([LOOK_S, *limits]))

    async def look(self, leg: Leg, legs: Sequence[Leg]) -> Sent | None:
        """A second job for the attempt, if there is to be one, or has been. `legs` are all of the attempt's.

        Raises TaskTimedOut and QueuedTooLong, when nothing is to be hoped for from this job.
        """
        now = self._means.now()
        if leg.silent and leg.sent.backend.claims and now - leg.asked > DUE_S:
            await self._ask_the_store(leg, now)
        timeout_s = self._means.placing.timeout_s
        spec = self._means.pool.spec_of(leg.sent.backend)
        queue_s = queue_seconds(spec, self._attempt, timeout_s, self._means.limit_s)
        if now - leg.since > life_seconds(queue_s, timeout_s) and now - leg.followed > DUE_S:
            await self._too_late(leg, now - leg.since)
        elif leg.running is None:
            if now - leg.since > queue_s and now - leg.followed > DUE_S:
                await self._too_late_to_begin(leg, now - leg.since)
            return await self._queued(leg, now - leg.since, legs)
        else:
            await self._working(leg, now)
        return None

    async def _ask_the_store(self, leg: Leg, now: float) -> None:
        """How a job stands of which its endpoint tells nothing."""
        leg.asked = now
        if await self._answered(leg) or leg.begun:
            return
        claim = await self._means.patiently(self._means.marks.claim, self._request, self._attempt)
        if claim and claim.job_id == leg.sent.job.job_id:
            leg.begun, leg.running = True, leg.running or now

    async def _too_late(self, leg: Leg, for_s: float) -> None:
        """The task's addresses work no more. A job that has not begun by now is sent again with new ones.

        One that ended while nobody listened has had a minute to be heard of.
        """
        if await self._answered(leg):
            return
        if leg.running is None and not leg.begun and await self._taken_back(leg):
            raise _nobody(leg, for_s)
        raise _too_long(for_s)

    async def _too_late_to_begin(self, leg: Leg, for_s: float) -> None:
        """The task's addresses may end before its work would: it is sent again with new ones."""
        if leg.sent.backend.durable and not leg.begun and await self._taken_back(leg):
            raise _nobody(leg, for_s)

    async def _queued(self, leg: Leg, for_s: float, legs: Sequence[Leg]) -> Sent | None:
        pool, spec = self._means.pool, self._means.pool.spec_of(leg.sent.backend)
        if leg.begun or not leg.sent.backend.durable:
            return None
        used = frozenset(place.name for each in legs if (place := pool.spec_of(each.sent.backend)))
        if spec and pool.serves(spec.name) and self._patient(spec, for_s):
            due = spec.hedge_after_s is not None and for_s > spec.hedge_after_s
            return await self._second(leg, used) if due and len(legs) == 1 else None
        if not await self._means.placing.elsewhere(self._request, used):
            return None
        if await self._taken_back(leg):
            raise _nobody(leg, for_s)
        if leg.begun and not any(each.running for each in legs):
            # A job that holds the claim and is on no record: sent beside this one, and its answer never came.
            return await self._means.sender.claimed(self._request, self._attempt)
        return None

    def _patient(self, spec: EndpointSpec, for_s: float) -> bool:
        """Ever more so: where all endpoints are busy, moving on costs the place in every queue."""
        if spec.max_queue_s is None:
            return True
        return for_s < spec.max_queue_s * 2.0 ** min(self._attempt - 1, _DOUBLED)

    async def _taken_back(self, leg: Leg) -> bool:
        """Whether it is certain that nobody will do any work for this job."""
        if leg.sent.backend.claims:
            claim = await self._means.patiently(self._means.marks.settle, self._request, self._attempt)
            leg.begun = claim is not None
            if claim and claim.job_id == leg.sent.job.job_id:
                leg.running = leg.running or self._means.now()
            return claim is None
        try:
            async with asyncio.timeout(STOP_S):
                if (await leg.sent.backend.status(leg.sent.job)).state != "queued":
                    return False
                await leg.sent.backend.cancel(leg.sent.job)
                return (await leg.sent.backend.status(leg.sent.job)).state in ("cancelled", "lost")
        except (TimeoutError, GpuDropError) as e:
            log.warning("job_not_taken_back", endpoint=leg.sent.row.endpoint, job=leg.sent.job.job_id, error=str(e))
            return False

    async def _second(self, leg: Leg, used: frozenset[str]) -> Sent | None:
        """Once for an attempt: should its answer be lost, more of them would be queued without end."""
        known = used | self._means.pool.unclaimed
        if self.hedged or not leg.sent.backend.claims or not await self._means.placing.elsewhere(self._request, known):
            return None
        self.hedged = True
        try:
            return await self._means.sender.second(self._request, self._attempt, used)
        except GpuDropError as e:
            log.info("no_second_job", run_id=self._request.run_id, code=e.info.code, error=str(e))
            return None

    async def _working(self, leg: Leg, now: float) -> None:
        row, began = leg.sent.row, leg.running or now
        if leg.sent.backend.durable and now - began > self._means.placing.timeout_s + OVERDUE_S:
            if await self._answered(leg):
                return
            raise _too_long(now - began)
        expected_s = row.estimate_usd / row.usd_per_s if row.usd_per_s else 0.0
        due = now - began > max(DUE_S, 2.0 * expected_s) and now - leg.asked > DUE_S
        if due:
            leg.asked = now
            await self._answered(leg)

    async def _answered(self, leg: Leg) -> bool:
        """Whether the worker has left its answer in the store: that one is taken then."""
        if not leg.sent.backend.claims:
            return False
        answer = await left_answer(self._means, self._request, self._attempt, leg.sent)
        if answer:
            leg.following.cancel()
            leg.following = asyncio.create_task(_known(status_of(answer)))
        return answer is not None


async def _known(status: JobStatus) -> JobStatus:
    return status


def _nobody(leg: Leg, for_s: float) -> QueuedTooLong:
    return QueuedTooLong(
        f"No worker of {leg.sent.row.endpoint} took the job in {for_s:.0f} s.",
        hint="It goes to another endpoint by itself.",
    )


def _too_long(for_s: float) -> TaskTimedOut:
    return TaskTimedOut(
        f"The job was not finished after {for_s:.0f} s and was cancelled.",
        hint="Use a shorter input, a smaller model or a faster GPU, or raise task_timeout in config.yaml.",
    )
