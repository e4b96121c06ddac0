"""Keeps what an attempt needs in the run's bucket while it goes on: its claim, its worker's answer and its large task.

.gpudrop/jobs/TASK/ATTEMPT.claim    written by the first job that begins, or by us: then no job begins any more
.gpudrop/jobs/TASK/ATTEMPT.answer   the worker's result, there also when the endpoint has lost or forgotten it
.gpudrop/jobs/TASK/ATTEMPT.task     a task too large for an endpoint's request, sealed: it holds links

Others may write in the bucket. A claim or an answer that is not signed with the attempt's key counts as not there; such
a claim is overwritten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import structlog
from pydantic_core import to_json

from gpu_dispatch.claims import MAX_BYTES, Claim, claim_bytes, claim_from_bytes, withdrawal
from gpu_dispatch.signatures import sealed, verified
from gpu_dispatch.task import ClaimUrls, GpuResult, TranscribeParams
from listener.dispatch.link_guard import AttemptKeys
from listener.dispatch.outcomes import read_result
from listener.dispatch.request import JobRequest
from listener.outages import OutageRetry
from listener.processes.pool import ProcessPool
from listener.stores.base import JobLinks, JobObjects, Store
from manifests.errors import InputTooLarge, StoreUnavailable
from manifests.text import plain_text

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

FOLDER = ".gpudrop/jobs/"

MAX_ANSWER = 128 * 2**20 + 256
_TRIES = 8
_TYPE = "application/json"

Kind = Literal["claim", "answer", "task"]


class ClaimStore:
    """Reads and writes the claims, answers and large tasks of attempts. What an attempt cannot go on without (`holder`,
    `settle`, `revoke`, `answer`) waits while the store is away."""

    def __init__(
        self,
        store: Store,
        pool: ProcessPool,
        keys: AttemptKeys,
        outages: OutageRetry,
        *,
        clock: Callable[[], float],
    ) -> None:
        """`pool` reads large answers; `clock` gives epoch seconds."""
        self._store = store
        self._pool = pool
        self._keys = keys
        self._outages = outages
        self._clock = clock

    async def claim_urls(self, request: JobRequest, attempt: int, links: JobLinks) -> ClaimUrls:
        key = object_key(request.task_id, attempt, "claim")
        return ClaimUrls(await links.sign("PUT", request.bucket, key), await links.sign("GET", request.bucket, key))

    async def answer_urls(self, request: JobRequest, attempt: int, links: JobLinks) -> tuple[str, str]:
        """Returns where the worker leaves its answer, and where it finds one that is there."""
        key = object_key(request.task_id, attempt, "answer")
        return await links.sign("PUT", request.bucket, key), await links.sign("GET", request.bucket, key)

    async def store_task(self, request: JobRequest, attempt: int, wire: Any, links: JobLinks) -> str:
        """Stores the task `wire`, which is too large to be sent; returns where a worker finds it."""
        key = object_key(request.task_id, attempt, "task")
        data = await asyncio.to_thread(sealed, to_json(wire), await self._keys.of(request.task_id, attempt), "task")
        await self._store.put(request.bucket, key, data, content_type="application/octet-stream")
        return await links.sign("GET", request.bucket, key)

    async def delete_task(self, request: JobRequest, attempt: int) -> None:
        """Deletes the stored task, if there is one: nobody begins it after this."""
        await self._store.delete(request.bucket, object_key(request.task_id, attempt, "task"))

    async def secret(self, request: JobRequest, attempt: int) -> str:
        """Returns what the attempt's workers sign with; "" where its first job was sent before there were keys."""
        if await self._keys.is_older(request.task_id, attempt):
            return ""
        return (await self._keys.of(request.task_id, attempt)).hex()

    async def holder(self, request: JobRequest, attempt: int) -> Claim | None:
        """Returns the claim of the job that holds the attempt; None while no job has begun, and when it is ours."""
        claim = await self._outages.retry(self._claim, request, attempt)
        return None if claim and claim.withdrawn else claim

    async def settle(self, request: JobRequest, attempt: int) -> Claim | None:
        """Decides for good who holds the attempt: returns a job's claim; None: no job has begun, and none will."""
        return await self._outages.retry(self._settle, request, attempt)

    async def revoke(self, request: JobRequest, attempt: int) -> None:
        """Takes the claim: no job of the attempt begins after this, and one that works notices and stops."""
        await self._outages.retry(self.withdraw, request.bucket, request.task_id, attempt)

    async def answer(self, request: JobRequest, attempt: int) -> GpuResult | None:
        """Returns the worker's answer; None while there is none, or none about this task."""
        return await self._outages.retry(self._answer, request, attempt)

    async def withdraw(self, bucket: str, task_id: str, attempt: int) -> None:
        """Does what `revoke` does, but tries once and needs no request."""
        key, ours = object_key(task_id, attempt, "claim"), await self._ours(task_id, attempt)
        await self._store.put(bucket, key, ours, content_type=_TYPE)

    async def _ours(self, task_id: str, attempt: int) -> bytes:
        return claim_bytes(withdrawal(task_id, self._clock()), await self._keys.of(task_id, attempt))

    async def _settle(self, request: JobRequest, attempt: int) -> Claim | None:
        key, ours = object_key(request.task_id, attempt, "claim"), await self._ours(request.task_id, attempt)
        for _ in range(_TRIES):
            if await self._store.create(request.bucket, key, ours, content_type=_TYPE):
                return None
            there = await self._store.head(request.bucket, key)
            claim = await self._claim(request, attempt)
            if claim is not None:
                return None if claim.withdrawn else claim
            if there is None:
                continue
            # It is no valid claim, and a worker would overwrite it: so do we, unless one has.
            log.warning("claim_not_believed", run_id=request.run_id, key=key)
            etag = there.etag
            if await self._store.replace(request.bucket, key, ours, content_type=_TYPE, expected=etag) is not None:
                return None
        raise StoreUnavailable(f"{key!r} changes all the time.", hint="See who else writes there.", where=key)

    async def _answer(self, request: JobRequest, attempt: int) -> GpuResult | None:
        key = object_key(request.task_id, attempt, "answer")
        data = await self._read(request, key, MAX_ANSWER)
        if not data:
            return None
        vouched = await asyncio.to_thread(verified, data, await self._keys.of(request.task_id, attempt), "answer")
        if vouched is None and await self._keys.is_older(request.task_id, attempt):
            vouched = data
        if vouched is None:
            log.warning("answer_not_believed", run_id=request.run_id, key=key)
            return None
        result = await read_result(vouched, self._pool)
        if result and result.task_id != request.task_id:
            log.warning("answer_not_believed", run_id=request.run_id, key=key, task=plain_text(result.task_id, 200))
            return None
        return result

    async def _claim(self, request: JobRequest, attempt: int) -> Claim | None:
        """Returns the claim, ours included; None: there is none, or none that is believed."""
        data = await self._read(request, object_key(request.task_id, attempt, "claim"), MAX_BYTES)
        if not data:
            return None
        claim = claim_from_bytes(data, await self._keys.of(request.task_id, attempt))
        if claim is None and await self._keys.is_older(request.task_id, attempt):
            claim = claim_from_bytes(data)
        return claim if claim and claim.task_id == request.task_id else None

    async def _read(self, request: JobRequest, key: str, most: int) -> bytes | None:
        """Reads an object; None also for one larger than anything that a worker leaves there."""
        try:
            return await self._store.read(request.bucket, key, max_bytes=most)
        except InputTooLarge:
            return None


def claim_objects(request: JobRequest, attempt: int) -> JobObjects:
    """Returns the objects that a worker of the attempt reads and writes."""
    kinds: tuple[Kind, ...] = ("claim", "answer", "task")
    claim, answer, task = [(request.bucket, object_key(request.task_id, attempt, kind)) for kind in kinds]
    return JobObjects(reads=(claim, answer, task), writes=(claim, answer))


def may_be_stored(request: JobRequest) -> bool:
    """Whether the task may be too large for a request, and stored: one that names a single file is not."""
    return not isinstance(request.task.params, TranscribeParams)


def object_key(task_id: str, attempt: int, kind: Kind) -> str:
    """Returns the object's key in the run's bucket."""
    return f"{FOLDER}{task_id}/{attempt}.{kind}"
