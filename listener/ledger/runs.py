"""The ledger of runs: claims, states, and requests to end a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from listener.fairness import Bound, Turns
from listener.ledger.database import Database, in_chunks
from listener.ledger.group_commit import GroupCommit
from listener.ledger.inbox import ShareCounts, claim_fairly
from listener.ledger.run_rows import ENDED, EndReason, RunRow, RunState, runs_table

_UNFINISHED = runs_table.c.state.not_in(ENDED)
_OPEN = runs_table.c.state == "accepted"
_WAITS = (_OPEN, runs_table.c.member == "")
_COUNTS = ShareCounts(runs_table.c.share, _WAITS)

_MOVE = (
    sa.update(runs_table)
    .where(runs_table.c.run_id == sa.bindparam("id"), _UNFINISHED)
    .values(
        state=sa.bindparam("now"),
        updated=sa.bindparam("at"),
        error_code=sa.bindparam("code"),
        operation=sa.func.coalesce(sa.func.nullif(sa.bindparam("what"), ""), runs_table.c.operation),
        member=sa.case(
            (sa.or_(sa.bindparam("who", type_=sa.Text) == "", runs_table.c.member == ""), runs_table.c.member),
            else_=sa.bindparam("who", type_=sa.Text),
        ),
    )
)
"""Built once: each run needs it at least twice, and building it costs as much as executing it."""


class RunLedger:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._group_commit: GroupCommit = GroupCommit(database, lambda db: db)
        self._turns = Turns()

    async def add(self, row: RunRow) -> bool:
        """Records a run; returns whether it is new. One that is on record already stays as it is."""

        def work() -> bool:
            insert = self._database.insert(runs_table).on_conflict_do_nothing().values(**asdict(row))
            with self._database.begin() as db:
                return db.execute(insert.returning(runs_table.c.run_id)).first() is not None

        return await self._database.call(work)

    async def claim(
        self, member: str, limit: int, *, overdue: float = 0.0, bounds: Sequence[Bound] = ()
    ) -> list[RunRow]:
        """Takes up to `limit` waiting runs for `member`; no other listener gets them.

        Shares take turns within `bounds`; within a share the run that has waited longest comes first. A run waits until
        the older runs of its drop have ended, unless it was accepted before `overdue` (epoch seconds).
        """
        may_begin = sa.or_(runs_table.c.accepted < overdue, sa.not_(_older_goes_on()))

        def work() -> list[RunRow]:
            found: list[RunRow] = []
            with self._database.begin() as db:

                def take(share: str, count: int) -> int:
                    first = sa.select(runs_table.c.run_id).where(*_WAITS, runs_table.c.share == share, may_begin)
                    first = first.order_by(runs_table.c.accepted).limit(count)
                    ids = [row[0] for row in db.execute(first.with_for_update(of=runs_table, skip_locked=True))]
                    taken = sa.update(runs_table).where(runs_table.c.run_id.in_(ids)).values(member=member)
                    if ids:
                        rows = db.execute(taken.returning(runs_table)).mappings()
                        found.extend(sorted((RunRow(**row) for row in rows), key=lambda row: row.accepted))
                    return len(ids)

                claim_fairly(_COUNTS.of(db, limit), limit, bounds, self._turns, take)
            return found

        return await self._database.call(work)

    async def reclaim(self, run_ids: Sequence[str], member: str) -> list[RunRow]:
        """Resets the unfinished ones of these runs to accepted and claimed by `member`, and returns them.

        They run from the top, so the end reason "incomplete" is cleared: a run finds out again whether it holds.
        """
        asked = sa.case((runs_table.c.cancel == "incomplete", ""), else_=runs_table.c.cancel)

        def work() -> list[RunRow]:
            found: list[RunRow] = []
            with self._database.begin() as db:
                for chunk in in_chunks(run_ids):
                    query = sa.update(runs_table).where(runs_table.c.run_id.in_(chunk), _UNFINISHED)
                    query = query.values(state="accepted", member=member, cancel=asked).returning(runs_table)
                    found += [RunRow(**row) for row in db.execute(query).mappings()]
            return found

        return await self._database.call(work)

    async def release(self, run_ids: Sequence[str]) -> None:
        """Gives back claimed runs that were not handed to an engine."""

        def work() -> None:
            with self._database.begin() as db:
                for chunk in in_chunks(run_ids):
                    query = sa.update(runs_table).where(runs_table.c.run_id.in_(chunk))
                    db.execute(query.values(member=""))

        await self._database.call(work)

    async def claimed(self, member: str) -> list[RunRow]:
        """Returns runs that `member` claimed and that no engine has begun."""
        return await self._rows(sa.select(runs_table).where(_OPEN, runs_table.c.member == member))

    async def waiting(self) -> int:
        """Counts runs that wait for a listener with room."""

        def work() -> int:
            query = sa.select(sa.func.count()).select_from(runs_table).where(*_WAITS)
            with self._database.begin() as db:
                return db.execute(query).scalar_one()

        return await self._database.call(work)

    async def members(self) -> set[str]:
        """Returns the listeners that claimed a run which no engine has begun."""

        def work() -> set[str]:
            query = sa.select(runs_table.c.member).where(runs_table.c.member != "", _OPEN)
            with self._database.begin() as db:
                return {row[0] for row in db.execute(query.distinct())}

        return await self._database.call(work)

    async def update(
        self, run_id: str, *, state: RunState, at: float, operation: str = "", error_code: str = "", member: str = ""
    ) -> None:
        """Sets a run's state at `at` (epoch seconds); a run that has ended stays as it is.

        An empty `operation` keeps the recorded one. `member` is the listener whose engine executes the run; it may have
        taken the run over from the one that claimed it.
        """
        moved = {"id": run_id, "now": state, "at": at, "code": error_code, "what": operation, "who": member}
        await self._group_commit.write(lambda db: db.execute(_MOVE, moved))

    async def note(self, run_id: str, text: str) -> None:
        """Records in words what an unfinished run waits for; "": nothing."""
        noted = sa.update(runs_table).where(runs_table.c.run_id == run_id, _UNFINISHED).values(note=text)
        await self._group_commit.write(lambda db: db.execute(noted))

    async def find(self, run_id: str) -> RunRow | None:
        rows = await self._rows(sa.select(runs_table).where(runs_table.c.run_id == run_id))
        return rows[0] if rows else None

    async def rows(self, run_ids: Sequence[str]) -> dict[str, RunRow]:
        """Returns the runs that are on record, by id."""
        found: list[RunRow] = []
        for chunk in in_chunks(run_ids):
            found += await self._rows(sa.select(runs_table).where(runs_table.c.run_id.in_(chunk)))
        return {row.run_id: row for row in found}

    async def may_write(self, run_id: str) -> bool:
        """Returns whether the run may still write to the store: it has not ended and is not superseded.

        A run that is not on record may write.
        """
        query = sa.select(runs_table.c.state, runs_table.c.cancel).where(runs_table.c.run_id == run_id)

        def work() -> bool:
            with self._database.begin() as db:
                row = db.execute(query).one_or_none()
            return row is None or (row[0] not in ENDED and row[1] != "superseded")

        return await self._database.call(work)

    async def of(self, bucket: str, key: str) -> list[RunRow]:
        """Returns every run of one key, newest first."""
        query = sa.select(runs_table).where(runs_table.c.bucket == bucket, runs_table.c.key == key)
        return await self._rows(query.order_by(runs_table.c.accepted.desc()))

    async def recent(self, limit: int) -> list[RunRow]:
        return await self._rows(sa.select(runs_table).order_by(runs_table.c.accepted.desc()).limit(limit))

    async def unfinished(self) -> list[RunRow]:
        return await self._rows(sa.select(runs_table).where(_UNFINISHED).order_by(runs_table.c.accepted))

    async def handed_over(self) -> list[str]:
        """Returns the ids of unfinished runs that a listener has claimed for its engine."""
        query = sa.select(runs_table.c.run_id).where(runs_table.c.member != "", _UNFINISHED)

        def work() -> list[str]:
            with self._database.begin() as db:
                return [row[0] for row in db.execute(query)]

        return await self._database.call(work)

    async def unfinished_below(self, bucket: str, prefix: str) -> list[RunRow]:
        """Returns unfinished runs whose key begins with `prefix`."""
        below = runs_table.c.key.startswith(prefix, autoescape=True)
        return await self._rows(sa.select(runs_table).where(runs_table.c.bucket == bucket, below, _UNFINISHED))

    async def matching(self, text: str) -> list[RunRow]:
        """Returns up to 100 runs, newest first. `text`: the start of an id, a key (also after its bucket), or a key's
        last path segments.
        """
        found = sa.or_(
            runs_table.c.run_id.startswith(text, autoescape=True),
            runs_table.c.key == text,
            runs_table.c.key.endswith("/" + text, autoescape=True),
            runs_table.c.bucket + "/" + runs_table.c.key == text,
        )
        return await self._rows(sa.select(runs_table).where(found).order_by(runs_table.c.accepted.desc()).limit(100))

    async def forget(self, before: float) -> None:
        """Deletes ended runs last updated before `before` (epoch seconds)."""

        def work() -> None:
            with self._database.begin() as db:
                db.execute(sa.delete(runs_table).where(runs_table.c.state.in_(ENDED), runs_table.c.updated < before))

        await self._database.call(work)

    async def request_end(self, run_id: str, reason: EndReason) -> None:
        def work() -> None:
            with self._database.begin() as db:
                active = sa.and_(runs_table.c.run_id == run_id, runs_table.c.cancel == "", _UNFINISHED)
                db.execute(sa.update(runs_table).where(active).values(cancel=reason, due=0.0))

        await self._database.call(work)

    async def ends_requested(self) -> dict[str, str]:
        """Returns the reason by id for unfinished runs that are to end."""
        rows = await self._rows(sa.select(runs_table).where(runs_table.c.cancel != "", _UNFINISHED))
        return {row.run_id: row.cancel for row in rows}

    async def _rows(self, query: sa.Select[Any]) -> list[RunRow]:
        def work() -> list[RunRow]:
            with self._database.begin() as db:
                return [RunRow(**row) for row in db.execute(query).mappings()]

        return await self._database.call(work)


def _older_goes_on() -> sa.ColumnElement[bool]:
    """Builds the condition that an older run of the same drop has not ended."""
    older = runs_table.alias("older")
    same = sa.and_(older.c.bucket == runs_table.c.bucket, older.c.key == runs_table.c.key)
    before = sa.or_(
        older.c.accepted < runs_table.c.accepted,
        sa.and_(older.c.accepted == runs_table.c.accepted, older.c.run_id < runs_table.c.run_id),
    )
    return sa.select(older.c.run_id).where(same, before, older.c.state.not_in(ENDED)).exists()
