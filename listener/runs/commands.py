"""Carries out commands that other processes left in the ledger: runs to end, runs to redrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from listener.ledger.intake import IntakeLedger
from listener.ledger.redrives import RedriveLedger
from listener.ledger.runs import RunLedger
from listener.run_request import redriven_row
from listener.signals import Cancellations
from manifests.errors import StoreUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.control")

POLL_S = 2.0


async def watch_commands(
    runs: RunLedger,
    redrives: RedriveLedger,
    intake: IntakeLedger,
    cancellations: Cancellations,
    *,
    accepted: Callable[[], None],
    clock: Callable[[], float],
) -> None:
    """Carries out commands until cancelled. `accepted` is called when a run waits to be started; `clock` gives epoch
    seconds."""
    while True:
        try:
            await _end_some(runs, cancellations)
            if await _redrive_some(runs, redrives, intake, clock()):
                accepted()
        except StoreUnavailable as e:
            log.error("commands_not_read", code=e.info.code, error=str(e), hint=e.info.hint)
        await asyncio.sleep(POLL_S)


async def _end_some(runs: RunLedger, cancellations: Cancellations) -> None:
    requested = await runs.ends_requested()
    for run_id, reason in requested.items():
        cancellations.request(run_id, reason)
    cancellations.retain(requested.keys())


async def _redrive_some(runs: RunLedger, redrives: RedriveLedger, intake: IntakeLedger, now: float) -> bool:
    """Creates the requested runs; returns whether there is a new one."""
    new = False
    for number, run_id in await redrives.requested():
        row = await runs.find(run_id)
        if row is not None:
            again = redriven_row(row, number, now)
            new = await intake.add_redrive(again) or new
            log.info("run_redriven", run_id=run_id, key=row.key, again=again.run_id)
        await redrives.answered(number)
    return new
