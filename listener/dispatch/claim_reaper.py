"""Removes claims, answers and tasks from the store once nobody needs them, and jobs' rows much later."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from listener.dispatch.claims import FOLDER, ClaimStore, may_be_stored, object_key
from listener.dispatch.request import JobRequest
from listener.ledger.jobs import KEEP_S, JobLedger
from listener.stores.base import ObjectMeta, Store
from manifests.errors import GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")
_sweeps: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sweeping")

LATE_S = 600.0
"""Seconds that a claim stays after its attempt: a queue gives a job to another worker when it has heard nothing of the
first for a few minutes."""

LATE_EVERY_S = 15.0
SWEEP_EVERY_S = 6 * 3600.0
_SPARE_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Due:
    """A claim to delete. Names only: a request may hold megabytes of captions."""

    at: float
    bucket: str
    task_id: str
    attempt: int


class ClaimReaper:
    """Removes what attempts leave in the store, each part when it has served. `sweep_claims` removes what a crash makes
    it forget, and what failed attempts leave: their jobs may still turn up, and an answer may come late. `now` is a
    monotonic clock."""

    def __init__(self, store: Store, claims: ClaimStore, *, now: Callable[[], float]) -> None:
        self._store = store
        self._claims = claims
        self._now = now
        self._due: deque[_Due] = deque()

    async def retire(self, request: JobRequest, attempt: int, *, alone: bool) -> bool:
        """Withdraws the claim and deletes the task of an attempt whose outcome is recorded; the answer stays.

        The claim stays for a while, withdrawn: a provider may run a finished job again. The answer stays for a run that
        starts over when the provider has forgotten its own. For `alone` see `AttemptResult`. False: the job may still
        hold the claim, and would work again but for the answer.
        """
        try:
            await self._claims.withdraw(request.bucket, request.task_id, attempt)
            if may_be_stored(request):
                await self._claims.delete_task(request, attempt)
        except GpuDropError as e:
            # The sweep removes it later.
            log.info("marks_left", run_id=request.run_id, code=e.info.code, error=str(e))
            return False
        if alone:
            self._due.append(_Due(self._now() + LATE_S, request.bucket, request.task_id, attempt))
        return True

    async def delete_answer(self, bucket: str, task_id: str, attempt: int, *, claimed: bool) -> None:
        """Deletes an answer whose run has ended. A claim that its job still holds (`claimed`) is withdrawn first: until
        then only the answer keeps that job from working again."""
        try:
            if claimed:
                await self._claims.withdraw(bucket, task_id, attempt)
            await self._store.delete(bucket, object_key(task_id, attempt, "answer"))
        except GpuDropError as e:
            log.info("answer_left", task=task_id, code=e.info.code, error=str(e))

    async def run(self) -> None:
        """Deletes the claims of finished attempts, each after LATE_S, until cancelled."""
        while True:
            await asyncio.sleep(LATE_EVERY_S)
            while self._due and self._due[0].at <= self._now():
                due = self._due.popleft()
                try:
                    await self._store.delete(due.bucket, object_key(due.task_id, due.attempt, "claim"))
                except GpuDropError as e:
                    log.info("claim_left", task=due.task_id, code=e.info.code, error=str(e))


async def sweep_claims(store: Store, jobs: JobLedger, *, link_s: float, clock: Callable[[], float]) -> None:
    """Removes what no job needs and no worker's link reaches, at once and then every few hours, until cancelled.
    `link_s`: how long links work."""
    while True:
        try:
            await jobs.abandon(clock() - link_s)
            await jobs.forget(clock() - KEEP_S)
            # However old: after a long downtime of ours they are all that is left of paid work.
            wanted = frozenset(row.task_id for row in await jobs.open_rows())
            for bucket in await store.find_buckets():
                await _sweep(store, bucket, clock() - link_s - _SPARE_S, wanted)
        except GpuDropError as e:
            _sweeps.warning("marks_not_swept", code=e.info.code, error=str(e), hint=e.info.hint)
        await asyncio.sleep(SWEEP_EVERY_S)


async def _sweep(store: Store, bucket: str, before: float, wanted: frozenset[str]) -> None:
    """Removes what is older than `before` (epoch seconds), but for claims and answers of the tasks in `wanted`."""
    removed = 0
    async for item in store.list(bucket, FOLDER):
        if not isinstance(item, ObjectMeta) or item.last_modified.timestamp() >= before:
            continue
        if item.key.removeprefix(FOLDER).partition("/")[0] not in wanted:
            await store.delete(bucket, item.key)
            removed += 1
    if removed:
        _sweeps.info("marks_swept", bucket=bucket, objects=removed)
