"""What looking at keys came to, recorded whole: runs, versions taken in, and the inbox emptied, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from listener.ledger.database import Database, chunks
from listener.ledger.inbox import Item, inbox_table
from listener.ledger.objects import outputs_table, seen_table
from listener.ledger.runs import ENDED, RunRow, runs_table
from listener.triggers import Written


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of a key: the version taken in last, what a run wrote there, its unfinished runs."""

    seen: str = ""
    written: Written | None = None
    unfinished: tuple[RunRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a look came to. `fingerprint`: this version is taken in now; "": nothing is there, forget what was.

    `cancel` are runs that are to end, with `reason`. `run`, when it is new, supersedes the key's unfinished runs.
    """

    item: Item
    fingerprint: str | None = None
    run: RunRow | None = None
    cancel: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """`started` are the ids of runs that are new; `superseded` those that end because of them."""

    started: frozenset[str]
    superseded: tuple[str, ...]


class Settling:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, bucket: str, keys: Sequence[str]) -> dict[str, Known]:
        """What the ledger knows of each key it knows anything of."""

        def work() -> dict[str, Known]:
            seen: dict[str, str] = {}
            written: dict[str, Written] = {}
            unfinished: dict[str, list[RunRow]] = {}
            with self._database.begin() as db:
                for chunk in chunks(keys):
                    seen.update((row.key, row.fingerprint) for row in db.execute(_of(seen_table, bucket, chunk)))
                    for row in db.execute(_of(outputs_table, bucket, chunk)):
                        written[row.key] = Written(row.run_id, row.lineage, row.fingerprint)
                    active = _of(runs_table, bucket, chunk).where(runs_table.c.state.not_in(ENDED))
                    for row in db.execute(active).mappings():
                        unfinished.setdefault(row["key"], []).append(RunRow(**row))
            there = seen.keys() | written.keys() | unfinished.keys()
            return {k: Known(seen.get(k, ""), written.get(k), tuple(unfinished.get(k, ()))) for k in there}

        return await self._database.call(work)

    async def settle(self, settlements: Sequence[Settlement], *, reason: str) -> Settled:
        """All in one transaction: runs recorded, versions taken in, keys done with. `reason` is that of `cancel`.

        A key that was told of again meanwhile goes back to those that wait.
        """

        def work() -> Settled:
            with self._database.begin() as db:
                started = self._record(db, [s.run for s in settlements if s.run])
                superseded = _supersede(db, [s.run for s in settlements if s.run and s.run.run_id in started])
                _end(db, [run_id for s in settlements for run_id in s.cancel], reason)
                seen = [(s.item.told, s.fingerprint) for s in settlements if s.fingerprint]
                rows = [{"bucket": t.bucket, "key": t.key, "fingerprint": print_} for t, print_ in seen]
                self._database.upsert(db, seen_table, rows)
                for told in (s.item.told for s in settlements if s.fingerprint == ""):
                    for table in (seen_table, outputs_table):
                        # What a run is only about to write has no version yet, and stays the run's.
                        there = sa.and_(table.c.bucket == told.bucket, table.c.key == told.key)
                        db.execute(sa.delete(table).where(there, table.c.fingerprint != ""))
                _remove(db, [s.item for s in settlements])
            return Settled(started, superseded)

        return await self._database.call(work)

    def _record(self, db: sa.Connection, rows: Sequence[RunRow]) -> frozenset[str]:
        if not rows:
            return frozenset()
        insert = self._database.insert(runs_table).on_conflict_do_nothing().returning(runs_table.c.run_id)
        return frozenset(
            row[0] for row in db.execute(insert, [_values(row) for row in sorted(rows, key=lambda row: row.run_id)])
        )


def _supersede(db: sa.Connection, runs: Sequence[RunRow]) -> tuple[str, ...]:
    """Ends the unfinished runs of the same keys."""
    new = {run.run_id for run in runs}
    older: list[str] = []
    for bucket in {run.bucket for run in runs}:
        for keys in chunks([run.key for run in runs if run.bucket == bucket]):
            active = _of(runs_table, bucket, keys).where(runs_table.c.state.not_in(ENDED))
            older += [row[0] for row in db.execute(active.with_only_columns(runs_table.c.run_id)) if row[0] not in new]
    _end(db, older, "superseded")
    return tuple(older)


def _end(db: sa.Connection, run_ids: Sequence[str], reason: str) -> None:
    """Whatever else a run is to end for, being superseded comes first: then nothing is written for it any more."""
    open_ = runs_table.c.cancel != reason if reason == "superseded" else runs_table.c.cancel == ""
    for chunk in chunks(run_ids):
        active = sa.and_(runs_table.c.run_id.in_(chunk), open_, runs_table.c.state.not_in(ENDED))
        db.execute(sa.update(runs_table).where(active).values(cancel=reason))


def _remove(db: sa.Connection, items: Sequence[Item]) -> None:
    done = [{"b": i.told.bucket, "k": i.told.key, "g": i.generation} for i in sorted(items, key=_at)]
    if not done:
        return
    same = (inbox_table.c.bucket == sa.bindparam("b"), inbox_table.c.key == sa.bindparam("k"))
    untold = inbox_table.c.generation == sa.bindparam("g")
    if db.execute(sa.delete(inbox_table).where(*same, untold), done).rowcount != len(done):
        db.execute(sa.update(inbox_table).where(*same, sa.not_(untold)).values(member=""), done)


def _at(item: Item) -> tuple[str, str]:
    return item.told.bucket, item.told.key


def _of(table: sa.Table, bucket: str, keys: Sequence[str]) -> sa.Select[Any]:
    return sa.select(table).where(table.c.bucket == bucket, table.c.key.in_(keys))


def _values(row: RunRow) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in runs_table.columns}
