"""Accepted runs wait in the ledger; whenever the engine has room, those that have waited longest are started."""

from __future__ import annotations

import asyncio

import structlog

from listener.ledger.runs import RunLedger
from listener.runs.engine import Engine
from manifests.errors import StoreUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.starting")

_AT_ONCE = 8
_LOOK_S = 5.0
_RETRY_S = 2.0


class Starter:
    """`wanted` is set when runs were accepted, or one has ended. `limit` runs are told at once."""

    def __init__(self, runs: RunLedger, engine: Engine, wanted: asyncio.Event, *, member: str, limit: int) -> None:
        self._runs = runs
        self._engine = engine
        self._member = member
        self._limit = limit
        self._wanted = wanted

    async def run(self) -> None:
        """Until cancelled.

        What was claimed before this process began, or while the database went away, may not have reached the engine:
        it is given to it again. What had reached it is not started again.
        """
        resumed = False
        while True:
            try:
                if not resumed:
                    for row in await self._runs.claimed(self._member):
                        await self._engine.submit(row.run_id, row.request)
                    resumed = True
                if not await self._start_some():
                    await self._wait()
            except StoreUnavailable as e:
                log.error("runs_not_started", code=e.info.code, error=str(e), hint=e.info.hint)
                resumed = False
                await asyncio.sleep(_RETRY_S)

    async def _start_some(self) -> bool:
        """Whether there may be more to start at once."""
        room = min(self._limit - self._engine.telling, _AT_ONCE)
        if room <= 0:
            return False
        rows = await self._runs.claim(self._member, room)
        for row in rows:
            await self._engine.submit(row.run_id, row.request)
        return len(rows) == room

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._wanted.wait()
        except TimeoutError:
            pass
        self._wanted.clear()
