"""Executes one GPU job of a run until it succeeds or may not be tried again, and records every attempt."""

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
"""At most so many attempts of a task do not count because their process went away."""

MAX_UNSERVED = 5
"""At most so many attempts of a task do not count because the store did not serve their worker: each may be paid for.
"""

BACKOFF = Backoff(base_s=2.0, cap_s=120.0)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt at a task."""

    task_id: str
    number: int
    job: JobRef | None
    error: ErrorInfo | None
    """None when it succeeded."""
    started: float
    """Epoch seconds."""
    ended: float
    """Epoch seconds."""
    usd: float = 0.0
    """What it cost, in US dollars."""
    answered: bool = False
    """Whether its worker may have left an answer in the store."""
    claimed: bool = False
    """Whether its claim could not be withdrawn."""


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """The outcome of a job: a result with a payload, or the last attempt's error."""

    result: GpuResult | None
    attempts: tuple[AttemptRecord, ...]

    @property
    def error(self) -> ErrorInfo | None:
        return self.attempts[-1].error if self.result is None else None

    @property
    def usd(self) -> float:
        return sum(attempt.usd for attempt in self.attempts)


def job_requests(run: RunRequest, operation: str, plan: Plan) -> list[JobRequest]:
    """Returns a request for each task of `plan`."""
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
    """Executes attempts; `listener.dispatch.attempts.Attempts` implements it."""

    async def execute(self, request: JobRequest, number: int, before: tuple[AttemptResult, ...]) -> AttemptResult: ...


class EndedAttempts(Protocol):
    """Removes claims and answers of ended attempts; `listener.dispatch.claim_reaper.ClaimReaper` implements it."""

    async def retire(self, request: JobRequest, attempt: int, *, alone: bool) -> bool: ...

    async def delete_answer(self, bucket: str, task_id: str, attempt: int, *, claimed: bool) -> None: ...


class JobRunner:
    """Executes a job, attempt by attempt."""

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
        """Executes the job. Never raises for the job's own failure: the outcome holds it."""
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
        """Removes the answers of attempts whose run has ended. What cannot be removed now is swept later."""
        for attempt in attempts:
            if attempt.answered:
                await self._reaper.delete_answer(bucket, attempt.task_id, attempt.number, claimed=attempt.claimed)

    async def _end_others(self, request: JobRequest) -> None:
        """Ends the run's other jobs: the run fails without this one, and their cost would be wasted. The request is
        recorded, since the others may execute in other listeners, or after a restart."""
        await self._outages.retry(self._runs.request_end, request.run_id, "incomplete")
        self._cancellations.request(request.run_id, "incomplete")

    async def _try(
        self, request: JobRequest, number: int, before: tuple[AttemptResult, ...], steps: Steps
    ) -> AttemptResult:
        return await steps.once(
            f"attempt {number}", AttemptResult, lambda: self._attempts.execute(request, number, before)
        )


def counted(tries: tuple[AttemptResult, ...], give_up: float) -> int:
    """Returns how many of the task's allowed attempts are used.

    One that no worker began cost nothing, and does not count before `give_up` (epoch seconds): an endpoint may be away
    for hours. One whose process went away does not count MAX_UNCOUNTED times, and no more often, because the task
    itself may end the process. One that the store did not serve does not count MAX_UNSERVED times.
    """
    waited = sum(tried.nobody_began and tried.at < give_up for tried in tries)
    broken_off = sum(not tried.counts and not tried.nobody_began for tried in tries)
    unserved = sum(tried.unserved for tried in tries)
    return len(tries) - waited - min(broken_off, MAX_UNCOUNTED) - min(unserved, MAX_UNSERVED)


def backoff(task_id: str, attempt: int) -> float:
    """Returns the seconds before the next attempt: full jitter from the task's id, the same again after a crash."""
    return BACKOFF.delay(attempt, random.Random(f"{task_id} {attempt}"))  # noqa: S311 - jitter


def _outcome(request: JobRequest, tries: tuple[AttemptResult, ...], claimed: frozenset[int]) -> JobOutcome:
    """Returns the job's outcome; `claimed`: numbers of attempts whose claim could not be withdrawn."""
    attempts = tuple(
        AttemptRecord(
            request.task_id, i, tried.job, tried.error, tried.started, tried.at, tried.usd, tried.marks, i in claimed
        )
        for i, tried in enumerate(tries, start=1)
    )
    return JobOutcome(tries[-1].result, attempts)
