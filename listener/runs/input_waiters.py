"""Runs without their inputs wait in the ledger, outside the engine: there waiting costs no slot and no memory.

An event about an input has its run checked at once, whichever listener receives it; without one the checks become
rarer, and all of them together are bounded. A run starts over once its inputs are there, its time is over, or it is to
end: of its earlier execution nothing is recorded but that it waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog
from pydantic import TypeAdapter

from listener.clock import Clock
from listener.ledger.input_waits import InputWait, InputWaitLedger, WaitingRun
from listener.ledger.run_rows import RunRow
from listener.run_request import RunRequest
from listener.runs.engine_base import RunEngine
from listener.runs.input_search import InputsAwaited
from listener.runs.steps import Released
from listener.signals import ObjectWaiters
from listener.stores.base import Store
from manifests.errors import GpuDropError, StoreUnavailable
from manifests.task_groups import gather_all

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.waiting")

POLL_S = 1.0
"""Seconds between two queries for runs that are due."""
FIRST_S = 1.0
"""Seconds from a run's release to its first check: an event may have come in between."""
LEAST_S = 2.0
MOST_S = 10.0
"""Between two checks of one run lies half its age, but at least LEAST_S and at most MOST_S seconds."""
EXAMINATIONS_PER_S = 50.0
"""Runs checked per second, besides those that events name: a store with thousands of them is not flooded."""
NOTIFIED_BATCH = 100
"""Runs named by events that are checked at once."""
_GAP_S = 0.1
_PARALLEL = 16
_RETRY_S = 2.0

_REQUEST: TypeAdapter[RunRequest] = TypeAdapter(RunRequest)


class InputWaiters:
    """Records runs that wait for inputs, and starts them over. `accepted` is called when runs wait to be started."""

    def __init__(
        self,
        waits: InputWaitLedger,
        store: Store,
        object_waiters: ObjectWaiters,
        *,
        member: str,
        accepted: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._waits = waits
        self._store = store
        self._object_waiters = object_waiters
        self._member = member
        self._accepted = accepted
        self._clock = clock
        self._leaving: deque[tuple[str, InputsAwaited]] = deque()
        self._examinations = EXAMINATIONS_PER_S
        self._growing: dict[str, dict[tuple[str, str], str]] = {}
        """Versions last seen of files that were still being written, by run and object."""

    def released(self, run_id: str, why: Released) -> None:
        """Takes in a run whose workflow ended before the run did."""
        if isinstance(why, InputsAwaited):
            self._leaving.append((run_id, why))
            if why.growing:
                self._growing[run_id] = dict.fromkeys(why.growing, "")
            self._object_waiters.any.set()

    async def run(self, engine: RunEngine) -> None:
        """Records released runs and checks waiting ones, until cancelled."""
        now = asyncio.get_running_loop().time
        last, tidied = now(), False
        while True:
            try:
                if not tidied:
                    await self._waits.tidy()
                    tidied = True
                self._examinations = min(EXAMINATIONS_PER_S, self._examinations + EXAMINATIONS_PER_S * (now() - last))
                last = now()
                await self._begin(engine)
                told = self._object_waiters.drain()
                hurried = await self._waits.objects_arrived(told) if told else 0
                await self._examine(int(self._examinations) + min(hurried, NOTIFIED_BATCH))
            except StoreUnavailable as e:
                log.error("waiting_runs_not_looked_at", code=e.info.code, error=str(e), hint=e.info.hint)
                await asyncio.sleep(_RETRY_S)
            await asyncio.sleep(_GAP_S)
            await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL_S - _GAP_S):
                await self._object_waiters.any.wait()
        except TimeoutError:
            pass

    async def _begin(self, engine: RunEngine) -> None:
        """Moves released runs from the engine to the ledger; the engine forgets them first. Interrupted in between, a
        run is one that the engine has lost, and is started over."""
        leaving = list(self._leaving)
        if not leaving:
            return
        run_ids = [run_id for run_id, _ in leaving]
        due = self._clock() + FIRST_S
        waits = [InputWait(run_id, tuple(sorted(why.missing | why.growing)), why.note, due) for run_id, why in leaving]
        await engine.drop(run_ids)
        await self._waits.begin(waits, self._member)
        engine.forget_released(run_ids)
        for _ in leaving:
            self._leaving.popleft()
        log.debug("runs_wait_for_inputs", runs=len(leaving))

    async def _examine(self, limit: int) -> None:
        if limit <= 0:
            return
        found = await self._waits.due(limit, self._clock())
        if not found:
            return
        self._examinations = max(0.0, self._examinations - len(found))
        again: dict[str, float] = {}
        for i in range(0, len(found), _PARALLEL):
            some = found[i : i + _PARALLEL]
            for each, pause_s in zip(some, await gather_all(self._pause_s(each) for each in some), strict=True):
                if pause_s is not None:
                    again[each.row.run_id] = self._clock() + pause_s
        start = {row.run_id: self._waited(row) for row in (each.row for each in found) if row.run_id not in again}
        await self._waits.record_examined(start, again)
        for run_id in start:
            self._growing.pop(run_id, None)
        if start:
            self._accepted()

    def _waited(self, row: RunRow) -> Any:
        """Returns the request of a run that has waited until now, as the engine gets it."""
        request = replace(_REQUEST.validate_python(row.request), waited=self._clock())
        return _REQUEST.dump_python(request, mode="json")

    async def _pause_s(self, run: WaitingRun) -> float | None:
        """Returns the seconds until the next check of `run`; None: it starts now."""
        if run.row.cancel:
            return None
        request = _REQUEST.validate_python(run.row.request)
        age_s = self._clock.age_s(request.received)
        left_s = request.trigger.wait_for_inputs_s - age_s
        if left_s <= 0 or not await self._lacks(run):
            return None
        return min(left_s, max(LEAST_S, min(MOST_S, age_s / 2)))

    async def _lacks(self, run: WaitingRun) -> bool:
        """Whether an object is still missing or growing. A refusal is left to the run itself to report."""
        growing = self._growing.get(run.row.run_id, {})
        for at in run.objects:
            try:
                meta = await self._store.head(*at)
            except StoreUnavailable:
                return True
            except GpuDropError:
                return False
            if meta is None:
                return True
            if at in growing and growing[at] != meta.version:
                growing[at] = meta.version
                return True
        return False
