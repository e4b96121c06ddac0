"""What may be sent yet: jobs at an endpoint and money spent in a day, against their limits.

What is spent in a day (UTC) is what the jobs cost that ended on it, and the estimates of all that have not ended:
money is reserved before it is paid, so that jobs which keep to their estimates never pass a budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import sqlalchemy as sa

from listener.ledger.database import Database
from listener.ledger.job_rows import DAY_S, OPEN, JobRow, jobs_table

SOON_S = 2.0
"""When to ask again for a place at an endpoint that is full."""

SETTLING_S = 60.0
"""When to ask again for money that is only reserved: jobs end, and most cost less than their estimate."""

_DUST = 1e-9
"""Dollars; sums of the same prices in another order may differ by so little."""

RESERVED = (jobs_table.c.endpoint, jobs_table.c.trigger, jobs_table.c.estimate_usd)

_TAKE_BACK = (
    sa.delete(jobs_table)
    .where(jobs_table.c.entry == sa.bindparam("this"), jobs_table.c.state.in_(OPEN))
    .returning(*RESERVED)
)
_TAKE_BACK_MEANT = _TAKE_BACK.where(jobs_table.c.state == "intended")

_LOCK = sa.text("SELECT pg_advisory_xact_lock(7236828)")
_PATIENCE = sa.text(
    "SELECT set_config('lock_timeout', '10s', true), set_config('idle_in_transaction_session_timeout', '10s', true)"
)


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """What a reservation must not pass; None: anything. `concurrency` is the endpoint's, over all listeners."""

    concurrency: int | None
    trigger_day_usd: float | None
    day_usd: float | None


@dataclass(frozen=True, slots=True)
class QuotaRefusal:
    """Why a job may not be sent now. `until` (epoch seconds) is when to ask again.

    `spent` of `limit` are jobs for "concurrency", and else US dollars, of which some may only be reserved. A job whose
    estimate alone passes `limit` is refused every day.
    """

    reason: Literal["concurrency", "trigger_budget", "day_budget"]
    until: float
    spent: float
    limit: float


@dataclass(frozen=True, slots=True)
class Spending:
    """US dollars of a day: `settled` is paid, `reserved` the estimates of open jobs."""

    settled: float = 0.0
    reserved: float = 0.0

    @property
    def usd(self) -> float:
        return self.settled + self.reserved


def quota_refusal(
    estimate_usd: float, limits: QuotaLimits, *, open_jobs: int, trigger: Spending, day: Spending, now: float
) -> QuotaRefusal | None:
    """Why one more job must wait. A job that costs nothing waits for no budget."""
    if limits.concurrency is not None and open_jobs >= limits.concurrency:
        return QuotaRefusal("concurrency", now + SOON_S, open_jobs, limits.concurrency)
    if estimate_usd <= 0.0:
        return None
    if limits.trigger_day_usd is not None and trigger.usd + estimate_usd > limits.trigger_day_usd + _DUST:
        until = _again(estimate_usd, trigger, limits.trigger_day_usd, now)
        return QuotaRefusal("trigger_budget", until, trigger.usd, limits.trigger_day_usd)
    if limits.day_usd is not None and day.usd + estimate_usd > limits.day_usd + _DUST:
        return QuotaRefusal("day_budget", _again(estimate_usd, day, limits.day_usd, now), day.usd, limits.day_usd)
    return None


def next_day(now: float) -> float:
    return (now // DAY_S + 1) * DAY_S


def _again(estimate_usd: float, spending: Spending, limit: float, now: float) -> float:
    if spending.settled + estimate_usd > limit + _DUST:
        return next_day(now)
    return min(next_day(now), now + SETTLING_S)


class UsageCounter:
    """Counts and sums inside one transaction: asked of the database once, then kept by what the transaction does."""

    def __init__(self, database: Database, db: sa.Connection) -> None:
        self.db = db
        self._database = database
        self._alone = db.dialect.name == "sqlite"
        self._jobs: dict[str, int] | None = None
        self._reserved: dict[str, float] = {}
        self._settled: dict[str, float] = {}
        self._day = -1

    def writing(self) -> None:
        """Before the first write: from now on no other listener counts or reserves, until this is committed.

        A listener that stops in the middle is given up by the server, and one that waits gives up by itself.
        """
        if self._alone:
            return
        self.db.execute(_PATIENCE)
        self.db.execute(_LOCK)
        self._alone = True
        self.forget()

    def forget(self) -> None:
        """Something has changed that is not kept here: what is needed is asked again."""
        self._jobs, self._day = None, -1

    def open_jobs(self) -> Mapping[str, int]:
        """By endpoint."""
        return dict(self._open())

    def spending(self, now: float) -> Mapping[str, Spending]:
        """By trigger, on the day of `now`."""
        self._open()
        settled, reserved = self._ended(int(now // DAY_S)), self._reserved
        triggers = sorted(settled.keys() | reserved.keys())
        return {name: Spending(settled.get(name, 0.0), reserved.get(name, 0.0)) for name in triggers}

    def reserve(self, row: JobRow, limits: QuotaLimits, now: float) -> QuotaRefusal | None:
        self.writing()
        self.take_back(row.entry, meant=True)
        if (refused := self._refusal(row, limits, now)) and not self._there(row.entry):
            return refused
        insert = self._database.insert(jobs_table).on_conflict_do_nothing().returning(jobs_table.c.entry)
        if self.db.execute(insert, [{**asdict(row), "state": "intended", "day": 0}]).first() and self._jobs is not None:
            self._jobs[row.endpoint] = self._jobs.get(row.endpoint, 0) + 1
            self._reserved[row.trigger] = self._reserved.get(row.trigger, 0.0) + row.estimate_usd
        return None

    def take_back(self, entry: str, *, meant: bool = False) -> None:
        """Deletes a job that is open, or with `meant` only one that was not sent; what was reserved for it is free."""
        self.writing()
        for endpoint, trigger, estimate in self.db.execute(_TAKE_BACK_MEANT if meant else _TAKE_BACK, {"this": entry}):
            self.closed(endpoint, trigger, estimate, 0.0, day=0)

    def closed(self, endpoint: str, trigger: str, estimate_usd: float, usd: float, day: int) -> None:
        """A job has ended, or was not sent after all."""
        if self._jobs is not None:
            self._jobs[endpoint] -= 1
            self._reserved[trigger] -= estimate_usd
        if day == self._day:
            self._settled[trigger] = self._settled.get(trigger, 0.0) + usd

    def _refusal(self, row: JobRow, limits: QuotaLimits, now: float) -> QuotaRefusal | None:
        if limits == QuotaLimits(None, None, None):
            return None
        spending = self.spending(now)
        day = Spending(sum(s.settled for s in spending.values()), sum(s.reserved for s in spending.values()))
        trigger = spending.get(row.trigger, Spending())
        jobs = self._open().get(row.endpoint, 0)
        return quota_refusal(row.estimate_usd, limits, open_jobs=jobs, trigger=trigger, day=day, now=now)

    def _there(self, entry: str) -> bool:
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
        """US dollars by trigger."""
        if day != self._day:
            c = jobs_table.c
            query = sa.select(c.trigger, sa.func.sum(c.usd)).where(c.day == day).group_by(c.trigger)
            self._settled = {row[0]: row[1] for row in self.db.execute(query)}
            self._day = day
        return self._settled
