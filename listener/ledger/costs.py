"""Costs of jobs, summed by day, trigger, operation, endpoint or run, and today's spending."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from listener.ledger.database import Database
from listener.ledger.job_rows import DAY_S, jobs_table
from listener.ledger.quotas import Spending, UsageCounter

By = Literal["day", "trigger", "operation", "endpoint", "run"]

_c = jobs_table.c
_COLUMNS: dict[By, sa.Column[Any]] = {
    "day": _c.day,
    "trigger": _c.trigger,
    "operation": _c.operation,
    "endpoint": _c.endpoint,
    "run": _c.run_id,
}


@dataclass(frozen=True, slots=True)
class CostRow:
    """The jobs of one group that have ended."""

    name: str
    """The group: a day ("2026-11-21", UTC), a trigger, an operation, an endpoint or a run's id."""
    jobs: int
    seconds: float
    """Execution time."""
    usd: float
    key: str = ""
    """The key of the run's drop; "" unless grouped by run."""


@dataclass(frozen=True, slots=True)
class TodaysCosts:
    """Today's spending (UTC) and the jobs that are open."""

    open_jobs: int
    triggers: Mapping[str, Spending]
    """By trigger, for those with jobs that are open or ended today."""

    @property
    def all(self) -> Spending:
        each = self.triggers.values()
        return Spending(sum((s.paid for s in each), 0.0), sum((s.reserved for s in each), 0.0))


class CostLedger:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def costs(self, by: By, *, days: int, now: float) -> list[CostRow]:
        """Sums the last `days` days (UTC), today included; in order of the day, else the dearest first."""
        column = _COLUMNS[by]
        key = sa.func.min(_c.key) if by == "run" else sa.literal("")
        sums = (sa.func.count(), sa.func.sum(_c.execution_ms), sa.func.sum(_c.usd), key)
        query = sa.select(column, *sums).where(_c.day > int(now // DAY_S) - days).group_by(column)
        order = (column,) if by == "day" else (sa.func.sum(_c.usd).desc(), column)

        def work() -> list[CostRow]:
            with self._database.begin() as db:
                return [
                    CostRow(_day(row[0]) if by == "day" else row[0], row[1], float(row[2]) / 1000.0, row[3], row[4])
                    for row in db.execute(query.order_by(*order))
                ]

        return await self._database.call(work)

    async def today(self, now: float) -> TodaysCosts:
        def work() -> TodaysCosts:
            with self._database.begin() as db:
                usage_counter = UsageCounter(self._database, db)
                return TodaysCosts(sum(usage_counter.open_jobs().values()), usage_counter.spending(now))

        return await self._database.call(work)


def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_S, UTC).strftime("%Y-%m-%d")
