"""One job of an attempt as it is followed, and what following it needs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

from gpu_dispatch.backend import JobRef, JobStatus
from gpu_dispatch.task import GpuResult
from listener.clock import Clock
from listener.dispatch.estimates import Estimates
from listener.dispatch.late_claims import LateClaims
from listener.dispatch.marks import Marks
from listener.dispatch.placing import Placing
from listener.dispatch.pool import Pool
from listener.dispatch.request import JobRequest
from listener.dispatch.sending import Sender, Sent
from listener.dispatch.uploads import Uploads
from listener.ledger.jobs import JobLedger
from listener.patience import Patience
from listener.signals import Ends

T = TypeVar("T")
P = ParamSpec("P")

ANSWER_S = 5.0
"""How often the store is asked for an answer that nothing else will tell of."""

STOP_S = 60.0
"""What may be done about jobs that are not wanted any more, at most."""

Tell = Callable[[JobRequest, int, JobRef, JobStatus], None]


@dataclass(frozen=True, slots=True)
class Means:
    """`limit_s`: the longest that a task's addresses work, and so how long it is waited for.

    `clock` gives epoch seconds, `now` seconds on a clock that never goes back, nor jumps. `tell` hears of every change:
    request, attempt, job, status.
    """

    sender: Sender
    placing: Placing
    pool: Pool
    ledger: JobLedger
    marks: Marks
    late: LateClaims
    uploads: Uploads
    estimates: Estimates
    ends: Ends
    clock: Clock
    now: Callable[[], float]
    rng: random.Random
    patience: Patience
    tell: Tell
    limit_s: float

    async def patiently(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.patience.patiently(work, *args, **kwargs)


@dataclass(slots=True)
class Leg:
    """Times are `Means.now`: `since` it counts as sent, `followed` by this process, `running` first seen at work.

    `begun`: it holds the claim, whatever its endpoint says of it. `silent`: its endpoint told nothing of it when it was
    last asked, or nothing to be believed. `asked`: when the store was last asked for its answer.
    """

    sent: Sent
    following: asyncio.Task[JobStatus]
    since: float
    followed: float
    running: float | None = None
    asked: float = 0.0
    over: bool = False
    begun: bool = False
    silent: bool = False


async def left_answer(means: Means, request: JobRequest, attempt: int, sent: Sent) -> GpuResult | None:
    """What a worker left in the store; it says itself how long it worked, which was no longer than the job is known."""
    answer = await means.patiently(means.marks.answer, request, attempt)
    known_ms = round(1000 * max(0.0, means.clock.age_s(sent.row.intended)))
    return replace(answer, execution_ms=min(answer.execution_ms, known_ms)) if answer else None


async def from_the_store(means: Means, request: JobRequest, attempt: int, sent: Sent) -> JobStatus:
    """Waits for the answer a worker leaves, for as long as it takes."""
    while True:
        answer = await left_answer(means, request, attempt, sent)
        if answer:
            return status_of(answer)
        await asyncio.sleep(ANSWER_S)


def status_of(answer: GpuResult) -> JobStatus:
    return JobStatus("completed" if answer.payload else "failed", result=answer)
