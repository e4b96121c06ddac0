"""What is asked again and again of tables that a flood fills reads no table from end to end, on either database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from listener.ledger.database import Database
from listener.ledger.inbox import InboxEvent, InboxLedger
from listener.ledger.input_waits import InputWait, InputWaitLedger
from listener.ledger.run_rows import RunRow
from listener.ledger.runs import RunLedger

SHARES = 3


class Plans:
    """Explains every statement as it is carried out."""

    def __init__(self) -> None:
        self.scans: list[str] = []
        self.statements = 0

    def explain(self, connection: sa.Connection, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
        if not statement.startswith(("SELECT gpudrop", "UPDATE", "DELETE")):
            return
        self.statements += 1
        postgresql = connection.dialect.name == "postgresql"
        given = parameters[0] if more[-1] else parameters
        other = cursor.connection.cursor()
        if postgresql:
            # A scan that is planned all the same is one for which there is no index.
            other.execute("SET LOCAL enable_seqscan = off")
        other.execute(("EXPLAIN " if postgresql else "EXPLAIN QUERY PLAN ") + statement, given)
        lines = [str(row[-1]).strip() for row in other.fetchall()]
        scans = ("Seq Scan on gpudrop_",) if postgresql else ("SCAN gpudrop_",)
        if not statement.startswith("SELECT gpudrop_runs.share, count"):
            # All that waits, read only to find a few of it.
            scans += ("(state=? AND member=?)",)
        if any(scan in line for line in lines for scan in scans):
            self.scans.append("\n".join((statement, *lines)))


async def test_claims_looks_and_wakes_read_by_index(database: Database) -> None:
    runs, waits, inbox = RunLedger(database), InputWaitLedger(database), InboxLedger(database, "m1")
    for i in range(2 * SHARES):
        share = f"b/{i % SHARES}"
        await runs.add(RunRow(f"r{i}", "b", f"{i % SHARES}/{i}", "t", "accepted", 1.0, 1.0, {}, share=share))
    await inbox.add([InboxEvent("b", f"{i % SHARES}/{i}", True, "s", 1.0) for i in range(2 * SHARES)], hold=False)
    plans = Plans()

    def listen() -> None:
        with database.begin() as db:
            event.listen(db.engine, "before_cursor_execute", plans.explain)

    await database.call(listen)
    assert len(await inbox.claim(SHARES, 2.0)) == SHARES
    claimed = await runs.claim("m1", SHARES)
    assert len(claimed) == SHARES
    await waits.begin([InputWait(row.run_id, (("b", row.run_id), ("b", "all")), "", 9.0) for row in claimed], "m1")
    assert await waits.objects_arrived([("b", "r0"), ("b", "r1"), ("c", "all")]) == 2
    assert await waits.objects_arrived([("b", "all"), ("b", "other")]) == 1
    due = await waits.due(9, 2.0)
    assert len(due) == SHARES
    await waits.record_examined({due[0].row.run_id: {}}, {due[1].row.run_id: 9.0})
    assert plans.statements >= 15
    assert plans.scans == []
