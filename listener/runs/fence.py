"""Guards what a run writes and removes under keys that a newer run of its drop uses as well.

A run may write while the ledger says that it has not ended and that no newer run replaces it. The ledger is asked
before each write, and the write is conditional on the key being as it was before the ledger was asked: what a newer run
has written there meanwhile stays.
"""

from __future__ import annotations

import asyncio

from listener.ledger.runs import RunLedger
from listener.run_request import RunRequest
from listener.stores.base import ObjectMeta, Store
from manifests.errors import InputTooLarge, ObjectDenied, RunSuperseded, StoreUnavailable, UnusableKey
from manifests.final_sidecars import run_id_of
from manifests.names import Sidecar
from manifests.sidecars import MAX_BYTES

_TRIES = 8


class Fence:
    """Writes and removes a run's objects as long as the run may write."""

    def __init__(self, store: Store, runs: RunLedger) -> None:
        self._store = store
        self._runs = runs

    async def check(self, run: RunRequest) -> None:
        """Raises RunSuperseded when `run` may write nothing more."""
        if not await self._runs.may_write(run.run_id):
            raise RunSuperseded("The run has ended, or a newer one of its drop has begun.", hint="See the newer run.")

    async def write(self, run: RunRequest, key: str, data: bytes, *, content_type: str) -> str:
        """Writes `data` under `key` and returns its ETag. Raises RunSuperseded, and what the store raises."""
        expected: str | None = None
        for _ in range(_TRIES):
            await self.check(run)
            etag = await self._store.replace(
                run.bucket, key, data, content_type=content_type, expected=expected, run_id=run.run_id
            )
            if etag is not None:
                return etag
            now = await self._store.head(run.bucket, key)
            expected = now.etag if now else None
        raise StoreUnavailable(f"{key!r} changes all the time.", hint="See who else writes there.", where=key)

    async def head(self, run: RunRequest, key: str) -> ObjectMeta | None:
        """Returns the metadata of `key`; None also for what can never be read: no run has left it."""
        try:
            return await self._store.head(run.bucket, key)
        except (ObjectDenied, UnusableKey):
            return None

    async def own_sidecar(self, run: RunRequest, kind: Sidecar) -> bytes | None:
        """Returns the sidecar of this kind, if `run` wrote it."""
        body = await self.sidecar(run, kind)
        return body if body and await asyncio.to_thread(run_id_of, body) == run.run_id else None

    async def sidecar(self, run: RunRequest, kind: Sidecar) -> bytes | None:
        """Returns the sidecar of this kind, whoever wrote it; b"" for one that is too large, or may not be read. None:
        nothing is there, or no store can hold the key."""
        try:
            return await self._store.read(run.bucket, run.sidecar(kind), max_bytes=MAX_BYTES[kind])
        except (InputTooLarge, ObjectDenied):
            return b""
        except UnusableKey:
            return None

    async def remove_own(self, run: RunRequest, kind: Sidecar) -> None:
        """Removes the sidecar of this kind if `run` wrote it; leaves any other run's."""
        if await self.own_sidecar(run, kind) is not None:
            await self._store.delete(run.bucket, run.sidecar(kind))

    async def remove(self, run: RunRequest, kind: Sidecar) -> None:
        """Removes the sidecar of this kind, whichever run wrote it. Raises RunSuperseded. Mostly there is none, so it
        is read: that costs one request, a HEAD that finds nothing two."""
        if await self.sidecar(run, kind) is not None:
            await self.check(run)
            await self._store.delete(run.bucket, run.sidecar(kind))
