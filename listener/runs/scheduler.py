"""Starts accepted runs, which wait in the ledger, whenever the engine has room, in fair turns of their folders."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import structlog

from listener.ledger.run_rows import RunRow
from listener.ledger.runs import RunLedger
from listener.runs.admission import Admission
from listener.runs.engine_base import RunEngine
from manifests.errors import StoreUnavailable
from manifests.task_groups import gather_all

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.starting")

_AT_ONCE = 32
_MOST = 5000
"""Runs that execute at once, whatever they wait for: each takes some 60 kB."""

_PATIENCE_S = 60.0
"""Seconds that a run waits for the end of an older one of its drop, which was asked to end; then it starts beside it.
"""

_GAP_S = 0.05
_GAP_TIMES = 2.0
_GAP_MOST_S = 0.25
"""Seconds between two claims: _GAP_TIMES what one takes, at least _GAP_S, at most _GAP_MOST_S. One claim for each slot
that becomes free would keep the ledger busy while thousands wait; a claim may have waited for the ledger itself, hence
the upper bound."""

_POLL_S = 5.0
_RETRY_S = 2.0


async def begin_again(engine: RunEngine, runs: RunLedger, *, member: str, of: str) -> list[RunRow]:
    """Claims for `member` what `of`, which is gone, left unfinished under another version of the recorded steps.

    Submitted again, these runs start over: what matters of their past, jobs above all, is in the ledger. They are
    claimed before the engine forgets them: an interrupted call is repeated, or the claim brings them back.
    """
    outdated = await engine.outdated(of)
    if not outdated:
        return []
    rows = await runs.reclaim(outdated, member)
    await engine.drop(outdated)
    log.warning("runs_of_another_version", member=of, told_again=len(rows))
    return rows


def gap_s(took_s: float) -> float:
    """Returns the seconds between a claim that took so long and the next one."""
    return min(_GAP_MOST_S, max(_GAP_S, _GAP_TIMES * took_s))


class RunScheduler:
    """Claims accepted runs and submits them to the engine.

    `wanted` is set when runs were accepted, or one has ended. `limit` runs execute at once, besides the `parked` ones,
    which only wait for an endpoint or a budget; `idle` counts those by share, as far as known. `admission` counts all
    that execute here.
    """

    def __init__(
        self,
        runs: RunLedger,
        engine: RunEngine,
        wanted: asyncio.Event,
        *,
        member: str,
        limit: int,
        parked: Callable[[], int],
        admission: Admission,
        idle: Callable[[], Mapping[str, int]] = Counter[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runs = runs
        self._engine = engine
        self._member = member
        self._limit = limit
        self._parked = parked
        self._admission = admission
        self._idle = idle
        self._next_claim = 0.0
        self._wanted = wanted
        self._clock = clock

    async def run(self) -> None:
        """Starts runs until cancelled. What was claimed before this process began, or while the database was away, may
        not have reached the engine and is submitted again. The engine ignores what it has already."""
        resumed = False
        while True:
            try:
                if not resumed:
                    await begin_again(self._engine, self._runs, member=self._member, of=self._engine.executor)
                    await self._submit(await self._runs.claimed(self._member))
                    resumed = True
                if not await self._start_some():
                    await self._wait()
            except StoreUnavailable as e:
                log.error("runs_not_started", code=e.info.code, error=str(e), hint=e.info.hint)
                resumed = False
                await asyncio.sleep(_RETRY_S)

    async def _start_some(self) -> bool:
        """Starts what there is room for; returns whether there may be more to start at once."""
        running = self._engine.running
        admission = self._admission
        room = min(self._limit - max(0, running - self._parked()), _MOST - running, _AT_ONCE, admission.room)
        admission.full = room <= 0
        if room <= 0:
            return False
        bounds = admission.bounds(self._limit, self._idle())
        now = asyncio.get_running_loop().time
        began = now()
        rows = await self._runs.claim(self._member, room, overdue=self._clock() - _PATIENCE_S, bounds=bounds)
        self._next_claim = now() + gap_s(now() - began)
        if rows:
            log.debug("runs_begun", keys=[row.key for row in rows])
        admission.full = len(rows) == room
        await self._submit(rows)
        return len(rows) == room

    async def _submit(self, rows: Sequence[RunRow]) -> None:
        for i in range(0, len(rows), _AT_ONCE):
            await gather_all(self._begin(row) for row in rows[i : i + _AT_ONCE])

    async def _begin(self, row: RunRow) -> None:
        self._admission.starting(row.run_id, row.share)
        try:
            await self._engine.submit(row.run_id, row.request)
        finally:
            if not self._engine.is_running(row.run_id):
                self._admission.ended(row.run_id)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_POLL_S):
                await self._wanted.wait()
        except TimeoutError:
            pass
        await asyncio.sleep(self._next_claim - asyncio.get_running_loop().time())
        self._wanted.clear()
