"""Ownership: which drop each output key and each sidecar name belongs to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import sqlalchemy as sa

from listener.ledger.database import Database, in_chunks, tables
from listener.ledger.objects import UNFINISHED, outputs_table, seen_table
from listener.ledger.run_rows import ENDED, RunRow, runs_table
from manifests.names import namesakes, sidecar_names


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """The run that keys are claimed for."""

    run_id: str
    owner: str
    """The key of the run's drop."""
    lineage: int
    """How many runs' outputs led to the drop; 0 for a user's drop."""


@dataclass(frozen=True, slots=True)
class OwnedKey:
    """A key that belongs to another drop: an output of its run, or the drop itself."""

    key: str
    owner: str
    """The key of that drop; equal to `key` if the key is the drop itself."""
    run_id: str = ""
    open: bool = False
    """Whether the run has not ended."""
    ending: bool = False
    """Whether the run was asked to end."""


class OutputOwners:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, bucket: str, keys: Iterable[str], claim: KeyClaim, *, free: Sequence[OwnedKey] = ()
    ) -> tuple[OwnedKey, ...]:
        """Claims all of `keys` for the run, or none; returns those that belong to other drops.

        To be called before the first write: what appears under the keys until `record_written` is then the run's.
        `free` are owners that the caller found to be gone; their unchanged rows are deleted first.
        """
        wanted = sorted(dict.fromkeys(keys))

        def work() -> tuple[OwnedKey, ...]:
            with self._database.begin() as db:
                for each in free:
                    db.execute(sa.delete(outputs_table).where(_is(bucket, each)))
                row = {"bucket": bucket, **asdict(claim), "fingerprint": ""}
                insert = self._database.insert(outputs_table)
                mine = sa.or_(outputs_table.c.owner == "", outputs_table.c.owner == insert.excluded.owner)
                rest = {name: insert.excluded[name] for name in row if name != "bucket"}
                query = insert.on_conflict_do_update(index_elements=["bucket", "key"], set_=rest, where=mine)
                before = _own(db, bucket, wanted, claim.owner)
                got = {
                    row[0]
                    for row in db.execute(query.returning(outputs_table.c.key), [{**row, "key": k} for k in wanted])
                }
                gone = {each.key for each in free}
                taken = _owned(db, bucket, [key for key in wanted if key not in got])
                taken += _drops(db, bucket, [key for key in got if key not in before and key not in gone])
                if taken:
                    db.rollback()
            return tuple(taken)

        return await self._database.call(work) if wanted else ()


def _own(db: sa.Connection, bucket: str, keys: Sequence[str], owner: str) -> set[str]:
    c = outputs_table.c
    query = sa.select(c.key).where(c.bucket == bucket, c.key.in_(keys), c.owner == owner)
    return {row[0] for row in db.execute(query)}


def _owned(db: sa.Connection, bucket: str, keys: Sequence[str]) -> list[OwnedKey]:
    """Returns those of `keys` that are outputs of runs, with the state of each run."""
    c = outputs_table.c
    of_run = sa.outerjoin(outputs_table, runs_table, c.run_id == runs_table.c.run_id)
    query = sa.select(c.key, c.owner, c.run_id, runs_table.c.state, runs_table.c.cancel).select_from(of_run)
    rows = db.execute(query.where(c.bucket == bucket, c.key.in_(keys)).order_by(c.key))
    return [
        OwnedKey(row.key, row.owner, row.run_id, open=row.state in UNFINISHED, ending=bool(row.cancel)) for row in rows
    ]


def _drops(db: sa.Connection, bucket: str, keys: Sequence[str]) -> list[OwnedKey]:
    """Returns those of `keys` that are drops: versions of them started runs."""
    c = seen_table.c
    query = sa.select(c.key).where(c.bucket == bucket, c.key.in_(keys), c.fingerprint != "", c.version != "")
    return [OwnedKey(row[0], row[0]) for row in db.execute(query.order_by(c.key))]


def _is(bucket: str, owned: OwnedKey) -> sa.ColumnElement[bool]:
    c = outputs_table.c
    return sa.and_(c.bucket == bucket, c.key == owned.key, c.run_id == owned.run_id, c.owner == owned.owner)


sidecars_table = sa.Table(
    "gpudrop_sidecars",
    tables,
    sa.Column("bucket", sa.Text, primary_key=True),
    # The prefix of the sidecars' keys.
    sa.Column("name", sa.Text, primary_key=True),
    # The drop's key.
    sa.Column("key", sa.Text, nullable=False),
    sa.Index("gpudrop_sidecars_by_key", "bucket", "key"),
)


def assign_sidecar_names(database: Database, db: sa.Connection, rows: Sequence[RunRow]) -> list[RunRow]:
    """Returns `rows` with the name of the sidecars in each request, and records the names as their drops'.

    To be called in a transaction. Writes in order of the key, like every write that several listeners make.
    """
    names: dict[tuple[str, str], str] = {}
    for bucket in {row.bucket for row in rows}:
        keys = sorted({row.key for row in rows if row.bucket == bucket})
        for chunk in in_chunks(keys):
            found = _names(database, db, bucket, chunk, set(keys))
            names.update(((bucket, key), name) for key, name in found.items())
    return [replace(row, request={**row.request, "sidecars": names[row.bucket, row.key]}) for row in rows]


def release_names(db: sa.Connection, bucket: str, keys: Sequence[str]) -> None:
    """Deletes the sidecar names of these drops, except those with a run that has not ended."""
    busy = sa.select(runs_table.c.key).where(
        runs_table.c.bucket == bucket, runs_table.c.key.in_(keys), runs_table.c.state.not_in(ENDED)
    )
    there = sa.and_(sidecars_table.c.bucket == bucket, sidecars_table.c.key.in_(keys))
    db.execute(sa.delete(sidecars_table).where(there, sidecars_table.c.key.not_in(busy)))


def _names(
    database: Database, db: sa.Connection, bucket: str, keys: Sequence[str], together: Collection[str]
) -> dict[str, str]:
    """Returns sidecar names by key. Most drops get their best name; one statement inserts all of those."""
    found = _sidecars_owned(db, bucket, keys)
    best = {key: next(sidecar_names(key)) for key in keys if key not in found}
    taken = _taken_by_namesakes(db, bucket, best, together)
    rows = [{"bucket": bucket, "name": name, "key": key} for key, name in best.items() if key not in taken]
    if rows:
        insert = database.insert(sidecars_table).on_conflict_do_nothing()
        new = db.execute(insert.returning(sidecars_table.c.key, sidecars_table.c.name), rows)
        found.update((row.key, row.name) for row in new)
    for key in sorted(best.keys() - found.keys()):
        names = (name for name in sidecar_names(key) if not (key in taken and name == best[key]))
        found[key] = next(name for name in names if _take(database, db, bucket, key, name))
    return found


def _sidecars_owned(db: sa.Connection, bucket: str, keys: Sequence[str]) -> dict[str, str]:
    query = sa.select(sidecars_table.c.key, sidecars_table.c.name)
    query = query.where(sidecars_table.c.bucket == bucket, sidecars_table.c.key.in_(keys))
    return {row.key: row.name for row in db.execute(query)}


def _taken_by_namesakes(db: sa.Connection, bucket: str, best: Mapping[str, str], together: Collection[str]) -> set[str]:
    """Returns keys whose best name a namesake uses that was taken in before names were recorded."""
    of = {other for key in best for other in namesakes(key)}.difference(together)
    there: set[str] = set()
    for chunk in in_chunks(sorted(of)):
        query = sa.select(seen_table.c.key).where(seen_table.c.bucket == bucket, seen_table.c.key.in_(chunk))
        there.update(row[0] for row in db.execute(query.where(seen_table.c.fingerprint != "")))
    there -= _sidecars_owned(db, bucket, sorted(there)).keys() if there else set()
    return {key for key in best if not there.isdisjoint(namesakes(key))}


def _take(database: Database, db: sa.Connection, bucket: str, key: str, name: str) -> bool:
    """Records `name` as the drop's unless a drop that still exists has it; returns whether it did."""
    insert = database.insert(sidecars_table).on_conflict_do_nothing().values(bucket=bucket, name=name, key=key)
    same = sa.and_(sidecars_table.c.bucket == bucket, sidecars_table.c.name == name)
    owner: str | None = None
    while owner is None:
        if db.execute(insert.returning(sidecars_table.c.key)).first() is not None:
            return True
        # None: another listener has just released the name.
        owner = db.execute(sa.select(sidecars_table.c.key).where(same).with_for_update()).scalar_one_or_none()
    if owner == key:
        return True
    if _drop_exists(db, bucket, owner):
        return False
    db.execute(sa.update(sidecars_table).where(same).values(key=key))
    return True


def _drop_exists(db: sa.Connection, bucket: str, key: str) -> bool:
    """Returns whether the drop is on record as present, or one of its runs has not ended."""
    for table, of_it in ((seen_table, seen_table.c.fingerprint != ""), (runs_table, runs_table.c.state.not_in(ENDED))):
        query = sa.select(sa.literal(1)).where(table.c.bucket == bucket, table.c.key == key, of_it).limit(1)
        if db.execute(query).first() is not None:
            return True
    return False
