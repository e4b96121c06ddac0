"""Redrives: requests to run a drop again, which other processes leave for the listener."""

from __future__ import annotations

import sqlalchemy as sa

from listener.ledger.database import Database, tables

_redrives = sa.Table(
    "gpudrop_redrives",
    tables,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.Text, nullable=False),
    # Without it SQLite reuses a deleted number, and the same number gives the same run id.
    sqlite_autoincrement=True,
)


class RedriveLedger:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(self, run_id: str) -> None:
        def work() -> None:
            with self._database.begin() as db:
                db.execute(sa.insert(_redrives).values(run_id=run_id))

        await self._database.call(work)

    async def requested(self) -> list[tuple[int, str]]:
        """Returns number and run id of the open requests, in order."""

        def work() -> list[tuple[int, str]]:
            with self._database.begin() as db:
                query = sa.select(_redrives.c.number, _redrives.c.run_id).order_by(_redrives.c.number)
                return [(row[0], row[1]) for row in db.execute(query)]

        return await self._database.call(work)

    async def answered(self, number: int) -> None:
        def work() -> None:
            with self._database.begin() as db:
                db.execute(sa.delete(_redrives).where(_redrives.c.number == number))

        await self._database.call(work)
