"""An end that only a run's own final sidecar tells of: it proves itself, and is adopted.

A callback may have to be made from the sidecar that lies in the store, after a crash or with records that were lost. It
is signed like every other, so it must be known to be what the run wrote.

So it is after a crash between the sidecar and its record, and with a ledger or an engine that begins anew: a run's id
is that of the drop's version, so a sidecar that names it tells of this very version.

Whoever may drop may write such a sidecar: it ends the drop's own run, and makes nothing the run's that lies elsewhere,
unless the ledger or the object itself says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from listener.ledger.objects import ObjectLedger
from listener.ledger.run_rows import state_after
from listener.ledger.runs import RunLedger
from listener.run_request import RunRequest
from listener.runs.fence import Fence
from listener.runs.status import StatusPublisher
from listener.stores.base import ObjectMeta
from manifests.documents import document_bytes, document_fields
from manifests.final_sidecars import FinalSidecar, final_sidecar_from_bytes, may_tell_of
from manifests.names import Sidecar
from manifests.sidecars import without_callback
from manifests.task_groups import task_group

_FIELD = "seal"
_ABOUT = b"gpudrop: a final sidecar\n"
"""No other text that the secret signs begins so."""


@dataclass(frozen=True, slots=True)
class SidecarSignature:
    """Without a `secret` nothing is sealed, and everything holds: then nothing is signed either."""

    secret: str = field(default="", repr=False)

    def put(self, body: bytes) -> bytes:
        """`body`, a final sidecar, with its seal."""
        return document_bytes({**document_fields(body), _FIELD: self._of(body)}) if self.secret else body

    def holds(self, body: bytes) -> bool:
        """Whether `body` is what was sealed, whatever it tells of its callback since."""
        if not self.secret:
            return True
        told = document_fields(body).get(_FIELD)
        return isinstance(told, str) and hmac.compare_digest(told.encode("utf-8", "replace"), self._of(body).encode())

    def opened(self, body: bytes) -> bytes | None:
        """`body` as it was sealed, letter by letter: another spelling of it may say something else to other readers.

        None: the seal does not hold.
        """
        if not self.holds(body):
            return None
        return document_bytes(document_fields(body)) if self.secret else body

    def _of(self, body: bytes) -> str:
        fields = document_fields(without_callback(body))
        fields.pop(_FIELD, None)
        return hmac.new(self.secret.encode(), _ABOUT + document_bytes(fields), hashlib.sha256).hexdigest()


UNSEALED = SidecarSignature()


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
