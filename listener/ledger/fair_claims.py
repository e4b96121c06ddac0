"""Rows claimed share by share, so that no folder's rows come before all of another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import sqlalchemy as sa

from listener.fair_shares import Bound, Turns, pick

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
