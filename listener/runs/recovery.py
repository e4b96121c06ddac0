"""Compares ledger and engine, and takes over the unfinished runs of listeners that are gone.

The two keep their records apart, and either may be lost or set back. A run that is unfinished in the ledger and unknown
to the engine starts over: what matters of its past, jobs above all, is in the ledger and in the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
from pydantic import TypeAdapter

from listener.cluster.base import Cluster
from listener.defects import DEFECT
from listener.ledger.inbox import InboxLedger
from listener.ledger.run_rows import RunRow, state_after
from listener.ledger.runs import RunLedger
from listener.run_request import RunRequest
from listener.runs.adoption import Adoption
from listener.runs.engine_base import Fate, RunEngine
from listener.runs.scheduler import begin_again
from manifests.errors import GpuDropError, RunSuperseded, StoreUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.recovery")

EVERY_S = 60.0
"""Seconds between two comparisons."""
_AGAIN_S = 2.0
"""Seconds before a difference is looked at again: a run is claimed in the ledger a moment before the engine records it.
"""

_REQUEST: TypeAdapter[RunRequest] = TypeAdapter(RunRequest)


class Recovery:
    """Finds runs that the engine lost or stopped, and ends or restarts them. `clock` gives epoch seconds."""

    def __init__(
        self, engine: RunEngine, runs: RunLedger, adoption: Adoption, cluster: Cluster, *, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._runs = runs
        self._adoption = adoption
        self._cluster = cluster
        self._clock = clock

    async def run(self) -> None:
        """Compares at once and then every minute, until cancelled."""
        while True:
            try:
                await self._compare()
            except GpuDropError as e:
                log.error("runs_not_compared", code=e.info.code, error=str(e), hint=e.info.hint)
            await asyncio.sleep(EVERY_S)

    async def _compare(self) -> None:
        doubtful = await self._doubtful()
        if not doubtful:
            return
        await asyncio.sleep(_AGAIN_S)
        found = (await self._runs.rows(sorted(doubtful & await self._doubtful()))).values()
        rows = [row for row in found if not row.ended]
        mine = self._cluster.member
        async with self._cluster.orphans({row.member for row in rows} - {mine}) as gone:
            await self._recover([row for row in rows if row.member in (mine, *gone)])

    async def _doubtful(self) -> set[str]:
        """Returns the runs that have not ended and that no engine executes."""
        ids = await self._runs.handed_over()
        fates = await self._engine.fates(ids)
        return {run_id for run_id in ids if fates.get(run_id) != "going on"}

    async def _recover(self, rows: Sequence[RunRow]) -> None:
        fates = await self._engine.fates([row.run_id for row in rows])
        for row in rows:
            match fates.get(row.run_id):
                case "going on":
                    continue
                case "over":
                    await self._close(row)
                case fate:
                    await self._restart(row, fate)

    async def _close(self, row: RunRow) -> None:
        """Records the end of a run whose workflow has ended, as its final sidecar says; nothing is done again."""
        if not await self._adoption.ended(_REQUEST.validate_python(row.request)):
            error_code = RunSuperseded.code if row.cancel == "superseded" else DEFECT.code
            state = state_after(error_code)
            await self._runs.update(row.run_id, state=state, at=self._clock(), error_code=error_code)
        log.warning("run_closed_again", run_id=row.run_id, key=row.key)

    async def _restart(self, row: RunRow, fate: Fate | None) -> None:
        # Claimed before the engine forgets it: interrupted in between, it is found here again.
        for claimed in await self._runs.reclaim([row.run_id], self._cluster.member):
            if fate is not None:
                await self._engine.drop([claimed.run_id])
            await self._engine.submit(claimed.run_id, claimed.request)
            log.warning("run_told_again", run_id=row.run_id, key=row.key, because=fate or "the engine has lost it")


LOOK_S = 3.0
"""Seconds between two searches for listeners that are gone."""
GRACE_S = 6.0
"""Seconds that listeners have to return to their places: a database that comes back finds all of them gone."""

_WATCH_S = 0.2


async def take_over(cluster: Cluster, engine: RunEngine, runs: RunLedger, inbox: InboxLedger) -> None:
    """Takes over the work of listeners that are gone, until cancelled. Runs resume where they were; keys in the inbox
    are examined by whichever listener claims them first."""
    while True:
        try:
            await _compare(cluster, engine, runs, inbox)
            await _wait_stable(cluster, LOOK_S)
        except StoreUnavailable as e:
            log.warning("no_takeover", error=str(e), hint=e.info.hint)
            await _wait_stable(cluster, GRACE_S)


async def _wait_stable(cluster: Cluster, for_s: float) -> None:
    """Returns after `for_s` during which the database was there, or GRACE_S after it came back."""
    now = asyncio.get_running_loop().time
    until = now() + for_s
    while now() < until:
        await asyncio.sleep(_WATCH_S)
        if not cluster.certain:
            until = now() + GRACE_S


async def _compare(cluster: Cluster, engine: RunEngine, runs: RunLedger, inbox: InboxLedger) -> None:
    busy = await engine.executors() | await runs.members() | await inbox.holders()
    others = busy - {cluster.member, ""}
    if not others:
        return
    async with cluster.orphans(others) as gone:
        for member in gone:
            for row in await begin_again(engine, runs, member=cluster.member, of=member):
                await engine.submit(row.run_id, row.request)
            # The engine first: a run that it knows is not started again when the ledger offers it again.
            adopted = await engine.adopt(member)
            waiting = await runs.claimed(member)
            await runs.release([row.run_id for row in waiting])
            await inbox.release([member])
            log.warning("taken_over", member=member, unfinished=adopted, not_started=len(waiting))


async def end_when_replaced(cluster: Cluster) -> None:
    """Raises StoreUnavailable once another listener has this one's name: two of one name would do the same work."""
    await cluster.lost.wait()
    raise StoreUnavailable(
        f"Another listener has become {cluster.member} while the database could not be reached.",
        hint="Start this one again: it takes a free place.",
    )
