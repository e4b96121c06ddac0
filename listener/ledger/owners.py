"""Which drop a key belongs to that a run wants to write: an output is its drop's, whichever run of it wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from listener.ledger.database import Database
from listener.ledger.objects import UNFINISHED, outputs_table, seen_table
from listener.ledger.run_rows import runs_table


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """For which run keys are claimed; `owner` is the key of its drop."""

    run_id: str
    owner: str
    lineage: int


@dataclass(frozen=True, slots=True)
class ClaimedKeys:
    """A key that is another drop's: an output of its run, or, with the same key, the drop itself.

    `open`: the run has not ended; `ending`: it was asked to.
    """

    key: str
    owner: str
    run_id: str = ""
    open: bool = False
    ending: bool = False


class OutputOwners:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, bucket: str, keys: Iterable[str], claim: KeyClaim, *, free: Sequence[ClaimedKeys] = ()
    ) -> tuple[ClaimedKeys, ...]:
        """Said before the first byte: whatever appears under these keys until `wrote` is the run's.

        All of them or none: returned is what belongs to other drops, and then nothing is claimed. What is `free` was
        found to be nobody's; if that is still so, it is forgotten first.
        """
        wanted = sorted(dict.fromkeys(keys))

        def work() -> tuple[ClaimedKeys, ...]:
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


def _owned(db: sa.Connection, bucket: str, keys: Sequence[str]) -> list[ClaimedKeys]:
    """Outputs of runs, with how these stand."""
    c = outputs_table.c
    of_run = sa.outerjoin(outputs_table, runs_table, c.run_id == runs_table.c.run_id)
    query = sa.select(c.key, c.owner, c.run_id, runs_table.c.state, runs_table.c.cancel).select_from(of_run)
    rows = db.execute(query.where(c.bucket == bucket, c.key.in_(keys)).order_by(c.key))
    return [
        ClaimedKeys(row.key, row.owner, row.run_id, open=row.state in UNFINISHED, ending=bool(row.cancel))
        for row in rows
    ]


def _drops(db: sa.Connection, bucket: str, keys: Sequence[str]) -> list[ClaimedKeys]:
    """Those of `keys` that have started runs themselves."""
    c = seen_table.c
    query = sa.select(c.key).where(c.bucket == bucket, c.key.in_(keys), c.fingerprint != "", c.version != "")
    return [ClaimedKeys(row[0], row[0]) for row in db.execute(query.order_by(c.key))]


def _is(bucket: str, owned: ClaimedKeys) -> sa.ColumnElement[bool]:
    c = outputs_table.c
    return sa.and_(c.bucket == bucket, c.key == owned.key, c.run_id == owned.run_id, c.owner == owned.owner)
