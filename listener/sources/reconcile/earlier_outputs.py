"""Outputs of runs that a lost ledger knew: a bucket that the ledger knows nothing of may hold many.

They are named by the done sidecars beside the drops, and known before the first object of the bucket is told of: an
output that a trigger takes would start a run otherwise.

Whoever may drop may write such a sidecar: it is believed where it lies beside its drop, of outputs below the drop's
folder and of those that its run has marked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

import structlog

from listener.run_request import run_id_of
from listener.stores.base import ObjectMeta, Store
from manifests.errors import InputTooLarge, StoreDenied, StoreUnavailable, UnusableKey
from manifests.final_sidecars import FinalSidecar, final_sidecar_from_bytes, is_beside, may_tell_of
from manifests.names import sidecar_parts
from manifests.sidecars import MAX_BYTES
from manifests.task_groups import gathered

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.reconcile")

BATCH = 100
AT_ONCE = 16


class WrittenOutputs(Protocol):
    """What runs wrote. Each raises StoreUnavailable when that cannot be told or recorded now."""

    async def is_new(self, bucket: str) -> bool:
        """Whether nothing of the bucket was ever taken in."""
        ...

    async def found(self, bucket: str, metas: Iterable[ObjectMeta], run_id: str, *, owner: str) -> None:
        """What an ended run of the drop `owner` has left."""
        ...


class EarlierOutputs:
    def __init__(self, store: Store, outputs: WrittenOutputs) -> None:
        self._store = store
        self._outputs = outputs
        self._wanted: dict[str, bool] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def begin(self) -> None:
        """Before anything is taken in: a bucket that is new now is new to the first listing, whatever comes first.

        Raises what the ledger raises. Where the store cannot name its buckets yet, each is judged when it is listed.
        """
        try:
            buckets = await self._store.find_buckets()
        except (StoreUnavailable, StoreDenied) as e:
            log.info("buckets_not_named", code=e.info.code, error=str(e))
            return
        for bucket in buckets:
            self._wanted[bucket] = await self._outputs.is_new(bucket)

    async def learn(self, bucket: str, prefixes: Sequence[str], oldest: datetime | None) -> None:
        """Once a bucket, where it is new. Raises what the store's `list` and `read` and the ledger raise."""
        if bucket not in self._wanted:
            self._wanted[bucket] = await self._outputs.is_new(bucket)
        if not self._wanted[bucket]:
            return
        found, batch = 0, list[str]()
        for prefix in prefixes:
            async for item in self._store.list(bucket, prefix):
                if isinstance(item, ObjectMeta) and _is_done(item, oldest):
                    batch.append(item.key)
                if len(batch) == BATCH:
                    found += await self._learn(bucket, batch)
                    batch = []
        found += await self._learn(bucket, batch)
        self._wanted[bucket] = False
        if found:
            log.info("earlier_outputs_found", bucket=bucket, runs=found)

    async def _learn(self, bucket: str, keys: Sequence[str]) -> int:
        endings = await gathered(self._ending(bucket, key) for key in keys)
        known = [ending for ending in endings if ending and ending.outputs]
        for ending in known:
            metas = await gathered(self._head(bucket, key) for key in _told(bucket, ending))
            left = [meta for meta in metas if meta and _is_left(ending, meta)]
            await self._outputs.found(bucket, left, ending.run_id, owner=ending.key)
        return len(known)

    async def _ending(self, bucket: str, key: str) -> FinalSidecar | None:
        async with self._gate:
            try:
                body = await self._store.read(bucket, key, max_bytes=MAX_BYTES["done"])
            except (InputTooLarge, StoreDenied, UnusableKey):
                return None
        ending = await asyncio.to_thread(final_sidecar_from_bytes, body) if body else None
        parts = sidecar_parts(key)
        return ending if ending and parts and is_beside(parts[0], ending.key) else None

    async def _head(self, bucket: str, key: str) -> ObjectMeta | None:
        """None also where nothing of ours can lie."""
        async with self._gate:
            try:
                return await self._store.head(bucket, key)
            except (StoreDenied, UnusableKey):
                return None


def _told(bucket: str, ending: FinalSidecar) -> Iterable[str]:
    """Outputs that are worth a look: those that its drop may tell of, and any of a run that there can have been."""
    is_run = ending.run_id == run_id_of(bucket, ending.key, ending.version)
    return [key for key in ending.outputs if is_run or may_tell_of(ending.key, key)]


def _is_left(ending: FinalSidecar, meta: ObjectMeta) -> bool:
    return may_tell_of(ending.key, meta.key) or meta.run_id == ending.run_id


def _is_done(item: ObjectMeta, oldest: datetime | None) -> bool:
    parts = sidecar_parts(item.key)
    return parts is not None and parts[1] == "done" and (oldest is None or item.last_modified >= oldest)
