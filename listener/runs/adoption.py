"""An end that a run's own final sidecar tells of and no record does: it is adopted, and the run is not done again.

So it is after a crash between the sidecar and its record, and with a ledger or an engine that begins anew: a run's id
is that of the drop's version, so a sidecar that names it tells of this very version.

Whoever may drop may write such a sidecar: it ends the drop's own run, and makes nothing the run's that lies elsewhere,
unless the ledger or the object itself says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from listener.ledger.objects import ObjectLedger
from listener.ledger.run_states import state_after
from listener.ledger.runs import RunLedger
from listener.run_request import RunRequest
from listener.runs.board import StatusPublisher
from listener.runs.fence import Fence
from listener.runs.seal import UNSEALED, SidecarSignature
from listener.store import ObjectMeta
from manifests.endings import FinalSidecar, final_sidecar_from_bytes, may_tell_of
from manifests.error_groups import task_group
from manifests.names import Sidecar

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.runs")

LOOKS_AT_ONCE = 8
"""Outputs of an adopted run that are looked at together."""

_FINAL: tuple[Sidecar, ...] = ("done", "error")


class Adoption:
    """`clock` gives epoch seconds."""

    def __init__(
        self,
        objects: ObjectLedger,
        runs: RunLedger,
        publisher: StatusPublisher,
        fence: Fence,
        *,
        clock: Callable[[], float],
        seal: SidecarSignature = UNSEALED,
    ) -> None:
        self._objects = objects
        self._runs = runs
        self._publisher = publisher
        self._fence = fence
        self._clock = clock
        self._seal = seal

    async def begin(self, run: RunRequest) -> bytes | None:
        """The final sidecar that `run` left in an earlier life, whose end is recorded now.

        A version's first run has left that of a later one, too: it begins after that only where records were lost.
        None: it left none, and those of other runs of the drop are cleared away, so that none is taken for this run's.
        """
        others: list[Sidecar] = []
        for kind in _FINAL:
            body = await self._fence.sidecar(run, kind)
            if body and await self._adopted(run, body, of_version=run.is_first):
                return body
            if body is not None:
                others.append(kind)
        for kind in others:
            await self._fence.remove(run, kind)
        return None

    async def ended(self, run: RunRequest) -> bool:
        """Whether a final sidecar of `run`, left in an earlier life, lies there; its end is recorded now."""
        for kind in _FINAL:
            body = await self._fence.sidecar(run, kind)
            if body and await self._adopted(run, body):
                return True
        return False

    async def is_recorded(self, run: RunRequest) -> bool:
        """Whether the ledger knows that the run has ended."""
        row = await self._runs.find(run.run_id)
        return row is not None and row.ended

    async def final_sidecar(self, run: RunRequest) -> bytes | None:
        """The final sidecar that `run` itself wrote, if it still lies there; one that only says so is not."""
        for kind in _FINAL:
            if body := await self._fence.own_sidecar(run, kind):
                if (opened := await asyncio.to_thread(self._seal.opened, body)) is not None:
                    return opened
                log.warning("sidecar_not_sealed", run_id=run.run_id, key=run.key, kind=kind)
        return None

    async def _adopted(self, run: RunRequest, body: bytes, *, of_version: bool = False) -> bool:
        ending = await asyncio.to_thread(final_sidecar_from_bytes, body)
        if ending is None or ending.key != run.key:
            return False
        if ending.run_id != run.run_id and not (of_version and ending.version == run.version):
            return False
        await self._adopt(run, ending)
        return True

    async def _adopt(self, run: RunRequest, ending: FinalSidecar) -> None:
        await self._publisher.close(run.run_id)
        metas = await self._there(run, ending.outputs)
        told = [meta for meta in metas if may_tell_of(run.key, meta.key) or meta.run_id == run.run_id]
        # Of all others the ledger tells whether the run had claimed them.
        await self._objects.wrote(run.bucket, metas, run.run_id)
        await self._objects.found(run.bucket, told, run.run_id, owner=run.key, lineage=run.lineage)
        await self._fence.take_back(run, "status")
        state = state_after(ending.error_code)
        await self._runs.update(run.run_id, state=state, at=self._clock(), error_code=ending.error_code)
        log.info("run_found_ended", run_id=run.run_id, key=run.key, state=state)

    async def _there(self, run: RunRequest, keys: Sequence[str]) -> list[ObjectMeta]:
        """What lies under `keys`, a few looked at together: a sidecar may name thousands."""
        left = iter(dict.fromkeys(keys))
        found: list[ObjectMeta] = []

        async def look() -> None:
            found.extend([meta for key in left if (meta := await self._fence.there(run, key))])

        async with task_group() as group:
            for _ in range(LOOKS_AT_ONCE):
                group.create_task(look())
        return found
