"""What a run's final sidecar tells of its callback: written into it, while it still is that run's."""

from __future__ import annotations

import asyncio

from pydantic import TypeAdapter

from listener.ledger.callbacks import CallbackRow
from listener.ledger.runs import RunLedger
from listener.run_request import RunRequest
from listener.store import Store, StoredObject
from manifests.documents import CONTENT_TYPE
from manifests.errors import InputTooLarge
from manifests.names import Sidecar
from manifests.sidecars import MAX_BYTES, CallbackNote, with_callback

_TRIES = 3
_KINDS: tuple[Sidecar, ...] = ("done", "error")
_REQUEST: TypeAdapter[RunRequest] = TypeAdapter(RunRequest)


class CallbackNotes:
    def __init__(self, store: Store, runs: RunLedger) -> None:
        self._store = store
        self._runs = runs

    async def write(self, row: CallbackRow) -> bool:
        """Whether the sidecar of `row`'s run tells of it now; it does not once a newer run of the drop has begun, or
        somebody has removed it. Raises what the store raises."""
        found = await self._runs.find(row.run_id)
        if found is None:
            return False
        newest = (await self._runs.of(found.bucket, found.key))[0]
        if newest.run_id != row.run_id:
            return False
        run = _REQUEST.validate_python(found.request)
        for kind in _KINDS:
            if await self._rewrite(run, kind, row):
                return True
        return False

    async def _rewrite(self, run: RunRequest, kind: Sidecar, row: CallbackRow) -> bool:
        """Only the version that was read is replaced: whatever a newer run writes there meanwhile stays."""
        note = CallbackNote(row.state, row.attempts, row.last_error, row.hint)
        for _ in range(_TRIES):
            found = await self._found(run, kind)
            data = await asyncio.to_thread(with_callback, found.content, run.run_id, note) if found else None
            if found is None or data is None:
                return False
            if await self._store.replace(
                run.bucket,
                run.sidecar(kind),
                data,
                content_type=CONTENT_TYPE,
                expected=found.meta.etag,
                run_id=run.run_id,
            ):
                return True
        return False

    async def _found(self, run: RunRequest, kind: Sidecar) -> StoredObject | None:
        try:
            return await self._store.get(run.bucket, run.sidecar(kind), max_bytes=MAX_BYTES[kind])
        except InputTooLarge:
            return None
