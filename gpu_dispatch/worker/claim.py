"""Claims a task in the store, so that exactly one of the jobs of an attempt does the work.

The presigned address of a claim signs only the host, so the worker chooses the conditions: `If-None-Match: *` for a
first claim, `If-Match: ETAG` to take over a claim of its own job. A store that ignores conditions keeps the last claim
written; the worker therefore reads the claim back, and checks it again before it uploads anything.

Others may write in the bucket. An object that is not signed with the attempt's key is no claim. It is overwritten under
`If-Match`, so that only one of two jobs that find it gets the task.

A server that answers 400 or 501 to a condition is asked without one. Two jobs that begin at once at such a store may
both work until the first checks again, and the last writer's outputs stay. Not reaching the store before the work is a
retryable error; during the work it is none. After three workers nobody begins a claim's job again, so a task that kills
its workers ends.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from gpu_dispatch.claims import MAX_BYTES, Claim, claim_bytes, claim_from_bytes
from gpu_dispatch.signatures import key_from_text
from gpu_dispatch.task import ClaimUrls, GpuResult, GpuTask
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.transfer.web import HttpAnswer, WebClient
from gpu_dispatch.worker.answer import earlier_answer
from manifests.errors import DuplicateJob, GpuDropError, RunCancelled, StoreDenied, TransferFailed, WorkerCrashed

T = TypeVar("T")

CHECK_INTERVAL_S = 30.0
"""Interval between checks of a held claim."""

MAX_BEGUN = 3
"""A job that so many workers have begun and none has finished kills its workers and is not begun again."""

_NAME = "the claim"
_ROUNDS = 5
"""Attempts at a claim that changes meanwhile."""
_TOTAL_S = 90.0
_IDLE_S = 15.0
_CONDITIONS_UNSUPPORTED = frozenset({400, 501})
"""Statuses of servers that do not support conditional writes."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The job and the worker that claim a task."""

    job_id: str
    """The provider's id of the job."""
    endpoint_id: str
    """The provider's id of the endpoint."""
    worker: str
    """Identifies the machine."""


class HeldClaim:
    """A claim that this worker held when it was last checked.

    `answer` is set when an earlier execution of the job has left its answer: the claim is that execution's, and no work
    remains.
    """

    def __init__(self, mine: Claim, address: _Address, answer: GpuResult | None = None) -> None:
        self._mine = mine
        self._address = address
        self.answer = answer

    async def check(self) -> None:
        """Raises RunCancelled or DuplicateJob when another claim has replaced this one.

        While the store or the way to it fails the work goes on. An object that is no valid claim is overwritten.
        """
        try:
            seen = await self._address.read()
            if seen.there and seen.holder is None:
                await self._address.write(self._mine, {"If-Match": seen.etag})
                seen = await self._address.read()
        except GpuDropError:
            return
        if seen.holder is not None and seen.holder != self._mine:
            raise _claim_lost(seen.holder)

    async def watch(self, every_s: float) -> None:
        """Checks every `every_s` seconds until the claim is lost, and raises then."""
        while True:
            await asyncio.sleep(every_s)
            await self.check()


@asynccontextmanager
async def acquire_claim(
    task: GpuTask,
    identity: Identity | None,
    limits: TransferLimits,
    now: Callable[[], float] = time.time,
) -> AsyncGenerator[HeldClaim | None]:
    """Claims `task`; yields None when it needs no claim.

    Raises DuplicateJob or RunCancelled when another job or nobody may do it, WorkerCrashed when it has ended too many
    workers, and TransferFailed or StoreDenied when the store could not be used.
    """
    if task.claim is None or identity is None:
        yield None
        return
    mine = Claim(task.task_id, identity.job_id, identity.endpoint_id, identity.worker, now())
    short = replace(limits, total_s=min(limits.total_s, _TOTAL_S), idle_s=min(limits.idle_s, _IDLE_S))
    async with WebClient(task.trusted_hosts, short, random.Random()) as web:  # noqa: S311 - jitter
        address = _Address(task.claim, web, key_from_text(task.secret))
        yield await _acquire(mine, address, partial(earlier_answer, task, limits))


async def while_held(claim: HeldClaim | None, every_s: float, work: Coroutine[Any, Any, T]) -> T:
    """Returns the result of `work`. When the claim is lost meanwhile, cancels the work, then raises the loss."""
    if claim is None:
        return await work
    working = asyncio.create_task(work)
    watching = asyncio.create_task(claim.watch(every_s))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await _end(working)
            await watching
        return await working
    finally:
        await _end(working)
        await _end(watching)


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


@dataclass(frozen=True, slots=True)
class _SeenClaim:
    """What a read of a claim's address found."""

    there: bool
    etag: str = ""
    holder: Claim | None = None
    """None for an object that is no valid claim."""


@dataclass(frozen=True, slots=True)
class _Address:
    """The address of a claim in the store."""

    urls: ClaimUrls
    web: WebClient
    key: bytes | None
    """A claim must be signed with it; None: claims are not signed."""

    async def write(self, claim: Claim, condition: dict[str, str]) -> HttpAnswer:
        data = claim_bytes(claim, self.key)
        return await self.web.ask("PUT", self.urls.put_url, name=_NAME, data=data, headers=condition)

    async def read(self) -> _SeenClaim:
        answer = await self.web.ask("GET", self.urls.get_url, name=_NAME, max_bytes=MAX_BYTES, whole=False)
        if answer.status == 404:
            return _SeenClaim(there=False)
        if answer.status != 200:
            raise _refused(answer, "read")
        return _SeenClaim(True, answer.etag, claim_from_bytes(answer.body, self.key))


async def _acquire(mine: Claim, address: _Address, earlier: Callable[[], Awaitable[GpuResult | None]]) -> HeldClaim:
    """Acquires the claim; leaves it untouched where an earlier execution of the job has left its answer.

    It reads before it writes: a store that ignores conditions would let a late job overwrite an earlier claim.
    """
    seen = await address.read()
    for _ in range(_ROUNDS):
        if seen.holder is None:
            condition = {"If-Match": seen.etag} if seen.there else {"If-None-Match": "*"}
        elif seen.holder.job_id != mine.job_id:
            raise _claim_lost(seen.holder)
        else:
            if not _same_run(mine, seen.holder) and (answer := await earlier()):
                return HeldClaim(seen.holder, address, answer)
            mine = _next_claim(mine, seen.holder)
            condition = {"If-Match": seen.etag}
        put = await address.write(mine, condition)
        if put.status in _CONDITIONS_UNSUPPORTED:
            put = await address.write(mine, {})
        _check_writable(put)
        seen = await address.read()
        if seen.holder == mine:
            return HeldClaim(mine, address)
    raise TransferFailed("The claim of the task could not be settled.", hint="The store is busy; it is tried again.")


def _next_claim(mine: Claim, before: Claim) -> Claim:
    """Returns this worker's claim of a job begun before. Raises WorkerCrashed when too many workers have begun it."""
    if _same_run(mine, before):
        return mine
    if before.begun >= MAX_BEGUN:
        raise WorkerCrashed(
            f"The job has ended {before.begun} workers in the middle of the task.",
            hint="It may need more memory than they have: see their log, use a smaller input or a larger GPU.",
            retryable=False,
        )
    return replace(mine, begun=before.begun + 1)


def _same_run(mine: Claim, before: Claim) -> bool:
    """Whether this execution wrote `before` itself and lost the response."""
    return before.worker == mine.worker and before.at == mine.at


def _check_writable(answer: HttpAnswer) -> None:
    """Raises for a failed write, except 409 and 412: another writer was faster, and the caller reads again."""
    if not (200 <= answer.status < 300 or answer.status in (409, 412)):
        raise _refused(answer, "written")


def _refused(answer: HttpAnswer, done: str) -> GpuDropError:
    if answer.status not in (401, 403):
        what = f"The claim could not be {done}: the store answered {answer.status}."
        return TransferFailed(what, hint="Check the store.")
    if b"expired" in answer.body.lower():
        return StoreDenied(
            f"The claim of the task may not be {done} ({answer.status}, its address has expired).",
            hint="The task waited too long; it is tried again with a new address.",
            retryable=True,
        )
    return StoreDenied(
        f"The claim of the task may not be {done} ({answer.status}).",
        hint="Allow GetObject and PutObject below .gpudrop/ in the bucket.",
    )


def _claim_lost(holder: Claim) -> GpuDropError:
    if holder.withdrawn:
        return RunCancelled("The task was withdrawn: this job may not do it any more.")
    return DuplicateJob(
        f"Another job ({holder.job_id}) does this task: this one did not finish it.",
        hint="Nothing is to be done: the other job's result counts.",
        where=holder.job_id,
    )
