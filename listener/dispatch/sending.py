"""A task on its way to an endpoint: written down before it is sent, and never sent again blindly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

import structlog

from gpu_dispatch.backend import GpuBackend, JobRef
from gpu_dispatch.claims import Claim
from listener.dispatch.lives import life_seconds, queue_seconds
from listener.dispatch.marks import Marks
from listener.dispatch.placing import Placed, Placing
from listener.dispatch.pool import Pool
from listener.dispatch.request import JobRequest
from listener.dispatch.tasks import TaskMaker
from listener.ledger.jobs import JobLedger, JobRow
from listener.patience import Patience
from manifests.errors import EndpointDenied, EndpointUnavailable, GpuDropError, SubmitUnknown, TaskRefused

T = TypeVar("T")
P = ParamSpec("P")
log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

_LAST_S = 2.0
"""The engine lets go of a story that ends in 3 s."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A job that is known: `row` as it stands in the ledger, and where to ask for it.

    `alone`: no other was ever meant for its claim.
    """

    row: JobRow
    backend: GpuBackend
    job: JobRef
    alone: bool = True


class Sender:
    def __init__(
        self, placing: Placing, pool: Pool, ledger: JobLedger, marks: Marks, tasks: TaskMaker, patience: Patience
    ) -> None:
        self._placing = placing
        self._pool = pool
        self._ledger = ledger
        self._marks = marks
        self._tasks = tasks
        self._patience = patience

    async def send(self, request: JobRequest, attempt: int, number: int, avoid: frozenset[str]) -> Sent:
        """Job `number` of an attempt, taken by an endpoint.

        Raises what `Placing.place` raises, and SubmitUnknown when nobody can say whether the task was taken: then it
        is `resume` that tells.
        """
        refusing: frozenset[str] = frozenset()
        while True:
            sent = await self._patiently(self._tried, request, attempt, number, avoid, refusing)
            if isinstance(sent, Sent):
                return sent
            refusing |= sent

    async def again(self, request: JobRequest, attempt: int, failed: JobRef) -> Sent | None:
        """The job of an earlier attempt, started once more by its endpoint; None where that cannot be.

        On record before it is asked for: should nobody be able to say whether it was started, the job itself tells.
        """
        backend = self._pool.backend(failed.backend)
        if backend is None or backend.claims or not backend.durable:
            return None
        others = self._pool.names - {failed.backend}
        placed = await self._patiently(self._placing.place, request, attempt, 1, others)
        if placed.row.endpoint == failed.backend:
            sent = await self._noted(placed.row, backend, failed)
            try:
                if await backend.again(failed):
                    return sent
            except EndpointUnavailable:
                return sent
            except EndpointDenied as e:
                self._pool.refused(failed.backend, e)
        await self._patiently(self._ledger.drop, placed.row.entry)
        return None

    async def second(self, request: JobRequest, attempt: int, used: frozenset[str]) -> Sent | None:
        """Another job beside one that waits, for the same claim, at an endpoint that is not in `used`.

        None when there is no room for it now. Raises what `GpuBackend.submit` raises. Should it have been taken all
        the same, the claim tells once it begins.
        """
        never = used | self._pool.unclaimed
        placed = await self._patiently(self._placing.at_once, request, attempt, 2, never)
        if placed is None:
            return None
        try:
            return replace(await self._handed_over(request, attempt, placed), alone=False)
        except SubmitUnknown as e:
            await self._patiently(self._ledger.ended, placed.row.entry, outcome=e.info.code)
            raise

    async def resume(self, request: JobRequest, attempt: int) -> tuple[Sent, ...]:
        """The jobs an attempt has already had; none: it has not begun.

        Raises SubmitUnknown: retryable when it is certain that no job of the attempt will do any work.
        """
        rows = await self._patiently(self._ledger.of_attempt, request.task_id, attempt)
        known = tuple(replace(self._known(row), alone=len(rows) == 1) for row in rows if row.job_id)
        doubtful = [row for row in rows if not row.job_id and row.state != "ended"]
        if rows and not known:
            return (await self._settled(request, attempt, doubtful or rows),)
        for row in doubtful:
            # A second job, cut off: should it have been taken, the claim tells once it begins.
            await self._patiently(self._ledger.ended, row.entry, outcome=SubmitUnknown.code)
        return known

    async def claimed(self, request: JobRequest, attempt: int) -> Sent | None:
        """The job that holds the attempt's claim; None while no job does that it can be meant for."""
        claim = await self._patiently(self._marks.claim, request, attempt)
        rows = await self._patiently(self._ledger.of_attempt, request.task_id, attempt)
        return await self._adopted(rows, claim) if claim else None

    async def _tried(
        self, request: JobRequest, attempt: int, number: int, avoid: frozenset[str], refusing: frozenset[str]
    ) -> Sent | frozenset[str]:
        """The job, or endpoints that refuse such a task. Raises what the store says of its links: that is waited for
        without a place, which others may have meanwhile.
        """
        placed = await self._placing.place(request, attempt, number, avoid, refusing)
        try:
            return await self._unbroken(request, attempt, placed)
        except (EndpointUnavailable, EndpointDenied):
            return frozenset()
        except TaskRefused:
            refused = frozenset({placed.row.endpoint})
            if not self._pool.able(request.task.params) - refusing - refused:
                raise
            return refused

    async def _unbroken(self, request: JobRequest, attempt: int, placed: Placed) -> Sent:
        """As `_handed_over`. Where no claim tells later whether a task was taken, this process, asked to end, hears
        the answer first.
        """
        if placed.backend.claims or not placed.backend.durable:
            return await self._handed_over(request, attempt, placed)
        handing = asyncio.create_task(self._handed_over(request, attempt, placed))
        try:
            return await asyncio.shield(handing)
        except asyncio.CancelledError:
            await asyncio.wait({handing}, timeout=_LAST_S)
            handing.cancel()
            raise

    async def _handed_over(self, request: JobRequest, attempt: int, placed: Placed) -> Sent:
        """Raises what `GpuBackend.submit` raises, and what keeps a task from being made. No row is left of one that
        was not taken.
        """
        name = placed.row.endpoint
        self._pool.trying(name)
        try:
            job = await self._submit(request, attempt, placed)
        except SubmitUnknown as e:
            self._pool.refused(name, e)
            await self._patiently(self._ledger.unknown, placed.row.entry)
            raise
        except GpuDropError as e:
            await self._patiently(self._ledger.drop, placed.row.entry)
            if isinstance(e, EndpointUnavailable | EndpointDenied):
                self._pool.refused(name, e)
            raise
        self._pool.took(name)
        return await self._noted(placed.row, placed.backend, job)

    async def _submit(self, request: JobRequest, attempt: int, placed: Placed) -> JobRef:
        claims = placed.backend.claims
        spec = self._pool.spec(placed.row.endpoint)
        queue_s = queue_seconds(spec, attempt, self._placing.timeout_s, self._tasks.link_s)
        lives_s = life_seconds(queue_s, placed.timeout_s)
        task = await self._tasks.task(request, attempt, timeout_s=placed.timeout_s, claims=claims, lives_s=lives_s)
        return await placed.backend.submit(task)

    async def _settled(self, request: JobRequest, attempt: int, rows: list[JobRow]) -> Sent:
        """The job of an attempt that has none on record, if it has begun; otherwise it never will."""
        row = rows[0]
        backend = self._pool.asked(row.endpoint, row.endpoint_id, row.dialect)
        if backend.claims:
            claim = await self._patiently(self._marks.settle, request, attempt)
            if claim is not None:
                if adopted := await self._adopted(rows, claim):
                    log.info("job_found_again", run_id=row.run_id, task=row.task_id, job=claim.job_id)
                    return adopted
                # It names a job that this attempt cannot have: whoever works under it is stopped.
                await self._patiently(self._marks.revoke, request, attempt)
            certain = True
        else:
            certain = not backend.durable or self._pool.resubmits(row.endpoint)
        for each in rows:
            usd = 0.0 if certain else each.estimate_usd
            await self._patiently(self._ledger.ended, each.entry, outcome=SubmitUnknown.code, usd=usd)
        raise SubmitUnknown(
            f"Nobody can say whether {row.endpoint} took the task"
            + ("; should it have, it will do nothing." if certain else "."),
            hint="It is sent again by itself."
            if certain
            else "Look for the job in the provider's console, then redrive; or set resubmit_unknown on the endpoint.",
            retryable=certain,
        )

    async def _adopted(self, rows: Sequence[JobRow], claim: Claim) -> Sent | None:
        """The job that a claim names, if one of the attempt's endpoints may have it, and no other task."""
        mine = [row for row in rows if row.job_id == claim.job_id]
        there = [row for row in rows if claim.endpoint_id in ("", row.endpoint_id)]
        row = next(iter(mine or [row for row in there if not row.job_id] or there), None)
        if row is None or await self._patiently(self._ledger.is_anothers, claim.job_id, row.task_id):
            log.warning("claim_not_believed", task=claim.task_id, job=claim.job_id, endpoint=claim.endpoint_id)
            return None
        backend = self._pool.asked(row.endpoint, row.endpoint_id, row.dialect)
        return await self._noted(row, backend, JobRef(backend.name, row.endpoint_id, claim.job_id, row.task_id))

    async def _noted(self, row: JobRow, backend: GpuBackend, job: JobRef) -> Sent:
        """Its id is on record before anything else happens."""
        await self._patiently(self._ledger.sent, row.entry, endpoint_id=job.endpoint, job_id=job.job_id)
        return Sent(replace(row, endpoint_id=job.endpoint, job_id=job.job_id, state="sent"), backend, job)

    def _known(self, row: JobRow) -> Sent:
        backend = self._pool.asked(row.endpoint, row.endpoint_id, row.dialect)
        return Sent(row, backend, JobRef(backend.name, row.endpoint_id, row.job_id, row.task_id))

    async def _patiently(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._patience.patiently(work, *args, **kwargs)
