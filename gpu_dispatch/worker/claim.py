"""The claim of a task: of all the jobs that carry one attempt, one does the work, and the others find out in time.

The address a claim is written to signs nothing but its host, so the conditions are ours to choose: `If-None-Match: *`
for the first claim, `If-Match: ETAG` to take over one of our own job. A store that ignores conditions keeps the last
claim written; what decides there is reading back, and looking again before anything leaves the worker.

Others may write in the bucket. What is not signed with the attempt's key is no claim: it is written over, with the
condition that it is still there, so that two jobs that meet it do not both have the task.
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

LOOK_S = 30.0
"""Between looks at a claim that is held."""

MOST_BEGUN = 3
"""A job that so many workers have begun and none has ended kills its workers: nobody begins it again."""

_NAME = "the claim"
_ROUNDS = 5
"""How often a claim that changes under our hands is tried for."""
_TOTAL_S = 90.0
_IDLE_S = 15.0
_NOT_KEPT = frozenset({400, 501})
"""What servers answer that know no conditions on writes."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who does a job. `job_id` and `endpoint_id` are the provider's; `worker` tells machines apart."""

    job_id: str
    endpoint_id: str
    worker: str


class HeldClaim:
    """A claim that was ours when it was last looked at. `answer`: an earlier run of the job has left it, and there is
    nothing to be done; the claim is that run's then."""

    def __init__(self, mine: Claim, address: _Address, answer: GpuResult | None = None) -> None:
        self._mine = mine
        self._address = address
        self.answer = answer

    async def check(self) -> None:
        """Raises RunCancelled or DuplicateJob when the claim is no longer ours. A store that does not answer leaves
        it open: the work goes on. What somebody else has put in its place gives way to it again."""
        try:
            seen = await self._address.look()
            if seen.there and seen.holder is None:
                await self._address.write(self._mine, {"If-Match": seen.etag})
                seen = await self._address.look()
        except (TransferFailed, StoreDenied):
            return
        if seen.holder is not None and seen.holder != self._mine:
            raise _lost(seen.holder)

    async def watch(self, every_s: float) -> None:
        """Looks until the claim is lost; raises then."""
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
    """Claims `task`; None when nobody has to. Raises DuplicateJob or RunCancelled when it is not ours to do, and
    TransferFailed or StoreDenied when that could not be found out."""
    if task.claim is None or identity is None:
        yield None
        return
    mine = Claim(task.task_id, identity.job_id, identity.endpoint_id, identity.worker, now())
    short = replace(limits, total_s=min(limits.total_s, _TOTAL_S), idle_s=min(limits.idle_s, _IDLE_S))
    async with WebClient(task.trusted_hosts, short, random.Random()) as web:  # noqa: S311 - jitter
        address = _Address(task.claim, web, key_from_text(task.secret))
        yield await _acquire(mine, address, partial(earlier_answer, task, limits))


async def while_held(claim: HeldClaim | None, every_s: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, unless the claim is lost meanwhile: then the work is ended first, and the loss raised."""
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
    """What lies at a claim's address. `there` without a holder: something that is no claim."""

    there: bool
    etag: str = ""
    holder: Claim | None = None


@dataclass(frozen=True, slots=True)
class _Address:
    """Where a claim lies. With a `key` only what is signed with it is one."""

    urls: ClaimUrls
    web: WebClient
    key: bytes | None

    async def write(self, claim: Claim, condition: dict[str, str]) -> HttpAnswer:
        data = claim_bytes(claim, self.key)
        return await self.web.ask("PUT", self.urls.put_url, name=_NAME, data=data, headers=condition)

    async def look(self) -> _SeenClaim:
        answer = await self.web.ask("GET", self.urls.get_url, name=_NAME, max_bytes=MAX_BYTES, whole=False)
        if answer.status == 404:
            return _SeenClaim(there=False)
        if answer.status != 200:
            raise _refused(answer, "read")
        return _SeenClaim(True, answer.etag, claim_from_bytes(answer.body, self.key))


async def _acquire(mine: Claim, address: _Address, earlier: Callable[[], Awaitable[GpuResult | None]]) -> HeldClaim:
    """The claim as it is held then; untouched where an earlier run of the job has left its answer.

    Looks first: a store that ignores conditions would let a late job write over the claim of an earlier one.
    """
    seen = await address.look()
    for _ in range(_ROUNDS):
        if seen.holder is None:
            condition = {"If-Match": seen.etag} if seen.there else {"If-None-Match": "*"}
        elif seen.holder.job_id != mine.job_id:
            raise _lost(seen.holder)
        else:
            if not _same_run(mine, seen.holder) and (answer := await earlier()):
                return HeldClaim(seen.holder, address, answer)
            mine = _once_more(mine, seen.holder)
            condition = {"If-Match": seen.etag}
        put = await address.write(mine, condition)
        if put.status in _NOT_KEPT:
            put = await address.write(mine, {})
        _check_writable(put)
        seen = await address.look()
        if seen.holder == mine:
            return HeldClaim(mine, address)
    raise TransferFailed("The claim of the task could not be settled.", hint="The store is busy; it is tried again.")


def _once_more(mine: Claim, before: Claim) -> Claim:
    """Our claim of a job that a worker has begun before. Raises WorkerCrashed when too many have."""
    if _same_run(mine, before):
        return mine
    if before.begun >= MOST_BEGUN:
        raise WorkerCrashed(
            f"The job has ended {before.begun} workers in the middle of the task.",
            hint="It may need more memory than they have: see their log, use a smaller input or a larger GPU.",
            retryable=False,
        )
    return replace(mine, begun=before.begun + 1)


def _same_run(mine: Claim, before: Claim) -> bool:
    """Whether `before` is what this very run has written: the answer to its writing was lost."""
    return before.worker == mine.worker and before.at == mine.at


def _check_writable(answer: HttpAnswer) -> None:
    """409 and 412: somebody was faster, and is gone again."""
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


def _lost(holder: Claim) -> GpuDropError:
    if holder.withdrawn:
        return RunCancelled("The task was withdrawn: this job may not do it any more.")
    return DuplicateJob(
        f"Another job ({holder.job_id}) does this task: this one did not finish it.",
        hint="Nothing is to be done: the other job's result counts.",
        where=holder.job_id,
    )
