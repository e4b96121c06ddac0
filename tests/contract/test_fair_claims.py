"""How many rows of each share wait: counted on both databases, reading no more than is counted."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from listener.ledger.database import Database
from listener.ledger.inbox import ShareCounts, inbox_table
from listener.ledger.run_rows import runs_table

MANY = 10_000
_WAITS = (runs_table.c.state == "waiting", runs_table.c.member == "")
_COUNTS = ShareCounts(
    runs_table.c.share, _WAITS, (runs_table.c.due <= sa.bindparam("now"), runs_table.c.due > sa.bindparam("never"))
)

_EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "}


@contextmanager
def heard(db: sa.Connection, tell: Callable[[str, Any], None]) -> Generator[None]:
    """Tells what is asked of the database meanwhile."""

    def before(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        tell(statement, parameters)

    sa.event.listen(db, "before_cursor_execute", before)
    try:
        yield
    finally:
        sa.event.remove(db, "before_cursor_execute", before)


@pytest.fixture
async def crowded(database: Database) -> AsyncIterator[Database]:
    """One share of thousands that wait and are not due, one of a few, and one that somebody holds."""
    row = {"bucket": "b", "trigger": "t", "operation": "", "state": "waiting", "error_code": "", "cancel": "",
           "accepted": 1.0, "updated": 1.0, "request": {}}  # fmt: skip
    shares = ["b/flood"] * MANY + ["b/held"] * 3 + ["b/few"] * 3
    rows = [
        {**row, "run_id": str(i), "key": str(i), "share": share, "due": 500.0 if i % 1000 else 50.0,
         "member": "m" if share == "b/held" else ""}
        for i, share in enumerate(shares)
    ]  # fmt: skip

    def fill() -> None:
        with database.begin() as db:
            db.execute(sa.insert(runs_table), rows)
        with database.begin() as db:
            db.execute(sa.text("ANALYZE"))

    await database.call(fill)
    yield database


async def counted(database: Database, most: int, now: float, never: float = 1e9) -> dict[str, int]:
    def work() -> dict[str, int]:
        with database.begin() as db:
            return dict(_COUNTS.of(db, most, now=now, never=never))

    return await database.call(work)


async def test_what_is_due_is_counted_as_far_as_there_is_room(crowded: Database) -> None:
    assert await counted(crowded, 4, 50.0) == {"b/flood": 4}
    assert await counted(crowded, 99, 50.0) == {"b/flood": 10}
    assert await counted(crowded, 99, 500.0) == {"b/flood": 99, "b/few": 3}
    assert await counted(crowded, 99, 0.0, never=400.0) == {"b/flood": 99, "b/few": 3}
    assert await counted(crowded, 99, 0.0) == {}


async def test_nothing_waits_where_there_is_nothing(database: Database) -> None:
    def work() -> dict[str, int]:
        with database.begin() as db:
            return dict(ShareCounts(inbox_table.c.share, [inbox_table.c.member == ""]).of(db, 5))

    assert await database.call(work) == {}


async def test_the_thousands_that_wait_are_not_read(crowded: Database) -> None:
    """Each share is found by the index, and of each is read what is counted: so say both databases themselves."""

    def plan() -> tuple[str, list[str]]:
        with crowded.begin() as db:
            asked: list[tuple[str, Any]] = []
            with heard(db, lambda statement, parameters: asked.append((statement, parameters))):
                _COUNTS.of(db, 9, now=0.0, never=1e9)
            dialect = db.engine.dialect.name
            ((statement, parameters),) = asked
            found = db.exec_driver_sql(_EXPLAIN[dialect] + statement, parameters)
            return dialect, [str(row[-1]) for row in found]

    dialect, lines = await crowded.call(plan)
    reads = [line for line in lines if "gpudrop_runs" in line]
    how = {"sqlite": "SEARCH gpudrop_runs USING COVERING INDEX", "postgresql": "Index Only Scan using gpudrop_runs_by"}
    assert reads and all(how[dialect] in line for line in reads), "\n".join(lines)
    assert not any(re.search(r"rows=\d{4}", line) for line in lines)
