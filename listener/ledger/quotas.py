"""Quotas: an endpoint's open jobs and a day's spending, checked against their limits before a job is sent.

A day's spending (UTC) is the cost of the jobs that ended on it plus the estimates of all open jobs: money is reserved
before it is paid, so jobs that keep to their estimates never exceed a budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import sqlalchemy as sa

from listener.ledger.database import Database
from listener.ledger.job_rows import DAY_S, OPEN, JobRow, jobs_table

FULL_RETRY_S = 2.0
"""Seconds until a full endpoint is asked again."""

RESERVED_RETRY_S = 60.0
"""Seconds until reserved money is asked for again: jobs end, and most cost less than their estimate."""

_ROUNDING_USD = 1e-9
"""US dollars by which sums of the same prices in another order may differ."""

RESERVED = (jobs_table.c.endpoint, jobs_table.c.trigger, jobs_table.c.estimate_usd)

_TAKE_BACK = (
    sa.delete(jobs_table)
    .where(jobs_table.c.entry == sa.bindparam("this"), jobs_table.c.state.in_(OPEN))
    .returning(*RESERVED)
)
_TAKE_BACK_MEANT = _TAKE_BACK.where(jobs_table.c.state == "intended")

_LOCK = sa.text("SELECT pg_advisory_xact_lock(7236828)")
_LOCK_TIMEOUTS = sa.text(
    "SELECT set_config('lock_timeout', '10s', true), set_config('idle_in_transaction_session_timeout', '10s', true)"
)


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """The limits of a reservation; None: unlimited."""

    concurrency: int | None
    """Open jobs at the endpoint, over all listeners."""
    trigger_day_usd: float | None
    day_usd: float | None


@dataclass(frozen=True, slots=True)
class QuotaRefusal:
    """Why a job may not be sent now. A job whose estimate alone exceeds `limit` is refused every day."""

    reason: Literal["concurrency", "trigger_budget", "day_budget"]
    until: float
    """When to ask again, in epoch seconds."""
    spent: float
    """Open jobs for "concurrency", else US dollars paid or reserved."""
    limit: float
    """In the unit of `spent`."""


@dataclass(frozen=True, slots=True)
class Spending:
    """A day's spending, in US dollars."""

    paid: float = 0.0
    """Paid: the cost of jobs that ended."""
    reserved: float = 0.0
    """The estimates of open jobs."""

    @property
    def usd(self) -> float:
        return self.paid + self.reserved


def quota_refusal(
    estimate_usd: float, limits: QuotaLimits, *, open_jobs: int, trigger: Spending, day: Spending, now: float
) -> QuotaRefusal | None:
    """Returns why one more job must wait, or None. A job that costs nothing waits for no budget."""
    if limits.concurrency is not None and open_jobs >= limits.concurrency:
        return QuotaRefusal("concurrency", now + FULL_RETRY_S, open_jobs, limits.concurrency)
    if estimate_usd <= 0.0:
        return None
    if limits.trigger_day_usd is not None and trigger.usd + estimate_usd > limits.trigger_day_usd + _ROUNDING_USD:
        until = _retry_at(estimate_usd, trigger, limits.trigger_day_usd, now)
        return QuotaRefusal("trigger_budget", until, trigger.usd, limits.trigger_day_usd)
    if limits.day_usd is not None and day.usd + estimate_usd > limits.day_usd + _ROUNDING_USD:
        return QuotaRefusal("day_budget", _retry_at(estimate_usd, day, limits.day_usd, now), day.usd, limits.day_usd)
    return None


def next_day(now: float) -> float:
    return (now // DAY_S + 1) * DAY_S


def _retry_at(estimate_usd: float, spending: Spending, limit: float, now: float) -> float:
    if spending.paid + estimate_usd > limit + _ROUNDING_USD:
        return next_day(now)
    return min(next_day(now), now + RESERVED_RETRY_S)


class UsageCounter:
    """Counts jobs and sums spending within one transaction: reads them once, then updates them with each write."""

    def __init__(self, database: Database, db: sa.Connection) -> None:
        self.db = db
        self._database = database
        self._alone = db.dialect.name == "sqlite"
        self._jobs: dict[str, int] | None = None
        self._reserved: dict[str, float] = {}
        self._settled: dict[str, float] = {}
        self._day = -1

    def lock(self) -> None:
        """Locks out other listeners until the commit; to be called before the first write.

        On PostgreSQL the server ends a transaction that is idle for 10 s, and a wait for the lock fails after 10 s.
        """
        if self._alone:
            return
        self.db.execute(_LOCK_TIMEOUTS)
        self.db.execute(_LOCK)
        self._alone = True
        self.forget()

    def forget(self) -> None:
        """Drops the kept counts and sums, so that they are read again."""
        self._jobs, self._day = None, -1

    def open_jobs(self) -> Mapping[str, int]:
        """Returns the number of open jobs by endpoint."""
        return dict(self._open())

    def spending(self, now: float) -> Mapping[str, Spending]:
        """Returns the spending by trigger on the day of `now` (epoch seconds)."""
        self._open()
        paid, reserved = self._ended(int(now // DAY_S)), self._reserved
        triggers = sorted(paid.keys() | reserved.keys())
        return {name: Spending(paid.get(name, 0.0), reserved.get(name, 0.0)) for name in triggers}

    def reserve(self, row: JobRow, limits: QuotaLimits, now: float) -> QuotaRefusal | None:
        """Inserts `row` as intended unless a limit refuses it; replaces an entry that is only intended."""
        self.lock()
        self.release(row.entry, intended_only=True)
        if (refused := self._refusal(row, limits, now)) and not self._exists(row.entry):
            return refused
        insert = self._database.insert(jobs_table).on_conflict_do_nothing().returning(jobs_table.c.entry)
        if self.db.execute(insert, [{**asdict(row), "state": "intended", "day": 0}]).first() and self._jobs is not None:
            self._jobs[row.endpoint] = self._jobs.get(row.endpoint, 0) + 1
            self._reserved[row.trigger] = self._reserved.get(row.trigger, 0.0) + row.estimate_usd
        return None

    def release(self, entry: str, *, intended_only: bool = False) -> None:
        """Deletes an open job, with `intended_only` only an intended one, and frees what was reserved for it."""
        self.lock()
        for endpoint, trigger, estimate in self.db.execute(
            _TAKE_BACK_MEANT if intended_only else _TAKE_BACK, {"this": entry}
        ):
            self.count_end(endpoint, trigger, estimate, 0.0, day=0)

    def count_end(self, endpoint: str, trigger: str, estimate_usd: float, usd: float, day: int) -> None:
        """Updates counts and sums for a job that ended or was deleted."""
        if self._jobs is not None:
            self._jobs[endpoint] -= 1
            self._reserved[trigger] -= estimate_usd
        if day == self._day:
            self._settled[trigger] = self._settled.get(trigger, 0.0) + usd

    def _refusal(self, row: JobRow, limits: QuotaLimits, now: float) -> QuotaRefusal | None:
        if limits == QuotaLimits(None, None, None):
            return None
        spending = self.spending(now)
        day = Spending(sum(s.paid for s in spending.values()), sum(s.reserved for s in spending.values()))
        trigger = spending.get(row.trigger, Spending())
        jobs = self._open().get(row.endpoint, 0)
        return quota_refusal(row.estimate_usd, limits, open_jobs=jobs, trigger=trigger, day=day, now=now)

    def _exists(self, entry: str) -> bool:
        return self.db.execute(sa.select(sa.literal(1)).where(jobs_table.c.entry == entry)).first() is not None

    def _open(self) -> dict[str, int]:
        if self._jobs is None:
            self._jobs, self._reserved = {}, {}
            c = jobs_table.c
            query = sa.select(c.endpoint, c.trigger, sa.func.count(), sa.func.sum(c.estimate_usd))
            query = query.where(c.state.in_(OPEN)).group_by(c.endpoint, c.trigger)
            for endpoint, trigger, count, usd in self.db.execute(query):
                self._jobs[endpoint] = self._jobs.get(endpoint, 0) + count
                self._reserved[trigger] = self._reserved.get(trigger, 0.0) + usd
        return self._jobs

    def _ended(self, day: int) -> dict[str, float]:
        """Returns the US dollars paid on `day` by trigger."""
        if day != self._day:
            c = jobs_table.c
            query = sa.select(c.trigger, sa.func.sum(c.usd)).where(c.day == day).group_by(c.trigger)
            self._settled = {row[0]: row[1] for row in self.db.execute(query)}
            self._day = day
        return self._settled
