"""Objects: which versions were taken in, and which keys a run wrote."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import sqlalchemy as sa

from listener.ledger.database import Database, tables
from listener.ledger.run_rows import ENDED, RunState, runs_table
from listener.stores.base import ObjectMeta
from listener.triggers.triggers import WrittenKeys

seen_table = sa.Table(
    "gpudrop_seen",
    tables,
    sa.Column("bucket", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False, server_default=""),
    sa.Column("moment", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("exact", sa.Boolean, nullable=False, server_default=sa.text("FALSE")),
    # The version as a listing tells it, where that differs from what HEAD says.
    sa.Column("listed", sa.Text, nullable=False, server_default=""),
)
outputs_table = sa.Table(
    "gpudrop_outputs",
    tables,
    sa.Column("bucket", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("lineage", sa.Integer, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    # The key of the drop whose run it is; "": nobody knows, in rows of earlier releases.
    sa.Column("owner", sa.Text, nullable=False, server_default=""),
    sa.Index("gpudrop_outputs_by_run", "run_id"),
    sa.Index("gpudrop_outputs_by_owner", "bucket", "owner"),
)

UNFINISHED = frozenset[str](get_args(RunState)) - ENDED
_MANY = 10_000


@dataclass(frozen=True, slots=True)
class SeenVersion:
    """The version of a key that was taken in last; without a `fingerprint` nothing was, or it is gone since.

    `version` is there when it started a run. `moment`: it was written then, in epoch nanoseconds, if `exact`, else not
    before then, nor was any version of the key before it.
    """

    fingerprint: str = ""
    version: str = ""
    moment: int = 0
    exact: bool = False


UNSEEN = SeenVersion()


def fingerprint(meta: ObjectMeta) -> str:
    """Tells versions apart by what HEAD and a listing both give: a listing has no version id, HEAD whole seconds."""
    return f"{meta.etag}@{int(meta.last_modified.timestamp())}"


class ObjectLedger:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def unknown(self, bucket: str, metas: Sequence[ObjectMeta]) -> Sequence[ObjectMeta]:
        """Those of `metas` whose current version was neither taken in before nor written by a run."""

        def work() -> Sequence[ObjectMeta]:
            keys = [m.key for m in metas]
            known: set[tuple[str, str]] = set()
            with self._database.begin() as db:
                for column in (seen_table.c.fingerprint, seen_table.c.listed, outputs_table.c.fingerprint):
                    query = sa.select(column.table.c.key, column)
                    rows = db.execute(query.where(column.table.c.bucket == bucket, column.table.c.key.in_(keys)))
                    known.update((row[0], row[1]) for row in rows)
            return [m for m in metas if (m.key, fingerprint(m)) not in known]

        return await self._database.call(work, many=True)

    async def is_new(self, bucket: str) -> bool:
        """Whether nothing of the bucket was ever taken in."""
        query = sa.select(seen_table.c.key).where(seen_table.c.bucket == bucket).limit(1)

        def work() -> bool:
            with self._database.begin() as db:
                return db.execute(query).first() is None

        return await self._database.call(work)

    async def saw(self, bucket: str, meta: ObjectMeta) -> None:
        """A listing tells the version that is known by this name."""
        row = {"bucket": bucket, "key": meta.key, "fingerprint": "", "listed": fingerprint(meta)}
        insert = self._database.insert(seen_table).values(row)
        listed = insert.on_conflict_do_update(index_elements=["bucket", "key"], set_={"listed": insert.excluded.listed})

        def work() -> None:
            with self._database.begin() as db:
                db.execute(listed)

        await self._database.call(work)

    async def taken_in(self, bucket: str, *, after: str, limit: int) -> Sequence[str]:
        """Keys behind `after` of which a version was taken in, in the database's own order."""

        def work() -> Sequence[str]:
            query = sa.select(seen_table.c.key).where(seen_table.c.bucket == bucket, seen_table.c.key > after)
            with self._database.begin() as db:
                return [row[0] for row in db.execute(query.order_by(seen_table.c.key).limit(limit))]

        return await self._database.call(work, many=True)

    async def unfinished(self, bucket: str) -> Sequence[str]:
        """Keys of runs that have not ended: the oldest, when there are very many."""

        def work() -> Sequence[str]:
            # By the states there are, not by those there are not: only then is their index of use.
            open_ = sa.and_(runs_table.c.state.in_(UNFINISHED), runs_table.c.cancel == "")
            query = sa.select(runs_table.c.key).where(open_, runs_table.c.bucket == bucket)
            query = query.order_by(runs_table.c.accepted).limit(_MANY)
            with self._database.begin() as db:
                return [row[0] for row in db.execute(query)]

        return await self._database.call(work, many=True)

    async def forget(self, bucket: str, key: str) -> None:
        """`key` is gone from the store: whatever appears there next is new."""

        def work() -> None:
            with self._database.begin() as db:
                for table in (seen_table, outputs_table):
                    db.execute(sa.delete(table).where(table.c.bucket == bucket, table.c.key == key))

        await self._database.call(work)

    async def wrote(self, bucket: str, metas: Iterable[ObjectMeta], run_id: str) -> None:
        rows = [(m.key, fingerprint(m)) for m in metas]

        def work() -> None:
            with self._database.begin() as db:
                for key, print_ in rows:
                    db.execute(
                        sa.update(outputs_table)
                        .where(
                            outputs_table.c.bucket == bucket,
                            outputs_table.c.key == key,
                            outputs_table.c.run_id == run_id,
                        )
                        .values(fingerprint=print_)
                    )

        await self._database.call(work)

    async def found(
        self, bucket: str, metas: Iterable[ObjectMeta], run_id: str, *, owner: str, lineage: int = 0
    ) -> None:
        """What an ended run of the drop `owner` has left, as its own last word says. A key that another run has on
        record stays its own."""
        row = {"bucket": bucket, "run_id": run_id, "owner": owner, "lineage": lineage}
        rows = [{**row, "key": meta.key, "fingerprint": fingerprint(meta)} for meta in metas]
        insert = self._database.insert(outputs_table)
        written = insert.on_conflict_do_update(
            index_elements=["bucket", "key"],
            set_={"fingerprint": insert.excluded.fingerprint},
            where=outputs_table.c.run_id == insert.excluded.run_id,
        )

        def work() -> None:
            with self._database.begin() as db:
                if rows:
                    db.execute(written, sorted(rows, key=lambda row: str(row["key"])))
                db.execute(sa.delete(outputs_table).where(outputs_table.c.bucket == bucket, _unwritten(run_id)))

        await self._database.call(work)

    async def claimed(self, bucket: str, run_id: str) -> list[str]:
        """Keys the run said it would write and has not."""

        def work() -> list[str]:
            with self._database.begin() as db:
                query = sa.select(outputs_table.c.key).where(outputs_table.c.bucket == bucket, _unwritten(run_id))
                return [row[0] for row in db.execute(query)]

        return await self._database.call(work)

    async def written_by(self, bucket: str, run_id: str) -> list[tuple[str, str]]:
        """Keys the run has written, each with the fingerprint of what it wrote; "" where that is not on record."""
        mine = sa.and_(outputs_table.c.bucket == bucket, outputs_table.c.run_id == run_id)
        query = sa.select(outputs_table.c.key, outputs_table.c.fingerprint)

        def work() -> list[tuple[str, str]]:
            with self._database.begin() as db:
                return [(row[0], row[1]) for row in db.execute(query.where(mine))]

        return await self._database.call(work)

    async def disclaim(self, bucket: str, run_id: str) -> None:
        """The run ended: keys it has not written are anybody's again."""

        def work() -> None:
            with self._database.begin() as db:
                db.execute(sa.delete(outputs_table).where(outputs_table.c.bucket == bucket, _unwritten(run_id)))

        await self._database.call(work)

    async def written(self, bucket: str, key: str) -> WrittenKeys | None:
        """What a run wrote, or is about to write, under `key`; its version is "" until it has."""

        def work() -> WrittenKeys | None:
            with self._database.begin() as db:
                query = sa.select(outputs_table.c.run_id, outputs_table.c.lineage, outputs_table.c.fingerprint)
                row = db.execute(
                    query.where(outputs_table.c.bucket == bucket, outputs_table.c.key == key)
                ).one_or_none()
            return WrittenKeys(run_id=row[0], lineage=row[1], version=row[2]) if row else None

        return await self._database.call(work)


def _unwritten(run_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(outputs_table.c.run_id == run_id, outputs_table.c.fingerprint == "")
