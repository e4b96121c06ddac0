"""The durable inbox: which keys have to be looked at, because somebody told that something happened to them.

It holds keys, not events. What an object is now, only the store can say; so a key told ten times while it waits is
looked at once, and one told again while it is being looked at is looked at again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from listener.fair_shares import share_of
from listener.ledger.database import Database, tables

inbox_table = sa.Table(
    "gpudrop_inbox",
    tables,
    sa.Column("bucket", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("created", sa.Boolean, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("received", sa.Float, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("not_before", sa.Float, nullable=False),
    sa.Column("member", sa.Text, nullable=False),
    sa.Column("moment", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("etag", sa.Text, nullable=False, server_default=""),
    sa.Column("share", sa.Text, nullable=False, server_default=""),
    sa.Index("gpudrop_inbox_waiting", "member", "not_before", "received"),
    sa.Index("gpudrop_inbox_by_share", "member", "share", "received"),
)


@dataclass(frozen=True, slots=True)
class Told:
    """A key to look at. `created`: somebody told of an object there, not only of one gone. Times in epoch seconds.

    `moment` is the latest change of the object that was told of, in epoch nanoseconds, `etag` what was written then;
    0 and "" where nobody told.
    """

    bucket: str
    key: str
    created: bool
    source: str
    received: float
    moment: int = 0
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """A key in the inbox, in somebody's hands. `attempts` counts looks that failed."""

    told: Told
    generation: int
    attempts: int


MAX_PAUSE_S = 600.0
"""Longer than a key is postponed for."""


class InboxLedger:
    """`member` names the listener on whose behalf it works: what it holds, no other one looks at."""

    def __init__(self, database: Database, member: str) -> None:
        self._database = database
        self._member = member

    async def add(self, told: Sequence[Told], *, hold: bool) -> list[Item]:
        """Records keys to look at, no two alike; returns those that are now in this listener's hands.

        A key that is there already is only marked: whoever has it looks again. Without `hold` they wait for a claim.
        """
        member = self._member if hold else ""
        # In order of the key, like every write to these rows: listeners would lock each other out otherwise.
        rows = [_row(each, member) for each in sorted(told, key=lambda each: (each.bucket, each.key))]

        def work() -> list[Item]:
            with self._database.begin() as db:
                insert = self._database.insert(inbox_table)
                later = insert.excluded.moment > inbox_table.c.moment
                again = {
                    "generation": inbox_table.c.generation + 1,
                    "created": sa.or_(inbox_table.c.created, insert.excluded.created),
                    "not_before": 0.0,
                    "moment": sa.case((later, insert.excluded.moment), else_=inbox_table.c.moment),
                    "etag": sa.case((later, insert.excluded.etag), else_=inbox_table.c.etag),
                }
                query = insert.on_conflict_do_update(index_elements=["bucket", "key"], set_=again)
                query = query.returning(inbox_table.c.bucket, inbox_table.c.key, inbox_table.c.generation)
                fresh = {(row[0], row[1]) for row in db.execute(query, rows) if row[2] == 1}
            return [Item(each, 1, 0) for each in told if (each.bucket, each.key) in fresh] if hold else []

        return await self._database.call(work)

    async def claim(self, limit: int, now: float) -> list[Item]:
        """Keys that nobody holds and whose time has come, oldest first; they are this listener's now.

        One postponed for longer than anybody does was so by a clock that has been set back since: its time has come.
        """
        due = sa.or_(inbox_table.c.not_before <= now, inbox_table.c.not_before > now + MAX_PAUSE_S)

        def work() -> list[Item]:
            waiting = sa.select(inbox_table.c.bucket, inbox_table.c.key)
            waiting = waiting.where(inbox_table.c.member == "", due)
            waiting = waiting.order_by(inbox_table.c.received).limit(limit).with_for_update(skip_locked=True)
            at = sa.tuple_(inbox_table.c.bucket, inbox_table.c.key)
            with self._database.begin() as db:
                keys = [(row[0], row[1]) for row in db.execute(waiting)]
                if not keys:
                    return []
                taken = sa.update(inbox_table).where(at.in_(keys)).values(member=self._member)
                found = db.execute(taken.returning(inbox_table)).mappings()
                return sorted((_item(row) for row in found), key=lambda item: item.told.received)

        return await self._database.call(work)

    async def held(self) -> list[Item]:
        """All that is in this listener's hands, oldest first."""

        def work() -> list[Item]:
            with self._database.begin() as db:
                query = sa.select(inbox_table).where(inbox_table.c.member == self._member)
                found = db.execute(query.order_by(inbox_table.c.received)).mappings()
                return [_item(row) for row in found]

        return await self._database.call(work)

    async def postpone(self, items: Sequence[Item], not_before: float) -> None:
        """Looks that failed are tried again, by whoever comes first after `not_before`."""
        rows = [{"b": i.told.bucket, "k": i.told.key, "a": i.attempts + 1} for i in sorted(items, key=_at)]
        query = sa.update(inbox_table).where(
            inbox_table.c.bucket == sa.bindparam("b"), inbox_table.c.key == sa.bindparam("k")
        )

        def work() -> None:
            with self._database.begin() as db:
                if rows:
                    db.execute(query.values(member="", not_before=not_before, attempts=sa.bindparam("a")), rows)

        await self._database.call(work)

    async def release(self, members: Collection[str]) -> None:
        """What these listeners held waits for a claim again: they are gone, or have just been started."""

        def work() -> None:
            with self._database.begin() as db:
                query = sa.update(inbox_table).where(inbox_table.c.member.in_(members))
                db.execute(query.values(member=""))

        await self._database.call(work)

    async def waiting(self) -> int:
        """How many keys have to be looked at, whoever holds them."""

        def work() -> int:
            with self._database.begin() as db:
                return db.execute(sa.select(sa.func.count()).select_from(inbox_table)).scalar_one()

        return await self._database.call(work)

    async def holders(self) -> set[str]:
        """Everybody who holds a key."""

        def work() -> set[str]:
            with self._database.begin() as db:
                query = sa.select(inbox_table.c.member).where(inbox_table.c.member != "").distinct()
                return {row[0] for row in db.execute(query)}

        return await self._database.call(work)


def _row(told: Told, member: str) -> dict[str, Any]:
    return {
        "bucket": told.bucket,
        "key": told.key,
        "created": told.created,
        "source": told.source,
        "received": told.received,
        "generation": 1,
        "attempts": 0,
        "not_before": 0.0,
        "member": member,
        "moment": told.moment,
        "etag": told.etag,
        "share": share_of(told.bucket, told.key),
    }


def _at(item: Item) -> tuple[str, str]:
    return item.told.bucket, item.told.key


def _item(row: sa.RowMapping) -> Item:
    told = Told(row["bucket"], row["key"], row["created"], row["source"], row["received"], row["moment"], row["etag"])
    return Item(told, row["generation"], row["attempts"])
