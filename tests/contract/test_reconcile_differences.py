"""Stores whose listings tell an object's version otherwise than HEAD: it is told once or twice, not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from listener.ledger.database import Database
from listener.ledger.objects import ObjectLedger
from listener.sources.reconcile.source import Reconcile, ReconcileSettings
from listener.stores.base import ObjectMeta, UnlistableKey
from listener.stores.folder import FolderStore
from support.deadlines import HANG_S
from support.sources import Recorder, running


class Disagreeing:
    """A folder store whose listings are an hour ahead of its HEADs, with other ETags."""

    def __init__(self, store: FolderStore) -> None:
        self._store = store
        self.listings = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def list(self, bucket: str, prefix: str = "") -> AsyncIterator[ObjectMeta | UnlistableKey]:
        self.listings += 1
        async for item in self._store.list(bucket, prefix):
            if isinstance(item, ObjectMeta):
                later = item.last_modified + timedelta(hours=1)
                item = replace(item, etag=f"listed-{item.etag}", last_modified=later)
            yield item


class TakingIn(Recorder):
    """Records versions as HEAD tells them, or that there is none, as the listener does."""

    def __init__(self, store: FolderStore, ledger: ObjectLedger) -> None:
        super().__init__()
        self._store = store
        self._ledger = ledger

    async def accept(self, events: Any) -> None:
        for event in events:
            if meta := await self._store.head(event.bucket, event.key):
                await self._ledger.record_listed(event.bucket, meta)
            else:
                await self._ledger.forget(event.bucket, event.key)
        await super().accept(events)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[ObjectLedger]:
    database = Database(f"sqlite:///{tmp_path}/ledger.sqlite")
    await database.open()
    yield ObjectLedger(database)
    await database.close()


async def quiet(store: Disagreeing, inbox: TakingIn) -> None:
    """Waits for two listings in a row that told nothing."""
    async with asyncio.timeout(HANG_S):
        told, since = len(inbox.events), store.listings
        while store.listings < since + 3:
            await asyncio.sleep(0.01)
            if len(inbox.events) > told:
                told, since = len(inbox.events), store.listings


async def test_an_object_that_is_listed_otherwise_is_not_told_for_ever(
    folder_store: FolderStore, ledger: ObjectLedger
) -> None:
    store, inbox = Disagreeing(folder_store), TakingIn(folder_store, ledger)
    for i in range(20):
        await folder_store.write("drop", f"{i}.mp3", b"x", content_type="")
    source = Reconcile(store, ledger, lambda bucket, key: True, ReconcileSettings(0.02, look_back_s=None))
    async with running(inbox, source):
        await inbox.until(lambda: len(inbox.created) == 20)
        await quiet(store, inbox)
        assert max(inbox.created.values()) <= 2
        before = inbox.created["3.mp3"]
        await folder_store.write("drop", "3.mp3", b"another", content_type="")
        await inbox.until(lambda: inbox.created["3.mp3"] > before)
        await quiet(store, inbox)
        await folder_store.delete("drop", "4.mp3")
        await quiet(store, inbox)


async def test_what_nobody_took_in_is_told_again(folder_store: FolderStore, ledger: ObjectLedger) -> None:
    """An inbox only promises to keep what it accepts: until it has looked, the object stays news."""
    await folder_store.write("drop", "a.mp3", b"x", content_type="")
    inbox = Recorder()
    settings = ReconcileSettings(0.02, look_back_s=None)
    async with running(inbox, Reconcile(Disagreeing(folder_store), ledger, lambda bucket, key: True, settings)):
        await inbox.until(lambda: inbox.created["a.mp3"] >= 4)
