"""Records the outputs of runs whose ledger was lost, read from the done sidecars beside the drops.

They are recorded before the first object of a bucket that is new to the ledger becomes an event, because an output
that a trigger matches would start a run otherwise.

Everybody who may drop files may write a sidecar, so one is believed only beside its drop, and only of outputs below
the drop's folder or marked with its run's id.
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
from manifests.final_sidecars import FinalSidecar, final_sidecar_from_bytes, may_be_sidecar_of, may_vouch_for
from manifests.names import sidecar_parts
from manifests.sidecars import MAX_BYTES
from manifests.task_groups import gather_all

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.reconcile")

BATCH = 100
AT_ONCE = 16


class WrittenOutputs(Protocol):
    """The ledger's outputs of runs. Every method raises StoreUnavailable when it cannot read or record them now."""

    async def is_new(self, bucket: str) -> bool:
        """Returns whether no object of the bucket was ever taken in."""
        ...

    async def record_outputs(self, bucket: str, metas: Iterable[ObjectMeta], run_id: str, *, owner: str) -> None:
        """Records outputs that an ended run of the drop `owner` left."""
        ...


class EarlierOutputs:
    """Records the earlier outputs of each new bucket once."""

    def __init__(self, store: Store, outputs: WrittenOutputs) -> None:
        self._store = store
        self._outputs = outputs
        self._wanted: dict[str, bool] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def begin(self) -> None:
        """Notes which buckets are new, before other sources take anything in.

        Raises the ledger's errors. Where the store cannot name its buckets yet, each is checked at its first listing.
        """
        try:
            buckets = await self._store.find_buckets()
        except (StoreUnavailable, StoreDenied) as e:
            log.info("buckets_not_named", code=e.info.code, error=str(e))
            return
        for bucket in buckets:
            self._wanted[bucket] = await self._outputs.is_new(bucket)

    async def learn(self, bucket: str, prefixes: Sequence[str], oldest: datetime | None) -> None:
        """Reads a new bucket's sidecars not older than `oldest`. Raises the errors of the store and the ledger."""
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
        endings = await gather_all(self._ending(bucket, key) for key in keys)
        known = [ending for ending in endings if ending and ending.outputs]
        for ending in known:
            metas = await gather_all(self._head(bucket, key) for key in _candidates(bucket, ending))
            left = [meta for meta in metas if meta and _is_owned(ending, meta)]
            await self._outputs.record_outputs(bucket, left, ending.run_id, owner=ending.key)
        return len(known)

    async def _ending(self, bucket: str, key: str) -> FinalSidecar | None:
        async with self._gate:
            try:
                body = await self._store.read(bucket, key, max_bytes=MAX_BYTES["done"])
            except (InputTooLarge, StoreDenied, UnusableKey):
                return None
        ending = await asyncio.to_thread(final_sidecar_from_bytes, body) if body else None
        parts = sidecar_parts(key)
        return ending if ending and parts and may_be_sidecar_of(parts[0], ending.key) else None

    async def _head(self, bucket: str, key: str) -> ObjectMeta | None:
        """Returns the object's metadata; None when it is missing, denied or its key unusable."""
        async with self._gate:
            try:
                return await self._store.head(bucket, key)
            except (StoreDenied, UnusableKey):
                return None


def _candidates(bucket: str, ending: FinalSidecar) -> Iterable[str]:
    """Returns outputs worth a HEAD: all when the run id is that of the drop's version, else those below its folder."""
    is_run = ending.run_id == run_id_of(bucket, ending.key, ending.version)
    return [key for key in ending.outputs if is_run or may_vouch_for(ending.key, key)]


def _is_owned(ending: FinalSidecar, meta: ObjectMeta) -> bool:
    return may_vouch_for(ending.key, meta.key) or meta.run_id == ending.run_id


def _is_done(item: ObjectMeta, oldest: datetime | None) -> bool:
    parts = sidecar_parts(item.key)
    return parts is not None and parts[1] == "done" and (oldest is None or item.last_modified >= oldest)
