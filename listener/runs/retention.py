"""Forgets old runs in the engine and in the ledger. What was seen and written stays known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from listener.ledger.callbacks import CallbackLedger
from listener.ledger.runs import RunLedger
from listener.runs.engine_base import RunEngine
from manifests.errors import StoreUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sweeping")

EVERY_S = 3600.0
"""Seconds between two sweeps."""


async def sweep_old_runs(
    engine: RunEngine, runs: RunLedger, callbacks: CallbackLedger, *, keep_s: float, clock: Callable[[], float]
) -> None:
    """Forgets runs that ended more than `keep_s` seconds ago, at once and then every hour, until cancelled. `clock`
    gives epoch seconds."""
    while True:
        before = clock() - keep_s
        try:
            forgotten = 0
            while count := await engine.forget(before):
                forgotten += count
            await runs.forget(before)
            await callbacks.forget(before)
            if forgotten:
                log.info("runs_forgotten", runs=forgotten)
        except StoreUnavailable as e:
            log.error("runs_not_forgotten", error=str(e), hint=e.info.hint)
        await asyncio.sleep(EVERY_S)
