"""What an attempt leaves in the run's bucket while it goes on: who claimed it, and the worker's answer.

.gpudrop/jobs/TASK/ATTEMPT.claim    written by the first job that begins, or by us: then no job begins any more
.gpudrop/jobs/TASK/ATTEMPT.answer   the worker's result, there also when the endpoint has lost or forgotten it
.gpudrop/jobs/TASK/ATTEMPT.task     a task too large for an endpoint's request
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import structlog
from pydantic_core import to_json

from gpu_dispatch.claims import MAX_BYTES, Claim, claim_bytes, claim_from_bytes, withdrawal
from gpu_dispatch.task import ClaimUrls, GpuResult
from listener.dispatch.request import JobRequest
from listener.dispatch.results import read_result
from listener.process_pool import ProcessPool
from listener.store import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

FOLDER = ".gpudrop/jobs/"

MAX_ANSWER = 128 * 2**20
_TYPE = "application/json"


class Marks:
    """`link_s`: how long the workers' addresses work; `clock` gives epoch seconds. `pool` reads large answers."""

    def __init__(self, store: Store, pool: ProcessPool, *, link_s: int, clock: Callable[[], float]) -> None:
        self._store = store
        self._pool = pool
        self._link_s = link_s
        self._clock = clock

    async def claim_urls(self, request: JobRequest, attempt: int) -> ClaimUrls:
        key = _key(request.task_id, attempt, "claim")
        return ClaimUrls(await self._sign("PUT", request.bucket, key), await self._sign("GET", request.bucket, key))

    async def answer_urls(self, request: JobRequest, attempt: int) -> tuple[str, str]:
        """Where the worker leaves its answer, and where it finds one that is there."""
        key = _key(request.task_id, attempt, "answer")
        return await self._sign("PUT", request.bucket, key), await self._sign("GET", request.bucket, key)

    async def keep_task(self, request: JobRequest, attempt: int, wire: Any) -> str:
        """Where a worker finds the task `wire`, which was too large to be sent."""
        key = _key(request.task_id, attempt, "task")
        await self._store.put(request.bucket, key, to_json(wire), content_type=_TYPE)
        return await self._sign("GET", request.bucket, key)

    async def claim(self, request: JobRequest, attempt: int) -> Claim | None:
        """Whose the attempt is; None while nobody has begun, and when it is ours."""
        key = _key(request.task_id, attempt, "claim")
        data = await self._store.read(request.bucket, key, max_bytes=MAX_BYTES)
        claim = claim_from_bytes(data) if data else None
        return None if claim and claim.withdrawn else claim

    async def revoke(self, request: JobRequest, attempt: int) -> None:
        """No job of this attempt begins after this, and one that works notices and stops."""
        await self.withdraw(request.bucket, request.task_id, attempt)

    async def withdraw(self, bucket: str, task_id: str, attempt: int) -> None:
        """As `revoke`, for who has no request any more."""
        await self._store.put(bucket, _key(task_id, attempt, "claim"), self._ours(task_id), content_type=_TYPE)

    async def settle(self, request: JobRequest, attempt: int) -> Claim | None:
        """Whose the attempt is, once and for all: when nobody has begun, it is revoked and nobody will (None)."""
        key = _key(request.task_id, attempt, "claim")
        if await self._store.create(request.bucket, key, self._ours(request.task_id), content_type=_TYPE):
            return None
        return await self.claim(request, attempt)

    async def answer(self, request: JobRequest, attempt: int) -> GpuResult | None:
        """What the worker left; None while it has left nothing, or nothing about this task."""
        key = _key(request.task_id, attempt, "answer")
        data = await self._store.read(request.bucket, key, max_bytes=MAX_ANSWER)
        result = await read_result(data, self._pool) if data else None
        if result and result.task_id != request.task_id:
            log.warning("answer_not_believed", run_id=request.run_id, key=key, task=result.task_id[:200])
            return None
        return result

    async def clear(self, request: JobRequest, attempt: int, *, task: bool) -> None:
        """For an attempt whose outcome is on record. `task`: it may have kept its task here.

        The claim stays, withdrawn: a provider may yet run a job again that is long done. So does the answer: a run told
        from the top asks for it, when the provider has forgotten its own.
        """
        await self.revoke(request, attempt)
        if task:
            await self._store.delete(request.bucket, _key(request.task_id, attempt, "task"))

    async def drop(self, bucket: str, task_id: str, attempt: int, what: Literal["claim", "answer"]) -> None:
        await self._store.delete(bucket, _key(task_id, attempt, what))

    def _ours(self, task_id: str) -> bytes:
        return claim_bytes(withdrawal(task_id, self._clock()))

    async def _sign(self, method: Literal["GET", "PUT"], bucket: str, key: str) -> str:
        return await self._store.sign(method, bucket, key, expires_s=self._link_s, content_type=_TYPE)


def _key(task_id: str, attempt: int, what: str) -> str:
    return f"{FOLDER}{task_id}/{attempt}.{what}"
