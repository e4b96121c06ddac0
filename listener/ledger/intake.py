"""Commits what intake decided about keys in one transaction: new runs, versions taken in, inbox entries removed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from listener.ledger.database import Database, in_chunks
from listener.ledger.inbox import AT, InboxEntry, inbox_table
from listener.ledger.objects import UNSEEN, SeenVersion, outputs_table, seen_table
from listener.ledger.ownership import assign_sidecar_names, release_names
from listener.ledger.run_rows import ENDED, RunRow, runs_table
from listener.triggers.triggers import WrittenKeys


@dataclass(frozen=True, slots=True)
class KnownObject:
    """What the ledger knows of one key."""

    seen: SeenVersion = UNSEEN
    """The version taken in last."""
    written: WrittenKeys | None = None
    """What a run wrote under the key, or claimed to write."""
    unfinished: tuple[RunRow, ...] = ()
    """The key's runs that have not ended."""


@dataclass(frozen=True, slots=True)
class IntakeDecision:
    """What intake decided about one inbox entry."""

    entry: InboxEntry
    seen: SeenVersion | None = None
    """The version to record as taken in; one without a fingerprint: the object is gone."""
    run: RunRow | None = None
    """The run to record; if it is new, it supersedes the key's unfinished runs."""
    rerun: RunRow | None = None
    """The run to record if `run` is on record already."""
    cancel: tuple[str, ...] = ()
    """Ids of runs to cancel."""
    known: SeenVersion | None = None
    """The version on record when the decision was made; None: the decision does not depend on it."""


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """What a commit of decisions did."""

    started: tuple[RunRow, ...]
    """The new runs."""
    superseded: tuple[str, ...]
    """Ids of the runs that end because of the new ones."""
    stale: frozenset[tuple[str, str]] = frozenset()
    """Keys (bucket, key) of which another version was recorded since the decision; they wait in the inbox again."""


class IntakeLedger:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, bucket: str, keys: Sequence[str]) -> dict[str, KnownObject]:
        """Returns what is known of each key; keys of which nothing is known are absent."""

        def work() -> dict[str, KnownObject]:
            seen: dict[str, SeenVersion] = {}
            written: dict[str, WrittenKeys] = {}
            unfinished: dict[str, list[RunRow]] = {}
            with self._database.begin() as db:
                for chunk in in_chunks(keys):
                    seen.update((row.key, _seen(row)) for row in db.execute(_of(seen_table, bucket, chunk)))
                    for row in db.execute(_of(outputs_table, bucket, chunk)):
                        written[row.key] = WrittenKeys(row.run_id, row.lineage, row.fingerprint)
                    active = _of(runs_table, bucket, chunk).where(runs_table.c.state.not_in(ENDED))
                    for row in db.execute(active).mappings():
                        unfinished.setdefault(row["key"], []).append(RunRow(**row))
            there = seen.keys() | written.keys() | unfinished.keys()
            return {k: KnownObject(seen.get(k, UNSEEN), written.get(k), tuple(unfinished.get(k, ()))) for k in there}

        return await self._database.call(work, many=True)

    async def commit(self, decisions: Sequence[IntakeDecision], *, reason: str) -> IntakeResult:
        """Commits the decisions in one transaction. `reason` is recorded for the runs in their `cancel`.

        An entry that was reported again meanwhile is not removed: it waits for a claim again.
        """

        def work() -> IntakeResult:
            with self._database.begin() as db:
                stale = _stale(db, decisions)
                fit = [s for s in decisions if s.entry.at not in stale]
                self._record_seen(db, fit)
                started = self._record(db, fit)
                superseded = _supersede(db, started)
                _end(db, [run_id for s in fit for run_id in s.cancel], reason)
                _remove(db, [s.entry for s in fit])
                _put_back(db, stale)
            return IntakeResult(tuple(started), superseded, frozenset(stale))

        return await self._database.call(work, many=True)

    async def add_redrive(self, run: RunRow) -> bool:
        """Records a redriven run; returns whether it is new."""

        def work() -> bool:
            with self._database.begin() as db:
                return bool(self._insert(db, assign_sidecar_names(self._database, db, [run])))

        return await self._database.call(work)

    def _record_seen(self, db: sa.Connection, decisions: Sequence[IntakeDecision]) -> None:
        known = [s for s in decisions if s.seen and s.seen != UNSEEN]
        rows = [{**_key_columns(s.entry), **asdict(s.seen), "listed": ""} for s in known if s.seen]
        self._database.upsert(db, seen_table, rows)
        gone = [s for s in decisions if s.seen and not s.seen.fingerprint]
        for event in (s.entry.event for s in gone):
            for table in (seen_table, outputs_table):
                # A key that is claimed and not written yet has no version, and stays the run's.
                there = sa.and_(table.c.bucket == event.bucket, table.c.key == event.key)
                db.execute(sa.delete(table).where(there, table.c.fingerprint != ""))
            release_names(db, event.bucket, [event.key])
        for event in (s.entry.event for s in gone if s.seen == UNSEEN):
            there = sa.and_(seen_table.c.bucket == event.bucket, seen_table.c.key == event.key)
            db.execute(sa.delete(seen_table).where(there))

    def _record(self, db: sa.Connection, decisions: Sequence[IntakeDecision]) -> list[RunRow]:
        runs = [s.run for s in decisions if s.run]
        if not runs:
            return []
        started = self._insert(db, assign_sidecar_names(self._database, db, runs))
        ids = {run.run_id for run in started}
        others = [s.rerun for s in decisions if s.run and s.run.run_id not in ids and s.rerun]
        return started + self._insert(db, assign_sidecar_names(self._database, db, others)) if others else started

    def _insert(self, db: sa.Connection, rows: Sequence[RunRow]) -> list[RunRow]:
        """Inserts `rows` and returns those that are new."""
        insert = self._database.insert(runs_table).on_conflict_do_nothing().returning(runs_table.c.run_id)
        rows = sorted(rows, key=lambda row: row.run_id)
        new = {row[0] for row in db.execute(insert, [_values(row) for row in rows])}
        return [row for row in rows if row.run_id in new]


def _stale(db: sa.Connection, decisions: Sequence[IntakeDecision]) -> set[tuple[str, str]]:
    """Returns keys of which another version was recorded since the decision, as by a listener that was thought gone.

    Locks the keys' rows in the inbox, so that no other listener commits decisions about them meanwhile.
    """
    judged = {s.entry.at: s.known for s in decisions if s.known is not None}
    found: dict[tuple[str, str], SeenVersion] = {}
    for bucket in {at[0] for at in judged}:
        for chunk in in_chunks(sorted(key for of, key in judged if of == bucket)):
            db.execute(_of(inbox_table, bucket, chunk).order_by(inbox_table.c.key).with_for_update()).all()
            found.update(((bucket, row.key), _seen(row)) for row in db.execute(_of(seen_table, bucket, chunk)))
    return {at for at, before in judged.items() if found.get(at, UNSEEN) != before}


def _supersede(db: sa.Connection, runs: Sequence[RunRow]) -> tuple[str, ...]:
    """Requests the end of the unfinished runs of the same keys; returns their ids."""
    new = {run.run_id for run in runs}
    older: list[str] = []
    for bucket in {run.bucket for run in runs}:
        for keys in in_chunks([run.key for run in runs if run.bucket == bucket]):
            active = _of(runs_table, bucket, keys).where(runs_table.c.state.not_in(ENDED))
            older += [row[0] for row in db.execute(active.with_only_columns(runs_table.c.run_id)) if row[0] not in new]
    _end(db, older, "superseded")
    return tuple(older)


def _end(db: sa.Connection, run_ids: Sequence[str], reason: str) -> None:
    """Requests the end of runs; "superseded" overrides another reason, because such a run may write nothing more."""
    open_ = runs_table.c.cancel != reason if reason == "superseded" else runs_table.c.cancel == ""
    for chunk in in_chunks(run_ids):
        active = sa.and_(runs_table.c.run_id.in_(chunk), open_, runs_table.c.state.not_in(ENDED))
        db.execute(sa.update(runs_table).where(active).values(cancel=reason, due=0.0))


def _remove(db: sa.Connection, items: Sequence[InboxEntry]) -> None:
    done = [
        {"b": i.event.bucket, "k": i.event.key, "g": i.generation} for i in sorted(items, key=lambda entry: entry.at)
    ]
    if not done:
        return
    untold = inbox_table.c.generation == sa.bindparam("g")
    if db.execute(sa.delete(inbox_table).where(*AT, untold), done).rowcount != len(done):
        db.execute(sa.update(inbox_table).where(*AT, sa.not_(untold)).values(member=""), done)


def _put_back(db: sa.Connection, keys: Collection[tuple[str, str]]) -> None:
    for bucket, key in sorted(keys):
        there = sa.and_(inbox_table.c.bucket == bucket, inbox_table.c.key == key)
        db.execute(sa.update(inbox_table).where(there).values(member=""))


def _seen(row: sa.Row[Any]) -> SeenVersion:
    return SeenVersion(row.fingerprint, row.version, row.moment, row.exact)


def _key_columns(entry: InboxEntry) -> dict[str, str]:
    return {"bucket": entry.event.bucket, "key": entry.event.key}


def _of(table: sa.Table, bucket: str, keys: Sequence[str]) -> sa.Select[Any]:
    return sa.select(table).where(table.c.bucket == bucket, table.c.key.in_(keys))


def _values(row: RunRow) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in runs_table.columns}
