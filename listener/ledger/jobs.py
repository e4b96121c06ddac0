"""The ledger of jobs: records each job before it is sent and follows it until it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from listener.ledger.database import Database
from listener.ledger.group_commit import GroupCommit
from listener.ledger.job_rows import DAY_S, OPEN, JobRow, job_row, jobs_table
from listener.ledger.quotas import RESERVED, QuotaLimits, QuotaRefusal, UsageCounter
from listener.ledger.run_rows import ENDED, runs_table

KEEP_S = 400 * DAY_S
"""How long rows are kept, in seconds; they outlive their runs, for `gpudrop costs`."""

_c = jobs_table.c
_IS_OPEN = _c.state.in_(OPEN)
_THIS = _c.entry == sa.bindparam("this")

# Built once: building a statement costs as much as executing it.
_SENT = sa.update(jobs_table).where(_THIS, _IS_OPEN)
_UNKNOWN = sa.update(jobs_table).where(_THIS, _c.state == "intended")
_END = sa.update(jobs_table).where(_THIS, _IS_OPEN).returning(*RESERVED)
_CORRECT = sa.update(jobs_table).where(_THIS, _c.state == "ended", _c.execution_ms == 0)


@dataclass(frozen=True, slots=True)
class TaskStarts:
    """How often a task was sent or was to be sent; a job that was certainly not taken does not count."""

    count: int
    last: float
    """When the latest job was intended, in epoch seconds; 0.0: never."""


class JobLedger:
    """Records jobs and reserves their money. `clock` gives epoch seconds.

    Concurrent writes share a transaction. Each returns once it is committed, or raises StoreUnavailable and may be
    repeated.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._group_commit = GroupCommit(database, lambda db: UsageCounter(database, db))

    async def reserve(self, row: JobRow, limits: QuotaLimits) -> QuotaRefusal | None:
        """Records the intent to send a job, unless that would exceed a limit.

        Counting and recording are one transaction, also among several listeners. An entry that is only intended is
        replaced, so that a reservation whose answer was lost may be repeated, also for another endpoint. An entry that
        has gone further stays as it is and is not refused. A cancelled call deletes what it may have recorded.
        """
        try:
            return await self._group_commit.write(
                lambda usage_counter: usage_counter.reserve(row, limits, self._clock())
            )
        except asyncio.CancelledError:
            self._group_commit.post(lambda usage_counter: usage_counter.release(row.entry, intended_only=True))
            raise

    async def sent(self, entry: str, *, endpoint_id: str, job_id: str) -> None:
        """Records that the provider has taken the job, under this id."""
        values = {"endpoint_id": endpoint_id, "job_id": job_id, "state": "sent", "sent": self._clock()}
        await self._update(_SENT, entry, values)

    async def unknown(self, entry: str) -> None:
        """Records that the job was sent and it is unknown whether it was taken; its money stays reserved."""
        await self._update(_UNKNOWN, entry, {"state": "unknown"})

    async def delete(self, entry: str) -> None:
        """Deletes a job that was certainly not taken; one that has ended stays."""
        await self._group_commit.write(lambda usage_counter: usage_counter.release(entry))

    async def ended(
        self, entry: str, *, outcome: str, delay_ms: int = 0, execution_ms: int = 0, usd: float = 0.0
    ) -> None:
        """Records that the job ended and cost `usd`, which counts for today.

        The first recorded end is kept, unless it had no execution time and this one has: the job was thought lost.
        """

        def work(usage_counter: UsageCounter) -> None:
            now = self._clock()
            row = _Ending(entry, outcome, delay_ms, execution_ms, usd, now, int(now // DAY_S))
            if not _end(usage_counter, row) and execution_ms > 0:
                _correct(usage_counter, row)

        await self._group_commit.write(work)

    async def abandon(self, before: float) -> int:
        """Ends open jobs intended before `before` (epoch seconds) whose run has ended or is gone; returns their number.

        A job that may have been sent is assumed to have cost what was reserved for it.
        """
        going_on = sa.select(runs_table.c.run_id).where(runs_table.c.state.not_in(ENDED))
        left = sa.and_(_IS_OPEN, _c.intended < before, _c.run_id.not_in(going_on))
        query = sa.select(_c.entry, _c.state, _c.estimate_usd).where(left)

        def work(usage_counter: UsageCounter) -> int:
            usage_counter.lock()
            now = self._clock()
            found = usage_counter.db.execute(query).all()
            for entry, state, estimate in found:
                usd = 0.0 if state == "intended" else estimate
                _end(usage_counter, _Ending(entry, "abandoned", 0, 0, usd, now, int(now // DAY_S)))
            return len(found)

        return await self._group_commit.write(work)

    async def of_attempt(self, task_id: str, attempt: int) -> list[JobRow]:
        """Returns every job of an attempt, in the order in which they were intended."""
        rows = await self._rows(sa.select(jobs_table).where(_c.task_id == task_id, _c.attempt == attempt))
        return sorted(rows, key=lambda row: (row.intended, len(row.entry), row.entry))

    async def starts(self, task_id: str) -> TaskStarts:
        """Counts the starts of a task."""
        query = sa.select(sa.func.count(), sa.func.max(_c.intended)).where(_c.task_id == task_id)

        def work() -> TaskStarts:
            with self._database.begin() as db:
                count, last = db.execute(query).one()
            return TaskStarts(count, last or 0.0)

        return await self._database.call(work)

    async def belongs_to_other_task(self, job_id: str, task_id: str) -> bool:
        """Returns whether an open job of this id was sent for another task."""
        query = sa.select(sa.literal(1)).where(_IS_OPEN, _c.job_id == job_id, _c.task_id != task_id).limit(1)

        def work() -> bool:
            with self._database.begin() as db:
                return db.execute(query).first() is not None

        return await self._database.call(work)

    async def open_jobs(self) -> Mapping[str, int]:
        """Counts open jobs by endpoint, over all listeners; an endpoint without any is absent."""
        return await self._group_commit.write(lambda usage_counter: usage_counter.open_jobs())

    async def open_rows(self) -> list[JobRow]:
        """Returns every open job, oldest first."""
        return await self._rows(sa.select(jobs_table).where(_IS_OPEN).order_by(_c.intended))

    async def done_lately(self, limit: int) -> list[JobRow]:
        """Returns the last `limit` jobs that succeeded, oldest first; estimates are learned from them."""
        done = sa.select(jobs_table).where(_c.outcome == "done").order_by(_c.ended.desc()).limit(limit)
        return (await self._rows(done))[::-1]

    async def spent_by_run(self, run_id: str) -> float:
        """Returns what the run's ended jobs cost, in US dollars."""
        query = sa.select(sa.func.coalesce(sa.func.sum(_c.usd), 0.0)).where(_c.run_id == run_id)

        def work() -> float:
            with self._database.begin() as db:
                return db.execute(query).scalar_one()

        return await self._database.call(work)

    async def forget(self, before: float) -> None:
        """Deletes jobs that ended before `before` (epoch seconds), and open ones that were intended before it."""
        lost = sa.and_(_IS_OPEN, _c.intended < before)

        def work() -> None:
            with self._database.begin() as db:
                db.execute(sa.delete(jobs_table).where(_c.state == "ended", _c.ended < before))
                db.execute(sa.delete(jobs_table).where(lost))

        await self._database.call(work)

    async def _update(self, query: sa.Update, entry: str, values: Mapping[str, str | float]) -> None:
        def work(usage_counter: UsageCounter) -> None:
            usage_counter.lock()
            usage_counter.db.execute(query, {**values, "this": entry})

        await self._group_commit.write(work)

    async def _rows(self, query: sa.Select[tuple[object, ...]]) -> list[JobRow]:
        def work() -> list[JobRow]:
            with self._database.begin() as db:
                return [job_row(row) for row in db.execute(query).mappings()]

        return await self._database.call(work)


@dataclass(frozen=True, slots=True)
class _Ending:
    this: str
    outcome: str
    delay_ms: int
    execution_ms: int
    usd: float
    ended: float
    day: int


def _end(usage_counter: UsageCounter, ending: _Ending) -> bool:
    """Records the end of an open job; returns whether it was open."""
    usage_counter.lock()
    found = usage_counter.db.execute(_END, {**asdict(ending), "state": "ended"}).first()
    if found is None:
        return False
    endpoint, trigger, estimate = found
    usage_counter.count_end(endpoint, trigger, estimate, ending.usd, ending.day)
    return True


def _correct(usage_counter: UsageCounter, ending: _Ending) -> None:
    usage_counter.db.execute(_CORRECT, asdict(ending))
    usage_counter.forget()
