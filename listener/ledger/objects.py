"""The ledger of objects: versions taken in, and keys that runs claimed or wrote."""

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
    # The fingerprint that listings give, where it differs from HEAD's.
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
    # The key of the run's drop; "" in rows of earlier releases, which did not record it.
    sa.Column("owner", sa.Text, nullable=False, server_default=""),
    sa.Index("gpudrop_outputs_by_run", "run_id"),
    sa.Index("gpudrop_outputs_by_owner", "bucket", "owner"),
)

UNFINISHED = frozenset[str](get_args(RunState)) - ENDED
_MANY = 10_000


@dataclass(frozen=True, slots=True)
class SeenVersion:
    """The version of a key that was taken in last."""

    fingerprint: str = ""
    """Empty if none was taken in, or the object is gone."""
    version: str = ""
    """Empty if it started no run."""
    moment: int = 0
    """When it was written, in epoch nanoseconds; unless `exact`, the earliest time it can have been written."""
    exact: bool = False


UNSEEN = SeenVersion()


def fingerprint(meta: ObjectMeta) -> str:
    """Returns what HEAD and a listing both give of a version: a listing has no version id, HEAD only whole seconds."""
    return f"{meta.etag}@{int(meta.last_modified.timestamp())}"


class ObjectLedger:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def unknown(self, bucket: str, metas: Sequence[ObjectMeta]) -> Sequence[ObjectMeta]:
        """Returns those of `metas` whose version was neither taken in nor written by a run."""

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
        """Returns whether nothing of the bucket was ever taken in."""
        query = sa.select(seen_table.c.key).where(seen_table.c.bucket == bucket).limit(1)

        def work() -> bool:
            with self._database.begin() as db:
                return db.execute(query).first() is None

        return await self._database.call(work)

    async def record_listed(self, bucket: str, meta: ObjectMeta) -> None:
        """Records the fingerprint that listings give for the version on record."""
        row = {"bucket": bucket, "key": meta.key, "fingerprint": "", "listed": fingerprint(meta)}
        insert = self._database.insert(seen_table).values(row)
        listed = insert.on_conflict_do_update(index_elements=["bucket", "key"], set_={"listed": insert.excluded.listed})

        def work() -> None:
            with self._database.begin() as db:
                db.execute(listed)

        await self._database.call(work)

    async def taken_in(self, bucket: str, *, after: str, limit: int) -> Sequence[str]:
        """Returns up to `limit` keys after `after` that were taken in, in the database's order."""

        def work() -> Sequence[str]:
            query = sa.select(seen_table.c.key).where(seen_table.c.bucket == bucket, seen_table.c.key > after)
            with self._database.begin() as db:
                return [row[0] for row in db.execute(query.order_by(seen_table.c.key).limit(limit))]

        return await self._database.call(work, many=True)

    async def unfinished(self, bucket: str) -> Sequence[str]:
        """Returns the keys of unfinished runs that are not to end; of more than 10,000 runs, the oldest."""

        def work() -> Sequence[str]:
            # `in_`, not `not_in`: only then is the index on states used.
            open_ = sa.and_(runs_table.c.state.in_(UNFINISHED), runs_table.c.cancel == "")
            query = sa.select(runs_table.c.key).where(open_, runs_table.c.bucket == bucket)
            query = query.order_by(runs_table.c.accepted).limit(_MANY)
            with self._database.begin() as db:
                return [row[0] for row in db.execute(query)]

        return await self._database.call(work, many=True)

    async def forget(self, bucket: str, key: str) -> None:
        """Deletes what is known of `key`, which is gone from the store; the next object there is new."""

        def work() -> None:
            with self._database.begin() as db:
                for table in (seen_table, outputs_table):
                    db.execute(sa.delete(table).where(table.c.bucket == bucket, table.c.key == key))

        await self._database.call(work)

    async def record_written(self, bucket: str, metas: Iterable[ObjectMeta], run_id: str) -> None:
        """Records the versions that the run wrote under keys it had claimed."""
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

    async def record_outputs(
        self, bucket: str, metas: Iterable[ObjectMeta], run_id: str, *, owner: str, lineage: int = 0
    ) -> None:
        """Records the outputs that an ended run's final sidecar names, and deletes its other claims.

        `owner` is the key of its drop. A key that is another run's stays so.
        """
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
        """Returns the keys that the run claimed and has not written."""

        def work() -> list[str]:
            with self._database.begin() as db:
                query = sa.select(outputs_table.c.key).where(outputs_table.c.bucket == bucket, _unwritten(run_id))
                return [row[0] for row in db.execute(query)]

        return await self._database.call(work)

    async def written_by(self, bucket: str, run_id: str) -> list[tuple[str, str]]:
        """Returns the run's keys, each with the fingerprint of what it wrote; "" where that is not on record."""
        mine = sa.and_(outputs_table.c.bucket == bucket, outputs_table.c.run_id == run_id)
        query = sa.select(outputs_table.c.key, outputs_table.c.fingerprint)

        def work() -> list[tuple[str, str]]:
            with self._database.begin() as db:
                return [(row[0], row[1]) for row in db.execute(query.where(mine))]

        return await self._database.call(work)

    async def release_claims(self, bucket: str, run_id: str) -> None:
        """Deletes the ended run's claims on keys that it has not written."""

        def work() -> None:
            with self._database.begin() as db:
                db.execute(sa.delete(outputs_table).where(outputs_table.c.bucket == bucket, _unwritten(run_id)))

        await self._database.call(work)

    async def written(self, bucket: str, key: str) -> WrittenKeys | None:
        """Returns what a run wrote or claimed to write under `key`; the version is "" until it is written."""

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
