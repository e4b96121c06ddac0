"""One GPU job of a run: tried until it succeeds or may not be tried again, with every attempt on record."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gpu_dispatch.backend import JobRef
from gpu_dispatch.backoff import Backoff
from gpu_dispatch.task import GpuResult
from handlers.base import Plan
from listener.dispatch.request import AttemptResult, JobRequest
from listener.ledger.runs import RunLedger
from listener.outages import OutageRetry
from listener.run_request import RunRequest
from listener.runs.steps import Steps
from listener.signals import Cancellations
from manifests.errors import ErrorInfo

MAX_UNCOUNTED = 10
"""Attempts whose process went away do not count, this often."""

MAX_UNSERVED = 5
"""Attempts that failed because the store did not serve their worker do not count, this often: each may be paid for."""

BACKOFF = Backoff(base_s=2.0, cap_s=120.0)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try of a task. `error` is None when it succeeded. Times are epoch seconds, `usd` what it cost.

    `answered`: its worker may have left an answer in the store. `claimed`: its claim could not be withdrawn.
    """

    task_id: str
    number: int
    job: JobRef | None
    error: ErrorInfo | None
    started: float
    ended: float
    usd: float = 0.0
    answered: bool = False
    claimed: bool = False


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What came of a job in the end: a result with a payload, or the last attempt's error."""

    result: GpuResult | None
    attempts: tuple[AttemptRecord, ...]

    @property
    def error(self) -> ErrorInfo | None:
        return self.attempts[-1].error if self.result is None else None

    @property
    def usd(self) -> float:
        return sum(attempt.usd for attempt in self.attempts)


def job_requests(run: RunRequest, operation: str, plan: Plan) -> list[JobRequest]:
    """One for each task of `plan`."""
    trigger = run.trigger
    return [
        JobRequest(
            run_id=run.run_id,
            bucket=run.bucket,
            key=run.key,
            index=index,
            count=len(plan.tasks),
            task=task,
            max_attempts=trigger.max_attempts,
            trigger=trigger.name,
            operation=operation,
            give_up=run.received + trigger.max_event_age_s,
            received=run.received,
            day_usd=trigger.budget_per_day,
        )
        for index, task in enumerate(plan.tasks)
    ]


class TaskAttempts(Protocol):
    """What a run asks of dispatch; `listener.dispatch.attempts.Attempts` is it."""

    async def execute(self, request: JobRequest, number: int, before: tuple[AttemptResult, ...]) -> AttemptResult: ...


class EndedAttempts(Protocol):
    """What becomes of claims and answers afterwards; `listener.dispatch.claim_reaper.ClaimReaper` sees to it."""

    async def retire(self, request: JobRequest, attempt: int, *, alone: bool) -> bool: ...

    async def delete_answer(self, bucket: str, task_id: str, attempt: int, *, claimed: bool) -> None: ...


class JobRunner:
    def __init__(
        self,
        attempts: TaskAttempts,
        reaper: EndedAttempts,
        cancellations: Cancellations,
        runs: RunLedger,
        outages: OutageRetry,
    ) -> None:
        self._attempts = attempts
        self._reaper = reaper
        self._cancellations = cancellations
        self._runs = runs
        self._outages = outages

    async def run(self, request: JobRequest, steps: Steps) -> JobOutcome:
        """Never raises for the job's own failure: the outcome tells."""
        tries: tuple[AttemptResult, ...] = ()
        claimed: frozenset[int] = frozenset()
        while True:
            number = len(tries) + 1
            tried = await self._try(request, number, tries, steps)
            tries = (*tries, tried)
            if tried.marks and not await self._reaper.retire(request, number, alone=tried.alone):
                claimed |= {number}
            if tried.result is not None:
                return _outcome(request, tries, claimed)
            if (
                tried.error is None
                or not (tried.error.retryable or tried.unserved)
                or counted(tries, request.give_up) >= request.max_attempts
            ):
                if request.count > 1:
                    await self._end_others(request)
                return _outcome(request, tries, claimed)
            if tried.counts:
                await steps.pause(backoff(request.task_id, number))

    async def forget(self, bucket: str, attempts: Sequence[AttemptRecord]) -> None:
        """The run that needed these has ended. What cannot be removed now is swept later."""
        for attempt in attempts:
            if attempt.answered:
                await self._reaper.delete_answer(bucket, attempt.task_id, attempt.number, claimed=attempt.claimed)

    async def _end_others(self, request: JobRequest) -> None:
        """Without this job's part the run fails: what the others still cost would be for nothing.

        On record, since other listeners may tell them, and later lives.
        """
        await self._outages.retry(self._runs.request_end, request.run_id, "incomplete")
        self._cancellations.request(request.run_id, "incomplete")

    async def _try(
        self, request: JobRequest, number: int, before: tuple[AttemptResult, ...], steps: Steps
    ) -> AttemptResult:
        return await steps.once(
            f"attempt {number}", AttemptResult, lambda: self._attempts.execute(request, number, before)
        )


def counted(tries: tuple[AttemptResult, ...], give_up: float) -> int:
    """How many of the attempts a task may have are gone.

    One that no worker began cost nothing, and is none before `give_up` (epoch seconds): an endpoint may be away for
    hours. One whose process went away is none `MAX_UNCOUNTED` times: it may be the task that ends it. Nor is one
    that the store did not serve, `MAX_UNSERVED` times.
    """
    waited = sum(tried.nobody_began and tried.at < give_up for tried in tries)
    broken_off = sum(not tried.counts and not tried.nobody_began for tried in tries)
    unserved = sum(tried.unserved for tried in tries)
    return len(tries) - waited - min(broken_off, MAX_UNCOUNTED) - min(unserved, MAX_UNSERVED)


def backoff(task_id: str, attempt: int) -> float:
    """Full jitter, drawn from the task's own name: the same after a crash, different between jobs."""
    return BACKOFF.delay(attempt, random.Random(f"{task_id} {attempt}"))  # noqa: S311 - jitter


def _outcome(request: JobRequest, tries: tuple[AttemptResult, ...], claimed: frozenset[int]) -> JobOutcome:
    """`claimed`: numbers of attempts whose claim could not be withdrawn."""
    attempts = tuple(
        AttemptRecord(
            request.task_id, i, tried.job, tried.error, tried.started, tried.at, tried.usd, tried.marks, i in claimed
        )
        for i, tried in enumerate(tries, start=1)
    )
    return JobOutcome(tries[-1].result, attempts)
