"""Writes NAME.status.json, the state of a run, as it changes, at most once a second.

A state that passes at once is never written: each costs a request or two, and nobody could have read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from gpu_dispatch.backend import JobRef, JobStatus
from listener.dispatch.request import JobRequest
from listener.ledger.runs import RunLedger
from listener.run_request import RunRequest
from listener.runs.fence import Fence
from listener.runs.steps import Released
from listener.stores.base import Store
from manifests.documents import CONTENT_TYPE, JobNote
from manifests.errors import GpuDropError, StoreUnavailable
from manifests.sidecars import RunState, StatusSidecar, status_bytes

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.runs")

MIN_GAP_S = 1.0
"""Seconds between two writes, at least."""
SETTLE_S = 0.3
"""Seconds from a change to its write, which contains the state of that time."""
CLOSE_S = 10.0
"""Seconds that a run's end waits for a write under way."""

Spent = Callable[[str], Awaitable[float | None]]
"""Returns the US dollars of a run's jobs so far; None where nothing has a price."""


@dataclass(frozen=True, slots=True)
class _JobView:
    """The last known status of one job."""

    note: JobNote
    percent: float
    stage: str
    attempt: int


class RunStatusWriter:
    """Writes the status of one run. `move` returns at once; a task writes the newest state."""

    def __init__(
        self,
        run: RunRequest,
        store: Store,
        ledger: RunLedger,
        clock: Callable[[], float],
        spent: Spent,
        *,
        member: str = "",
    ) -> None:
        self._run = run
        self._member = member
        self._store = store
        self._fence = Fence(store, ledger)
        self._ledger = ledger
        self._clock = clock
        self._spent = spent
        self._jobs: dict[int, _JobView] = {}
        self._count = 1
        self._changed = asyncio.Event()
        self._moved = False
        self._closed = asyncio.Event()
        self._ended = False
        self._stays = False
        self._written: StatusSidecar | None = None
        self._recorded: tuple[str, str | None] = ("", None)
        self._noted = ""
        self._held = ""
        now = _when(clock())
        self._status = StatusSidecar(
            run_id=run.run_id, key=run.key, state="accepted", updated=now, started=_when(run.received)
        )

    def move(
        self, state: RunState, *, operation: str | None = None, waiting_for: Sequence[str] = (), stage: str = ""
    ) -> None:
        moved = replace(
            self._status,
            state=state,
            operation=operation or self._status.operation,
            waiting_for=tuple(waiting_for),
            stage=stage,
        )
        if moved != self._status or not self._moved:
            self._moved = True
            self._status = replace(moved, updated=_when(self._clock()))
            self._changed.set()

    def held(self, reason: str) -> None:
        """Sets why the whole run waits, in words; "" once it goes on."""
        if reason != self._held:
            self._held = reason
            self._status = replace(self._status, updated=_when(self._clock()))
            self._changed.set()

    def parked(self, reasons: Sequence[str]) -> None:
        """Sets why one of the run's jobs cannot be sent; () once it goes on."""
        if not self._jobs:
            self.move("queued", waiting_for=reasons)

    def job(self, request: JobRequest, attempt: int, job: JobRef, status: JobStatus) -> None:
        """Takes in the status of one of the run's jobs; the run's percentage is the mean of its jobs'."""
        known = self._jobs.get(request.index)
        progress = status.progress
        percent = 100.0 if status.state == "completed" else progress.percent if progress else 0.0
        if known and known.attempt == attempt:
            percent = max(percent, known.percent)
        stage = progress.stage if progress else known.stage if known else ""
        note = JobNote(id=job.job_id, endpoint=job.backend, state=status.state)
        self._jobs[request.index] = _JobView(note, percent, stage, attempt)
        self._count = request.count
        running = status.state == "running" or any(v.percent > 0 for v in self._jobs.values())
        self._status = replace(
            self._status,
            state="running" if running else "queued",
            percent=min(99.0, sum(v.percent for v in self._jobs.values()) / self._count),
            stage=stage if running else "",
            attempt=max(v.attempt for v in self._jobs.values()),
            jobs=tuple(self._jobs[i].note for i in sorted(self._jobs)),
            waiting_for=(),
            updated=_when(self._clock()),
        )
        self._changed.set()

    async def keep_writing(self) -> None:
        """Writes each change until `end` or `leave`. A status that cannot be written does not stop the run."""
        while True:
            await self._changed.wait()
            closed = await self._closed_within(SETTLE_S)
            if closed and not (self._stays and self._status != self._written):
                return
            self._changed.clear()
            try:
                await self._write()
            except GpuDropError as e:
                log.info("status_not_written", run_id=self._run.run_id, code=e.info.code, error=str(e))
            if closed:
                return
            await self._closed_within(MIN_GAP_S - SETTLE_S)

    def end(self) -> None:
        """Ends the status with its run: a write under way is removed once it has landed, however late."""
        self._ended = True
        self.leave()

    def leave(self) -> None:
        """Ends `keep_writing` after the write under way: interrupted, it could still land after the final sidecar."""
        self._closed.set()
        self._changed.set()

    def stay(self) -> None:
        """Has the current status written before it is left: the run goes on elsewhere, or later."""
        self._stays = True

    async def _closed_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        return self._closed.is_set()

    async def _note(self, text: str) -> None:
        if text != self._noted:
            await self._ledger.note(self._run.run_id, text)
            self._noted = text

    async def _write(self) -> None:
        status = self._written = self._status
        if self._held:
            status = replace(status, waiting_for=(*status.waiting_for, self._held))
        await self._note("; ".join(status.waiting_for))
        if self._jobs:
            status = replace(status, cost_usd=await self._spent(self._run.run_id))
        if self._recorded != (status.state, status.operation):
            await self._ledger.update(
                self._run.run_id,
                state=status.state,
                at=self._clock(),
                operation=status.operation or "",
                member=self._member,
            )
            self._recorded = (status.state, status.operation)
        if not await self._ledger.may_write(self._run.run_id):
            return
        try:
            key = self._run.sidecar("status")
            data = status_bytes(status)
            await self._store.put(self._run.bucket, key, data, content_type=CONTENT_TYPE, run_id=self._run.run_id)
        finally:
            # Also after a failure: a request that was given up may have been carried out.
            if self._ended or not await self._ledger.may_write(self._run.run_id):
                await self._fence.remove_own(self._run, "status")


class StatusPublisher:
    """Writes the statuses of the runs that execute in this process."""

    def __init__(
        self,
        store: Store,
        ledger: RunLedger,
        clock: Callable[[], float],
        spent: Spent,
        *,
        member: str = "",
        close_s: float = CLOSE_S,
    ) -> None:
        """`member` is the listener that executes these runs. `close_s`: seconds to wait for a write under way."""
        self._member = member
        self._close_s = close_s
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._spent = spent
        self._open: dict[str, tuple[RunStatusWriter, asyncio.Task[None]]] = {}
        self._late: set[asyncio.Task[None]] = set()
        self._notes: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, run: RunRequest) -> AsyncGenerator[RunStatusWriter]:
        status = RunStatusWriter(run, self._store, self._ledger, self._clock, self._spent, member=self._member)
        task = asyncio.create_task(status.keep_writing(), name=f"status {run.run_id}")
        self._open[run.run_id] = status, task
        try:
            yield status
        except Released:
            status.stay()
            raise
        finally:
            if self._open.pop(run.run_id, None):
                status.leave()
                await self._finish(task)

    async def close(self, run_id: str) -> None:
        """Ends a run's status: none is written after this, and a write that takes longer removes what it wrote."""
        entry = self._open.pop(run_id, None)
        if entry:
            entry[0].end()
            await self._finish(entry[1])

    async def end(self) -> None:
        """Ends all writes with the program, even those that their runs do not wait for any more."""
        tasks = [*(task for _, task in self._open.values()), *self._late, *self._notes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(self, task: asyncio.Task[None]) -> None:
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        await asyncio.wait({task}, timeout=self._close_s)

    def progress(self, request: JobRequest, attempt: int, job: JobRef, status: JobStatus) -> None:
        """Takes in a job's status; one that comes before a resumed run has opened its status is dropped."""
        entry = self._open.get(request.run_id)
        if entry:
            entry[0].job(request, attempt, job, status)

    def waiting(self, request: JobRequest, reasons: Sequence[str]) -> None:
        """Sets why a job waits to be sent, in words."""
        entry = self._open.get(request.run_id)
        if entry:
            entry[0].parked(reasons)

    def held(self, run_id: str, reason: str) -> None:
        """Sets why a run waits for the store or the ledger, in words; "" once it goes on."""
        entry = self._open.get(run_id)
        if entry:
            entry[0].held(reason)
            return
        # The status is closed because the final sidecar is due: the ledger still shows the reason.
        task = asyncio.create_task(self._note(run_id, reason), name=f"note {run_id}")
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _note(self, run_id: str, text: str) -> None:
        try:
            await self._ledger.note(run_id, text)
        except StoreUnavailable as e:
            log.debug("note_not_written", run_id=run_id, error=str(e))


def _when(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)
