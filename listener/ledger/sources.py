"""The state and counts of each source, which listeners write and `gpudrop status` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from listener.ledger.database import Database, tables

_sources = sa.Table(
    "gpudrop_sources",
    tables,
    sa.Column("member", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("ok", sa.Boolean, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source of one listener."""

    member: str
    source: str
    ok: bool
    detail: str
    hint: str
    since: float
    """Epoch seconds."""
    counts: Mapping[str, int]
    """Events by outcome."""


class SourceLedger:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, member: str) -> None:
        """Deletes the rows of `member`, which has just started."""

        def work() -> None:
            with self._database.begin() as db:
                db.execute(sa.delete(_sources).where(_sources.c.member == member))

        await self._database.call(work)

    async def put(self, rows: Sequence[SourceRow]) -> None:
        values: list[dict[str, Any]] = [
            {
                "member": row.member,
                "source": row.source,
                "ok": row.ok,
                "detail": row.detail,
                "hint": row.hint,
                "since": row.since,
                "counts": dict(row.counts),
            }
            for row in rows
        ]

        def work() -> None:
            with self._database.begin() as db:
                self._database.upsert(db, _sources, values)

        await self._database.call(work)

    async def all(self) -> list[SourceRow]:
        def work() -> list[SourceRow]:
            with self._database.begin() as db:
                query = sa.select(_sources).order_by(_sources.c.member, _sources.c.source)
                return [SourceRow(**row) for row in db.execute(query).mappings()]

        return await self._database.call(work)
