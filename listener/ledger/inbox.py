"""The durable inbox: keys that have to be examined because an event named them.

It holds keys, not events, because only the store knows the current object: ten events about a waiting key lead to one
examination, and an event during the examination leads to another one.
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
"""Rounds of a claim: a share that gives less than was counted leaves places, which other shares get in the next."""


class ShareCounts:
    """Counts the rows of each share that wait and are due. Built once per table: building costs as much as querying.

    The query reads no more rows than it counts: an index that begins with the columns of `waits` and the share leads
    from one share to the next. `due` are ranges that do not overlap; `of` binds their parameters.

    They are counted only as far as there is room: 0.1 ms where 10,000 wait, on both databases.
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
        """Returns the counts by share, each at most `most`. `bound`: the parameters of `due`."""
        rows = db.execute(self._query, {"most": most, **bound})
        return +Counter(dict[str, int]((row[0], min(most, sum(row[1:]))) for row in rows))


def _count(share: sa.Column[str], where: Sequence[sa.ColumnElement[bool]], outer: sa.CTE) -> sa.ScalarSelect[int]:
    """Builds the query that counts rows, up to `most`, for each row of `outer`."""
    rows = sa.select(sa.literal(1).label("one")).select_from(share.table).where(*where).correlate(outer)
    rows = rows.limit(sa.bindparam("most", type_=sa.Integer)).subquery()
    return sa.select(sa.func.count()).select_from(rows).correlate(outer).scalar_subquery()


def claim_fairly(
    waiting: Counter[str], room: int, bounds: Sequence[Bound], turns: Turns, take: Callable[[str, int], int]
) -> None:
    """Claims up to `room` rows, shares in turn. `take` claims rows of a share and returns their number."""
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
"""Selects one key's row by the parameters "b" (bucket) and "k" (key)."""


@dataclass(frozen=True, slots=True)
class InboxEvent:
    """An event about one key."""

    bucket: str
    key: str
    created: bool
    """Whether an object was reported there, not only a removal."""
    source: str
    received: float
    """Epoch seconds."""
    moment: int = 0
    """The latest reported change of the object, in epoch nanoseconds; 0: unknown."""
    etag: str = ""
    """The ETag written at `moment`; "": unknown."""


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """A key in the inbox that one listener holds."""

    event: InboxEvent
    generation: int
    """Grows by one with every event about the key; an entry of an older generation is examined again."""
    attempts: int
    """Examinations that failed."""

    @property
    def at(self) -> tuple[str, str]:
        """Bucket and key."""
        return self.event.bucket, self.event.key


MAX_PAUSE_S = 600.0
"""No key is postponed for longer, in seconds; one that seems so was postponed before the clock was set back."""

_FREE = inbox_table.c.member == ""
_DUE = sa.or_(inbox_table.c.not_before <= sa.bindparam("now"), inbox_table.c.not_before > sa.bindparam("never"))
_COUNTS = ShareCounts(inbox_table.c.share, [_FREE], [_DUE])


class InboxLedger:
    """Adds, claims and postpones inbox entries for the listener `member`; no other listener examines what it holds."""

    def __init__(self, database: Database, member: str) -> None:
        self._database = database
        self._member = member
        self._turns = Turns()

    async def add(self, events: Sequence[InboxEvent], *, hold: bool | Container[str]) -> list[InboxEntry]:
        """Records events about distinct keys; returns the new entries that this listener now holds.

        `hold` is True for all, or names the shares to hold; other entries wait for a claim. A key that is there
        already gets a new generation, so that it is examined again.
        """
        shares = {(each.bucket, each.key): share_of(each.bucket, each.key) for each in events}
        mine = {at for at, share in shares.items() if (hold if isinstance(hold, bool) else share in hold)}
        # Every write to these rows is in order of the key: listeners would deadlock otherwise.
        rows = [
            _row(each, shares[each.bucket, each.key], self._member if (each.bucket, each.key) in mine else "")
            for each in sorted(events, key=lambda each: (each.bucket, each.key))
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
            return [InboxEntry(each, 1, 0) for each in events if (each.bucket, each.key) in fresh]

        return await self._database.call(work, many=True)

    async def claim(self, limit: int, now: float) -> list[InboxEntry]:
        """Takes up to `limit` free entries that are due at `now` (epoch seconds); this listener then holds them.

        Shares take turns; within a share the entry that has waited longest comes first. An entry postponed by more
        than MAX_PAUSE_S is due, too: the clock has been set back since.
        """
        mine = sa.update(inbox_table).where(*AT).values(member=self._member)
        times = {"now": now, "never": now + MAX_PAUSE_S}

        def work() -> list[InboxEntry]:
            found: list[InboxEntry] = []
            with self._database.begin() as db:

                def take(share: str, count: int) -> int:
                    first = sa.select(inbox_table).where(_FREE, _DUE, inbox_table.c.share == share)
                    first = first.order_by(inbox_table.c.received).limit(count).with_for_update(skip_locked=True)
                    items = [_entry(row) for row in db.execute(first, times).mappings()]
                    if items:
                        # One statement a key: for a list of pairs SQLite reads all rows.
                        db.execute(mine, [{"b": item.event.bucket, "k": item.event.key} for item in items])
                        found.extend(items)
                    return len(items)

                claim_fairly(_COUNTS.of(db, limit, **times), limit, (), self._turns, take)
            return found

        return await self._database.call(work, many=True)

    async def held(self) -> list[InboxEntry]:
        """Returns the entries that this listener holds, oldest first."""

        def work() -> list[InboxEntry]:
            with self._database.begin() as db:
                query = sa.select(inbox_table).where(inbox_table.c.member == self._member)
                found = db.execute(query.order_by(inbox_table.c.received)).mappings()
                return [_entry(row) for row in found]

        return await self._database.call(work, many=True)

    async def postpone(self, items: Sequence[InboxEntry], not_before: float) -> None:
        """Gives entries back after a failed examination, due at `not_before` (epoch seconds)."""
        rows = [
            {"b": i.event.bucket, "k": i.event.key, "a": i.attempts + 1}
            for i in sorted(items, key=lambda item: item.at)
        ]
        query = sa.update(inbox_table).where(*AT)

        def work() -> None:
            with self._database.begin() as db:
                if rows:
                    db.execute(query.values(member="", not_before=not_before, attempts=sa.bindparam("a")), rows)

        await self._database.call(work, many=True)

    async def release(self, members: Collection[str]) -> None:
        """Gives back what these listeners held; they are gone, or have just started."""

        def work() -> None:
            with self._database.begin() as db:
                query = sa.update(inbox_table).where(inbox_table.c.member.in_(members))
                db.execute(query.values(member=""))

        await self._database.call(work, many=True)

    async def waiting(self) -> int:
        """Counts all entries, held or not."""

        def work() -> int:
            with self._database.begin() as db:
                return db.execute(sa.select(sa.func.count()).select_from(inbox_table)).scalar_one()

        return await self._database.call(work)

    async def holders(self) -> set[str]:
        """Returns the listeners that hold an entry."""

        def work() -> set[str]:
            with self._database.begin() as db:
                query = sa.select(inbox_table.c.member).where(inbox_table.c.member != "").distinct()
                return {row[0] for row in db.execute(query)}

        return await self._database.call(work)


def _row(event: InboxEvent, share: str, member: str) -> dict[str, Any]:
    return {
        "bucket": event.bucket,
        "key": event.key,
        "created": event.created,
        "source": event.source,
        "received": event.received,
        "generation": 1,
        "attempts": 0,
        "not_before": 0.0,
        "member": member,
        "moment": event.moment,
        "etag": event.etag,
        "share": share,
    }


def _entry(row: sa.RowMapping) -> InboxEntry:
    event = InboxEvent(
        row["bucket"], row["key"], row["created"], row["source"], row["received"], row["moment"], row["etag"]
    )
    return InboxEntry(event, row["generation"], row["attempts"])
