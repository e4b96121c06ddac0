"""The ledger of input waits: runs that wait for inputs outside the engine, for which objects, and until when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from listener.fairness import Turns
from listener.ledger.database import Database, in_chunks, tables
from listener.ledger.inbox import ShareCounts, claim_fairly
from listener.ledger.run_rows import ENDED, RunRow, runs_table

awaited_table = sa.Table(
    "gpudrop_awaited",
    tables,
    sa.Column("bucket", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Index("gpudrop_awaited_by_run", "run_id"),
)

LEASE_S = 30.0
"""Seconds for which a run that is being examined is nobody else's."""
MAX_PAUSE_S = 120.0
"""No examination is put off for longer, in seconds; one that seems so was put off before the clock was set back."""

_c = runs_table.c
_WAITS = (_c.state == "waiting", _c.member == "")
_COUNTS = ShareCounts(_c.share, _WAITS, (_c.due <= sa.bindparam("now"), _c.due > sa.bindparam("never")))


@dataclass(frozen=True, slots=True)
class InputWait:
    """What a run waits for."""

    run_id: str
    objects: tuple[tuple[str, str], ...]
    """(bucket, key) of each."""
    note: str
    """The same in words."""
    due: float
    """When the objects are looked up, in epoch seconds."""


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A run that waits."""

    row: RunRow
    objects: tuple[tuple[str, str], ...]
    """(bucket, key) of what it lacked when the engine last executed it."""


class InputWaitLedger:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = Turns()

    async def begin(self, waits: Sequence[InputWait], member: str) -> None:
        """Sets runs of `member` waiting. A run that is to end is due at once; one that has ended stays as it is."""

        def work() -> None:
            with self._database.begin() as db:
                for wait in waits:
                    due = sa.case((_c.cancel == "", wait.due), else_=0.0)
                    query = sa.update(runs_table).where(_c.run_id == wait.run_id, _c.member == member)
                    query = query.where(_c.state.not_in(ENDED))
                    moved = query.values(state="waiting", member="", note=wait.note, due=due)
                    if db.execute(moved.returning(_c.run_id)).first() is None:
                        continue
                    db.execute(sa.delete(awaited_table).where(awaited_table.c.run_id == wait.run_id))
                    rows = [{"bucket": b, "key": k, "run_id": wait.run_id} for b, k in sorted(set(wait.objects))]
                    if rows:
                        db.execute(sa.insert(awaited_table), rows)

        await self._database.call(work, many=True)

    async def objects_arrived(self, objects: Sequence[tuple[str, str]]) -> int:
        """Makes the runs due that wait for one of these objects (bucket, key); returns their number."""
        # One statement a run: for a list of pairs, or of ids beside a state, SQLite reads all rows.
        hurry = sa.update(runs_table).where(*_WAITS, _c.run_id == sa.bindparam("id"), _c.due != 0.0).values(due=0.0)

        def work() -> int:
            waiting: set[str] = set()
            with self._database.begin() as db:
                for bucket in {bucket for bucket, _ in objects}:
                    for chunk in in_chunks(sorted(key for of, key in objects if of == bucket)):
                        at = (awaited_table.c.bucket == bucket, awaited_table.c.key.in_(chunk))
                        waiting.update(row[0] for row in db.execute(sa.select(awaited_table.c.run_id).where(*at)))
                rows = [{"id": run_id} for run_id in sorted(waiting)]
                return db.execute(hurry, rows).rowcount if rows else 0

        return await self._database.call(work, many=True)

    async def due(self, limit: int, now: float) -> list[WaitingRun]:
        """Leases up to `limit` runs that are due at `now` (epoch seconds) to the caller for LEASE_S.

        Shares take turns; within a share the run that has been due longest comes first.
        """
        where = (*_WAITS, sa.or_(_c.due <= now, _c.due > now + MAX_PAUSE_S))

        def work() -> list[WaitingRun]:
            rows: list[RunRow] = []
            objects: dict[str, list[tuple[str, str]]] = {}
            with self._database.begin() as db:

                def take(share: str, count: int) -> int:
                    first = sa.select(_c.run_id).where(*where, _c.share == share).order_by(_c.due).limit(count)
                    ids = [row[0] for row in db.execute(first.with_for_update(skip_locked=True))]
                    leased = sa.update(runs_table).where(_c.run_id.in_(ids)).values(due=now + LEASE_S)
                    if ids:
                        rows.extend(RunRow(**row) for row in db.execute(leased.returning(runs_table)).mappings())
                    return len(ids)

                waiting = _COUNTS.of(db, limit, now=now, never=now + MAX_PAUSE_S)
                claim_fairly(waiting, limit, (), self._turns, take)
                for chunk in in_chunks([row.run_id for row in rows]):
                    for row in db.execute(sa.select(awaited_table).where(awaited_table.c.run_id.in_(chunk))):
                        objects.setdefault(row.run_id, []).append((row.bucket, row.key))
            return [WaitingRun(row, tuple(objects.get(row.run_id, ()))) for row in rows]

        return await self._database.call(work, many=True)

    async def record_examined(self, start: Mapping[str, Any], later: Mapping[str, float]) -> None:
        """Records the result of an examination: `start` maps runs to accept to their requests, `later` others to due.

        Accepted runs start from the top. A run of `later` that was made due meanwhile stays due at once.
        """

        def work() -> None:
            with self._database.begin() as db:
                told = sa.update(runs_table).where(*_WAITS, _c.run_id == sa.bindparam("id"))
                told = told.values(state="accepted", note="", due=0.0, request=sa.bindparam("asked"))
                for chunk in in_chunks(sorted(start)):
                    db.execute(told, [{"id": run_id, "asked": start[run_id]} for run_id in chunk])
                    db.execute(sa.delete(awaited_table).where(awaited_table.c.run_id.in_(chunk)))
                put_off = sa.update(runs_table).where(*_WAITS, _c.run_id == sa.bindparam("id"), _c.due != 0.0)
                rows = [{"id": run_id, "at": due} for run_id, due in sorted(later.items())]
                if rows:
                    db.execute(put_off.values(due=sa.bindparam("at")), rows)

        await self._database.call(work, many=True)

    async def count(self) -> int:
        """Counts the runs that wait for their inputs."""

        def work() -> int:
            with self._database.begin() as db:
                return db.execute(sa.select(sa.func.count()).select_from(runs_table).where(*_WAITS)).scalar_one()

        return await self._database.call(work)

    async def tidy(self) -> None:
        """Deletes the awaited objects of runs that do not wait."""
        waiting = sa.select(_c.run_id).where(*_WAITS)

        def work() -> None:
            with self._database.begin() as db:
                db.execute(sa.delete(awaited_table).where(awaited_table.c.run_id.not_in(waiting)))

        await self._database.call(work, many=True)
