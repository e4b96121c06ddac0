"""The ledger of callbacks: bodies to deliver, delivery states and leases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa

from listener.ledger.database import Database, in_chunks, tables

CallbackState = Literal["waiting", "delivered", "refused", "given_up"]
"""refused: the receiver will never take it, or its address may not be called."""

CLOCK_STEP_S = 4 * 3600.0
"""No recorded time lies further ahead, in seconds; one that does was written before the clock was set back."""

_callbacks = sa.Table(
    "gpudrop_callbacks",
    tables,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("last_error", sa.Text, nullable=False),
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("noted", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("due", sa.Float, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("lease_until", sa.Float, nullable=False),
    sa.Index("gpudrop_callbacks_by_due", "state", "due"),
)
_OPEN = sa.or_(_callbacks.c.state == sa.literal_column("'waiting'"), _callbacks.c.noted != _callbacks.c.state)
"""The partial index's condition, word for word and without parameters: the index is not used otherwise."""
sa.Index("gpudrop_callbacks_open", _callbacks.c.due, sqlite_where=_OPEN, postgresql_where=_OPEN)
_HEAD = [column for column in _callbacks.columns if column.name != "body"]


@dataclass(frozen=True, slots=True)
class CallbackRow:
    """One run's callback. Times are epoch seconds."""

    run_id: str
    url: str
    host: str
    """The receiver's host:port."""
    state: CallbackState
    created: float
    updated: float
    due: float
    """When the next attempt begins."""
    until: float
    """No attempt begins after this."""
    attempts: int = 0
    last_error: str = ""
    hint: str = ""
    noted: str = ""
    """The state in the run's final sidecar; "": none yet."""
    holder: str = ""
    """Who has the lease."""
    lease_until: float = 0.0


@dataclass(frozen=True, slots=True)
class ClaimedCallback:
    row: CallbackRow
    body: bytes


class CallbackLedger:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: CallbackRow, body: bytes) -> bool:
        """Records a callback; returns whether it is new. A run has one, and an existing one stays as it is."""

        def work() -> bool:
            insert = self._database.insert(_callbacks).on_conflict_do_nothing().values(**asdict(row), body=body)
            with self._database.begin() as db:
                return db.execute(insert.returning(_callbacks.c.run_id)).first() is not None

        return await self._database.call(work)

    async def claim(
        self, holder: str, *, now: float, lease_s: float, limit: int, per_host: int, busy: Mapping[str, int]
    ) -> list[ClaimedCallback]:
        """Leases up to `limit` callbacks to `holder`, the longest due first, for `lease_s` seconds.

        At most `per_host` per receiver, counting its requests under way in `busy`. Each one that waits for delivery
        gets an attempt added. `now`: epoch seconds.
        """
        table = _callbacks
        ready = sa.and_(_OPEN, _past(table.c.due, now), _past(table.c.lease_until, now))
        rank = sa.func.row_number().over(partition_by=table.c.host, order_by=table.c.due)
        taken_up = sa.case(busy, value=table.c.host, else_=0) if busy else sa.literal(0)
        ranked = sa.select(table.c.run_id, (rank + taken_up).label("rank")).where(ready).subquery()
        first = sa.select(ranked.c.run_id).where(ranked.c.rank <= per_host)
        chosen = sa.select(table.c.run_id).where(table.c.run_id.in_(first), ready).order_by(table.c.due).limit(limit)
        more = sa.case((table.c.state == "waiting", table.c.attempts + 1), else_=table.c.attempts)
        values = {"holder": holder, "lease_until": now + lease_s, "attempts": more}

        def work() -> list[ClaimedCallback]:
            with self._database.begin() as db:
                ids = list(db.scalars(chosen.with_for_update(skip_locked=True)))
                if not ids:
                    return []
                taken = sa.update(table).where(table.c.run_id.in_(ids)).values(values).returning(table)
                return [_claimed(dict(row)) for row in db.execute(taken).mappings()]

        return await self._database.call(work)

    async def record(self, row: CallbackRow) -> None:
        """Records the outcome of an attempt; `row.holder` keeps the lease.

        Has no effect once the lease has another holder or belongs to another attempt.
        """
        names = ("state", "last_error", "hint", "updated", "due")
        await self._change(row, {name: getattr(row, name) for name in names})

    async def noted(self, row: CallbackRow, state: str) -> None:
        """Records that the run's sidecar has `state`, and ends the lease."""
        await self._change(row, {"noted": state, "holder": "", "lease_until": 0.0})

    async def postpone(self, row: CallbackRow, due: float) -> None:
        """Ends the lease and sets when the callback is due, in epoch seconds."""
        await self._change(row, {"due": due, "holder": "", "lease_until": 0.0})

    async def release(self, member: str) -> None:
        """Ends the leases of every earlier process of `member`; their holders' names begin with "MEMBER:"."""
        theirs = _callbacks.c.holder.startswith(f"{member}:", autoescape=True)
        await self._write(sa.update(_callbacks).where(theirs).values(holder="", lease_until=0.0))

    async def resend(self, run_id: str, *, now: float, until: float) -> bool:
        """Requests another delivery, due at `now`; returns whether the run has a callback. Times are epoch seconds.

        Ends the lease and forgets the noted state, so that an attempt under way does not count for this delivery.
        """
        again = {"state": "waiting", "due": now, "until": until, "updated": now}
        again |= {"noted": "", "holder": "", "lease_until": 0.0}
        return await self._write(sa.update(_callbacks).where(_callbacks.c.run_id == run_id).values(again)) > 0

    async def of(self, run_ids: Sequence[str]) -> dict[str, CallbackRow]:
        """Returns the callbacks of these runs by run id, as far as there are any."""

        def work() -> dict[str, CallbackRow]:
            found: dict[str, CallbackRow] = {}
            with self._database.begin() as db:
                for chunk in in_chunks(run_ids):
                    query = sa.select(*_HEAD).where(_callbacks.c.run_id.in_(chunk))
                    found |= {row["run_id"]: CallbackRow(**row) for row in db.execute(query).mappings()}
            return found

        return await self._database.call(work)

    async def counts(self) -> dict[str, int]:
        """Counts callbacks by state."""

        def work() -> dict[str, int]:
            query = sa.select(_callbacks.c.state, sa.func.count()).group_by(_callbacks.c.state)
            with self._database.begin() as db:
                return {row[0]: row[1] for row in db.execute(query)}

        return await self._database.call(work)

    async def forget(self, before: float) -> None:
        """Deletes callbacks that do not wait and were last updated before `before` (epoch seconds)."""
        old = sa.and_(_callbacks.c.state != "waiting", _callbacks.c.updated < before)
        await self._write(sa.delete(_callbacks).where(old))

    async def _change(self, row: CallbackRow, values: dict[str, Any]) -> None:
        table = _callbacks.c
        mine = sa.and_(table.run_id == row.run_id, table.holder == row.holder, table.attempts == row.attempts)
        await self._write(sa.update(_callbacks).where(mine).values(values))

    async def _write(self, statement: sa.Update | sa.Delete) -> int:
        def work() -> int:
            with self._database.begin() as db:
                return db.execute(statement).rowcount

        return await self._database.call(work)


def _past(column: sa.Column[float], now: float) -> sa.ColumnElement[bool]:
    return sa.or_(column <= now, column > now + CLOCK_STEP_S)


def _claimed(row: dict[str, Any]) -> ClaimedCallback:
    body = bytes(row.pop("body"))
    return ClaimedCallback(CallbackRow(**row), body)
