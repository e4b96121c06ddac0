"""Rows claimed share by share, so that no folder's rows come before all of another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import sqlalchemy as sa

from listener.fair_shares import Bound, Turns, pick

_ROUNDS = 4
"""Shares that have less to give than they promised leave places for others, so often."""


def counts_by_share(db: sa.Connection, share: sa.Column[str], *where: sa.ColumnElement[bool]) -> Counter[str]:
    """How many rows of each share wait: all that wait are counted, at a hundred thousand some ten milliseconds."""
    query = sa.select(share, sa.func.count()).where(*where).group_by(share)
    return Counter(dict[str, int]((row[0], row[1]) for row in db.execute(query)))


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
