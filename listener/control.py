"""Commands from other processes, found in the ledger: runs to end, runs to drive again."""

from __future__ import annotations

import asyncio

import structlog

from listener.intake import Intake
from listener.ledger.runs import RunLedger
from listener.signals import Ends
from manifests.errors import StoreUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.control")

LOOK_S = 2.0


async def follow_commands(runs: RunLedger, intake: Intake, ends: Ends) -> None:
    """Until cancelled."""
    while True:
        try:
            await _look(runs, intake, ends)
        except StoreUnavailable as e:
            log.error("commands_not_read", code=e.info.code, error=str(e), hint=e.info.hint)
        await asyncio.sleep(LOOK_S)


async def _look(runs: RunLedger, intake: Intake, ends: Ends) -> None:
    for run_id, reason in (await runs.ends_requested()).items():
        ends.request(run_id, reason)
    for number, run_id in await runs.redrives():
        row = await runs.find(run_id)
        if row is not None:
            again = await intake.redrive(number, row)
            log.info("run_redriven", run_id=run_id, key=row.key, again=again)
        await runs.redriven(number)
