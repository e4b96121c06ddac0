"""What a listener that is gone left unfinished, taken over by those that are there."""

from __future__ import annotations

import asyncio

import structlog

from listener.cluster.base import Cluster
from listener.ledger.inbox import InboxLedger
from listener.ledger.runs import RunLedger
from listener.runs.engine_base import RunEngine
from listener.runs.starting import begin_again
from manifests.errors import StoreUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.takeover")

LOOK_S = 3.0
GRACE_S = 6.0
"""A database that comes back finds all of its listeners gone. They get so long to return to their places."""

_WATCH_S = 0.2


async def take_over(cluster: Cluster, engine: RunEngine, runs: RunLedger, inbox: InboxLedger) -> None:
    """Until cancelled. Runs go on where they were, keys are looked at by whoever claims them first."""
    while True:
        try:
            await _look(cluster, engine, runs, inbox)
            await _calm(cluster, LOOK_S)
        except StoreUnavailable as e:
            log.warning("no_takeover", error=str(e), hint=e.info.hint)
            await _calm(cluster, GRACE_S)


async def _calm(cluster: Cluster, for_s: float) -> None:
    """Returns after `for_s` in which the database was there, or after GRACE_S once it is there again."""
    now = asyncio.get_running_loop().time
    until = now() + for_s
    while now() < until:
        await asyncio.sleep(_WATCH_S)
        if not cluster.sure:
            until = now() + GRACE_S


async def _look(cluster: Cluster, engine: RunEngine, runs: RunLedger, inbox: InboxLedger) -> None:
    busy = await engine.executors() | await runs.members() | await inbox.holders()
    others = busy - {cluster.member, ""}
    if not others:
        return
    async with cluster.orphans(others) as gone:
        for member in gone:
            for row in await begin_again(engine, runs, member=cluster.member, of=member):
                await engine.submit(row.run_id, row.request)
            # The engine first: a run it knows is not started again when the ledger offers it again.
            adopted = await engine.adopt(member)
            waiting = await runs.claimed(member)
            await runs.release([row.run_id for row in waiting])
            await inbox.release([member])
            log.warning("taken_over", member=member, unfinished=adopted, not_started=len(waiting))


async def end_when_replaced(cluster: Cluster) -> None:
    """Raises once somebody else stands in this listener's place: two of one name would do the same work."""
    await cluster.lost.wait()
    raise StoreUnavailable(
        f"Another listener has become {cluster.member} while the database could not be reached.",
        hint="Start this one again: it takes a free place.",
    )
