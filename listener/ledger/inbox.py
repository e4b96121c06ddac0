"""The durable inbox: which keys have to be examined, because somebody told that something happened to them.

It holds keys, not events. What an object is now, only the store can say; so a key told ten times while it waits is
looked at once, and one told again while it is being looked at is looked at again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from listener.fairness import Bound, Turns, pick, share_of
from listener.ledger.database import Database, tables

_ROUNDS = 4
"""Shares that have less to give than they promised leave places for others, so often."""


class ShareCounts:
    """How many rows of each share wait and are due. Made once a table: making the query costs as much as asking.

    It reads no more of the table than it counts: an index that begins with the columns of `waits` and the share leads
    from one share to the next. `due` are ranges, of which no row is in two; what they are bound to comes with `of`.
    """

    def __init__(
        self,
        share: sa.Column[str],
        waits: Sequence[sa.ColumnElement[bool]],
        due: Sequence[sa.ColumnElement[bool]] = (sa.true(),),
    ) -> None:
        first = sa.select(sa.func.min(share)).where(*waits).scalar_subquery()
        found = sa.select(first.label("share")).cte("shares", recursive=True)
        later = sa.select(sa.func.min(share)).where(*waits, share > found.c.share).correlate(found).scalar_subquery()
        found = found.union_all(sa.select(later).where(found.c.share.is_not(None)))
        counts = [_count(share, (*waits, share == found.c.share, each), found) for each in due]
        self._query = sa.select(found.c.share, *counts).where(found.c.share.is_not(None))

    def of(self, db: sa.Connection, most: int, **bound: float) -> Counter[str]:
        """By share; those beyond `most` of one are not counted."""
        rows = db.execute(self._query, {"most": most, **bound})
        return +Counter(dict[str, int]((row[0], min(most, sum(row[1:]))) for row in rows))


def _count(share: sa.Column[str], where: Sequence[sa.ColumnElement[bool]], outer: sa.CTE) -> sa.ScalarSelect[int]:
    """How many rows there are, up to `most`, for each row of `outer`."""
    rows = sa.select(sa.literal(1).label("one")).select_from(share.table).where(*where).correlate(outer)
    rows = rows.limit(sa.bindparam("most", type_=sa.Integer)).subquery()
    return sa.select(sa.func.count()).select_from(rows).correlate(outer).scalar_subquery()


def claim_fairly(
    waiting: Counter[str], room: int, bounds: Sequence[Bound], turns: Turns, take: Callable[[str, int], int]
) -> None:
    """Has `take` claim so many rows of a share, `room` in all; it gives how many there were."""
    held = [Counter[str](bound.held) for bound in bounds]
    now = [replace(bound, held=counts) for bound, counts in zip(bounds, held, strict=True)]
    for _ in range(_ROUNDS):
        picked = pick(waiting, now, room, turns)
        for share, count in picked.items():
            taken = take(share, count)
            room -= taken
            waiting[share] = waiting[share] - taken if taken == count else 0
            for counts in held:
                counts[share] += taken
        if room <= 0 or not picked:
            return


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

AT = (inbox_table.c.bucket == sa.bindparam("b"), inbox_table.c.key == sa.bindparam("k"))
"""One key's row: its bucket is "b", its key "k"."""


@dataclass(frozen=True, slots=True)
class InboxEvent:
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
class InboxEntry:
    """A key in the inbox, in somebody's hands. `attempts` counts looks that failed."""

    told: InboxEvent
    generation: int
    attempts: int

    @property
    def at(self) -> tuple[str, str]:
        """The bucket and the key."""
        return self.told.bucket, self.told.key


MAX_PAUSE_S = 600.0
"""Longer than a key is postponed for."""

_FREE = inbox_table.c.member == ""
_DUE = sa.or_(inbox_table.c.not_before <= sa.bindparam("now"), inbox_table.c.not_before > sa.bindparam("never"))
_COUNTS = ShareCounts(inbox_table.c.share, [_FREE], [_DUE])


class InboxLedger:
    """`member` names the listener on whose behalf it works: what it holds, no other one looks at."""

    def __init__(self, database: Database, member: str) -> None:
        self._database = database
        self._member = member
        self._turns = Turns()

    async def add(self, told: Sequence[InboxEvent], *, hold: bool | Container[str]) -> list[InboxEntry]:
        """Records keys to look at, no two alike; returns those that are now in this listener's hands: what is new, if
        `hold` says so for all, or names its share. The others wait for a claim.

        A key that is there already is only marked: whoever has it looks again.
        """
        shares = {(each.bucket, each.key): share_of(each.bucket, each.key) for each in told}
        mine = {at for at, share in shares.items() if (hold if isinstance(hold, bool) else share in hold)}
        # In order of the key, like every write to these rows: listeners would lock each other out otherwise.
        rows = [
            _row(each, shares[each.bucket, each.key], self._member if (each.bucket, each.key) in mine else "")
            for each in sorted(told, key=lambda each: (each.bucket, each.key))
        ]

        def work() -> list[InboxEntry]:
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
                fresh = {(row[0], row[1]) for row in db.execute(query, rows) if row[2] == 1} & mine
            return [InboxEntry(each, 1, 0) for each in told if (each.bucket, each.key) in fresh]

        return await self._database.call(work, many=True)

    async def claim(self, limit: int, now: float) -> list[InboxEntry]:
        """Keys that nobody holds and whose time has come; they are this listener's now. Shares take turns, and of each
        comes first what has waited longest.

        One postponed for longer than anybody does was so by a clock that has been set back since: its time has come.
        """
        mine = sa.update(inbox_table).where(*AT).values(member=self._member)
        times = {"now": now, "never": now + MAX_PAUSE_S}

        def work() -> list[InboxEntry]:
            found: list[InboxEntry] = []
            with self._database.begin() as db:

                def take(share: str, count: int) -> int:
                    first = sa.select(inbox_table).where(_FREE, _DUE, inbox_table.c.share == share)
                    first = first.order_by(inbox_table.c.received).limit(count).with_for_update(skip_locked=True)
                    items = [_item(row) for row in db.execute(first, times).mappings()]
                    if items:
                        # One by one, by their keys: to SQLite a list of pairs means to read all rows.
                        db.execute(mine, [{"b": item.told.bucket, "k": item.told.key} for item in items])
                        found.extend(items)
                    return len(items)

                claim_fairly(_COUNTS.of(db, limit, **times), limit, (), self._turns, take)
            return found

        return await self._database.call(work, many=True)

    async def held(self) -> list[InboxEntry]:
        """All that is in this listener's hands, oldest first."""

        def work() -> list[InboxEntry]:
            with self._database.begin() as db:
                query = sa.select(inbox_table).where(inbox_table.c.member == self._member)
                found = db.execute(query.order_by(inbox_table.c.received)).mappings()
                return [_item(row) for row in found]

        return await self._database.call(work, many=True)

    async def postpone(self, items: Sequence[InboxEntry], not_before: float) -> None:
        """Looks that failed are tried again, by whoever comes first after `not_before`."""
        rows = [
            {"b": i.told.bucket, "k": i.told.key, "a": i.attempts + 1} for i in sorted(items, key=lambda item: item.at)
        ]
        query = sa.update(inbox_table).where(*AT)

        def work() -> None:
            with self._database.begin() as db:
                if rows:
                    db.execute(query.values(member="", not_before=not_before, attempts=sa.bindparam("a")), rows)

        await self._database.call(work, many=True)

    async def release(self, members: Collection[str]) -> None:
        """What these listeners held waits for a claim again: they are gone, or have just been started."""

        def work() -> None:
            with self._database.begin() as db:
                query = sa.update(inbox_table).where(inbox_table.c.member.in_(members))
                db.execute(query.values(member=""))

        await self._database.call(work, many=True)

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


def _row(told: InboxEvent, share: str, member: str) -> dict[str, Any]:
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
        "share": share,
    }


def _item(row: sa.RowMapping) -> InboxEntry:
    told = InboxEvent(
        row["bucket"], row["key"], row["created"], row["source"], row["received"], row["moment"], row["etag"]
    )
    return InboxEntry(told, row["generation"], row["attempts"])
