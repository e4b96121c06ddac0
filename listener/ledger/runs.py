"""Runs, as `gpudrop status` shows them, and the commands other processes leave for the listener."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa

from listener.ledger.database import Database, tables

RunState = Literal["accepted", "waiting", "queued", "running", "writing", "done", "failed", "cancelled", "superseded"]
EndReason = Literal["cancelled", "superseded"]
ENDED: frozenset[RunState] = frozenset({"done", "failed", "cancelled", "superseded"})

_runs = sa.Table(
    "gpudrop_runs",
    tables,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("bucket", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("trigger", sa.Text, nullable=False),
    sa.Column("operation", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("error_code", sa.Text, nullable=False),
    sa.Column("cancel", sa.Text, nullable=False),
    sa.Column("accepted", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Index("gpudrop_runs_by_key", "bucket", "key"),
    sa.Index("gpudrop_runs_by_time", "accepted"),
)
_redrives = sa.Table(
    "gpudrop_redrives",
    tables,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run. Times are seconds since the epoch; `request` is what the engine was given, as JSON data."""

    run_id: str
    bucket: str
    key: str
    trigger: str
    state: RunState
    accepted: float
    updated: float
    request: Any
    operation: str = ""
    error_code: str = ""
    cancel: str = ""

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class RunLedger:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: RunRow) -> bool:
        """Whether the run is new; one that is there already is left as it is."""

        def work() -> bool:
            with self._database.begin() as db:
                if db.execute(sa.select(_runs.c.run_id).where(_runs.c.run_id == row.run_id)).first():
                    return False
                db.execute(sa.insert(_runs).values(**asdict(row)))
                return True

        return await self._database.call(work)

    async def update(
        self, run_id: str, *, state: RunState, at: float, operation: str = "", error_code: str = ""
    ) -> None:
        """Moves a run on; one that has ended stays as it is. An empty `operation` keeps the one recorded."""
        values: dict[str, Any] = {"state": state, "updated": at, "error_code": error_code}
        if operation:
            values["operation"] = operation

        def work() -> None:
            with self._database.begin() as db:
                query = sa.update(_runs).where(_runs.c.run_id == run_id, _runs.c.state.not_in(ENDED))
                db.execute(query.values(**values))

        await self._database.call(work)

    async def find(self, run_id: str) -> RunRow | None:
        rows = await self._rows(sa.select(_runs).where(_runs.c.run_id == run_id))
        return rows[0] if rows else None

    async def of(self, bucket: str, key: str) -> list[RunRow]:
        """Every run of one key, newest first."""
        query = sa.select(_runs).where(_runs.c.bucket == bucket, _runs.c.key == key)
        return await self._rows(query.order_by(_runs.c.accepted.desc()))

    async def recent(self, limit: int) -> list[RunRow]:
        return await self._rows(sa.select(_runs).order_by(_runs.c.accepted.desc()).limit(limit))

    async def unfinished(self) -> list[RunRow]:
        return await self._rows(sa.select(_runs).where(_runs.c.state.not_in(ENDED)).order_by(_runs.c.accepted))

    async def matching(self, text: str) -> list[RunRow]:
        """Runs whose id starts with `text`, or whose key is it or ends with it, newest first."""
        found = sa.or_(
            _runs.c.run_id.startswith(text, autoescape=True),
            _runs.c.key == text,
            _runs.c.key.endswith("/" + text, autoescape=True),
        )
        return await self._rows(sa.select(_runs).where(found).order_by(_runs.c.accepted.desc()).limit(100))

    async def forget(self, before: float) -> None:
        """Deletes runs that ended and were last heard of before `before`."""

        def work() -> None:
            with self._database.begin() as db:
                db.execute(sa.delete(_runs).where(_runs.c.state.in_(ENDED), _runs.c.updated < before))

        await self._database.call(work)

    async def request_end(self, run_id: str, reason: EndReason) -> None:
        def work() -> None:
            with self._database.begin() as db:
                active = sa.and_(_runs.c.run_id == run_id, _runs.c.cancel == "", _runs.c.state.not_in(ENDED))
                db.execute(sa.update(_runs).where(active).values(cancel=reason))

        await self._database.call(work)

    async def ends_requested(self) -> dict[str, str]:
        """Unfinished runs that are to end, with the reason."""
        rows = await self._rows(sa.select(_runs).where(_runs.c.cancel != "", _runs.c.state.not_in(ENDED)))
        return {row.run_id: row.cancel for row in rows}

    async def request_redrive(self, run_id: str) -> None:
        def work() -> None:
            with self._database.begin() as db:
                db.execute(sa.insert(_redrives).values(run_id=run_id))

        await self._database.call(work)

    async def redrives(self) -> list[tuple[int, str]]:
        """Requests not yet answered: their number and run id, in order."""

        def work() -> list[tuple[int, str]]:
            with self._database.begin() as db:
                query = sa.select(_redrives.c.number, _redrives.c.run_id).order_by(_redrives.c.number)
                return [(row[0], row[1]) for row in db.execute(query)]

        return await self._database.call(work)

    async def redriven(self, number: int) -> None:
        def work() -> None:
            with self._database.begin() as db:
                db.execute(sa.delete(_redrives).where(_redrives.c.number == number))

        await self._database.call(work)

    async def _rows(self, query: sa.Select[Any]) -> list[RunRow]:
        def work() -> list[RunRow]:
            with self._database.begin() as db:
                return [RunRow(**row) for row in db.execute(query).mappings()]

        return await self._database.call(work)
