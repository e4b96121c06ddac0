"""Adopts the end of a run from its own final sidecar, and signs final sidecars.

The record of an end is missing after a crash between the sidecar and its record, and when ledger or engine start empty.
A run's id is that of the drop's version, so a sidecar that names the id describes this very version.

A callback may have to be made from the sidecar in the store after such a loss. Callbacks are signed, so the sidecar
must be proven to be what the run wrote.

Anyone who may drop may write such a sidecar. It ends the drop's own run, but makes nothing outside the drop's folder
the run's unless the ledger or the object itself says so.
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
from manifests.final_sidecars import FinalSidecar, final_sidecar_from_bytes, may_vouch_for
from manifests.names import Sidecar
from manifests.sidecars import without_callback
from manifests.task_groups import task_group

_FIELD = "seal"
_ABOUT = b"gpudrop: a final sidecar\n"
"""Begins the signed text; no other text that the secret signs begins so."""


@dataclass(frozen=True, slots=True)
class SidecarSignature:
    """Signs final sidecars and checks their signatures."""

    secret: str = field(default="", repr=False)
    """Empty: nothing is signed, callbacks neither, and every sidecar counts as valid."""

    def sign(self, body: bytes) -> bytes:
        """Returns the final sidecar `body` with its signature."""
        return document_bytes({**document_fields(body), _FIELD: self._of(body)}) if self.secret else body

    def is_valid(self, body: bytes) -> bool:
        """Whether `body` is what was signed, whatever it says of its callback since."""
        if not self.secret:
            return True
        told = document_fields(body).get(_FIELD)
        return isinstance(told, str) and hmac.compare_digest(told.encode("utf-8", "replace"), self._of(body).encode())

    def verified(self, body: bytes) -> bytes | None:
        """Returns `body` in the spelling that was signed; None if the signature does not match. Other readers may
        understand another spelling differently."""
        if not self.is_valid(body):
            return None
        return document_bytes(document_fields(body)) if self.secret else body

    def _of(self, body: bytes) -> str:
        fields = document_fields(without_callback(body))
        fields.pop(_FIELD, None)
        return hmac.new(self.secret.encode(), _ABOUT + document_bytes(fields), hashlib.sha256).hexdigest()


UNSEALED = SidecarSignature()


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.runs")

READ_BATCH = 8
"""Outputs of an adopted run whose metadata is read at once."""

_FINAL: tuple[Sidecar, ...] = ("done", "error")


class Adoption:
    """Finds and records ends of runs that only their final sidecars show. `clock` gives epoch seconds."""

    def __init__(
        self,
        objects: ObjectLedger,
        runs: RunLedger,
        publisher: StatusPublisher,
        fence: Fence,
        *,
        clock: Callable[[], float],
        signature: SidecarSignature = UNSEALED,
    ) -> None:
        self._objects = objects
        self._runs = runs
        self._publisher = publisher
        self._fence = fence
        self._clock = clock
        self._signature = signature

    async def begin(self, run: RunRequest) -> bytes | None:
        """Returns the final sidecar that an earlier execution of `run` left, and records the run's end; None if there
        is none.

        For a version's first run the sidecar of a later run of that version counts too: the first one starts after a
        later one only where records were lost. If None is returned, final sidecars of other runs of the drop were
        removed, so that none is taken for this run's.
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
        """Whether an earlier execution of `run` left a final sidecar; records the run's end if so."""
        for kind in _FINAL:
            body = await self._fence.sidecar(run, kind)
            if body and await self._adopted(run, body):
                return True
        return False

    async def is_recorded(self, run: RunRequest) -> bool:
        """Whether the ledger says that the run has ended."""
        row = await self._runs.find(run.run_id)
        return row is not None and row.ended

    async def final_sidecar(self, run: RunRequest) -> bytes | None:
        """Returns the final sidecar that `run` itself wrote, if it is still there; one without a valid signature is
        skipped."""
        for kind in _FINAL:
            if body := await self._fence.own_sidecar(run, kind):
                if (verified := await asyncio.to_thread(self._signature.verified, body)) is not None:
                    return verified
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
        told = [meta for meta in metas if may_vouch_for(run.key, meta.key) or meta.run_id == run.run_id]
        # Records only keys that the run had claimed, wherever they lie.
        await self._objects.record_written(run.bucket, metas, run.run_id)
        await self._objects.record_outputs(run.bucket, told, run.run_id, owner=run.key, lineage=run.lineage)
        await self._fence.remove_own(run, "status")
        state = state_after(ending.error_code)
        await self._runs.update(run.run_id, state=state, at=self._clock(), error_code=ending.error_code)
        log.info("run_found_ended", run_id=run.run_id, key=run.key, state=state)

    async def _there(self, run: RunRequest, keys: Sequence[str]) -> list[ObjectMeta]:
        """Returns the metadata of what exists under `keys`, read a few at once: a sidecar may name thousands."""
        left = iter(dict.fromkeys(keys))
        found: list[ObjectMeta] = []

        async def read() -> None:
            found.extend([meta for key in left if (meta := await self._fence.head(run, key))])

        async with task_group() as group:
            for _ in range(READ_BATCH):
                group.create_task(read())
        return found
