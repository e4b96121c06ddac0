"""Listing as a source: what it passes over, how often it lists, what it does when the store fails."""

from __future__ import annotations

import asyncio
import os
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from structlog.testing import capture_logs

from listener.sources.folder import FolderWatch, FolderWatchSettings
from listener.sources.reconcile.removals import PAGE
from listener.sources.reconcile.source import Reconcile, ReconcileSettings
from listener.stores.base import ObjectMeta, UnlistableKey
from listener.stores.folder import FolderStore
from listener.stores.s3.store import S3Store
from manifests.errors import StoreUnavailable
from support.sources import Recorder, running

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ONCE = ReconcileSettings(interval_s=3600.0, look_back_s=None)


class Everything:
    """Knows nothing, so that everything is news; remembers how much it was asked at a time."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def unknown(self, bucket: str, metas: Sequence[ObjectMeta]) -> Sequence[ObjectMeta]:
        self.asked.append(len(metas))
        return metas

    async def record_listed(self, bucket: str, meta: ObjectMeta) -> None:
        raise AssertionError("nothing here is known by another name")

    async def unfinished(self, bucket: str) -> Sequence[str]:
        return ()

    async def taken_in(self, bucket: str, *, after: str, limit: int) -> Sequence[str]:
        return ()


class Listed:
    """The listing half of a store: `items` as they are given, after `failures` listings that break halfway."""

    def __init__(self, items: Iterable[ObjectMeta | UnlistableKey] = (), *, failures: int = 0) -> None:
        self.buckets = ("drop",)
        self.prefixes: list[str] = []
        self.held = asyncio.Event()
        self.held.set()
        self._items = items
        self._failures = failures

    async def list(self, bucket: str, prefix: str = "") -> AsyncIterator[ObjectMeta | UnlistableKey]:
        self.prefixes.append(prefix)
        await self.held.wait()
        for i, item in enumerate(self._items):
            if self._failures and i:
                self._failures -= 1
                raise StoreUnavailable("The store is away.")
            yield item

    async def head(self, bucket: str, key: str) -> ObjectMeta | None:
        return next((item for item in self._items if isinstance(item, ObjectMeta) and item.key == key), None)


def meta(key: str, age_s: float = 0.0) -> ObjectMeta:
    return ObjectMeta(key, 1, "e", NOW - timedelta(seconds=age_s))


def reconcile(store: Any, settings: ReconcileSettings = ONCE, **arguments: Any) -> Reconcile:
    arguments = {"known": Everything(), "interesting": lambda bucket, key: True, "now": lambda: NOW, **arguments}
    return Reconcile(store, settings=settings, **arguments)


async def test_what_is_old_or_of_no_interest_is_passed_over() -> None:
    store = Listed([meta("new.mp3", 10), meta("old.mp3", 1000), meta("notes.txt"), meta("edge.mp3", 100)])
    source = reconcile(
        store, ReconcileSettings(look_back_s=100.0), interesting=lambda bucket, key: key.endswith(".mp3")
    )
    inbox = Recorder()
    async with running(inbox, source):
        await inbox.until(lambda: inbox.created)
    assert set(inbox.created) == {"new.mp3", "edge.mp3"}


async def test_what_was_dropped_before_a_lead_was_taken_over_is_found() -> None:
    """A listener that did not lead was there all the same when it was dropped."""
    clock = [NOW]
    source = reconcile(Listed([meta("a.mp3", -30)]), ReconcileSettings(look_back_s=0.0), now=lambda: clock[0])
    clock[0] += timedelta(seconds=60)
    inbox = Recorder()
    async with running(inbox, source):
        await inbox.until(lambda: inbox.created["a.mp3"])


class Expecting(Everything):
    """Everything listed is known. `there` was taken in before."""

    def __init__(self, *there: str) -> None:
        super().__init__()
        self._there = sorted(there)

    async def unknown(self, bucket: str, metas: Sequence[ObjectMeta]) -> Sequence[ObjectMeta]:
        return ()

    async def taken_in(self, bucket: str, *, after: str, limit: int) -> Sequence[str]:
        return [key for key in self._there if key > after][:limit]


async def test_of_many_objects_that_are_gone_all_are_told_though_a_few_a_listing() -> None:
    there = [f"in/{i:04}.mp3" for i in range(3 * PAGE // 2)]
    known = Expecting("elsewhere.mp3", *there, "out/a.mp3")
    store = Listed([meta(there[0]), meta(there[PAGE])])
    inbox = Recorder()
    settings = ReconcileSettings(interval_s=0.01, look_back_s=0.0)
    async with running(inbox, reconcile(store, settings, known=known, prefixes=lambda bucket: ("in/",))):
        await inbox.until(lambda: len(inbox.removed) == len(there) - 2)
    assert set(inbox.removed) == set(there) - {there[0], there[PAGE]}
    assert max(inbox.batches) < PAGE


async def test_an_empty_listing_takes_nothing_for_gone() -> None:
    """It may be a folder whose disk is not mounted."""
    store = Listed()
    inbox = Recorder()
    async with running(inbox, reconcile(store, ReconcileSettings(interval_s=0.01), known=Expecting("a.mp3"))):
        while len(store.prefixes) < 3:
            await asyncio.sleep(0.01)
    assert not inbox.events


async def test_only_the_prefixes_of_a_bucket_are_listed() -> None:
    store = Listed()
    source = reconcile(store, ReconcileSettings(interval_s=0.01), prefixes=lambda bucket: ("in/", "films/"))
    async with running(Recorder(), source):
        while len(store.prefixes) < 2:
            await asyncio.sleep(0.01)
    assert set(store.prefixes) == {"in/", "films/"}


async def test_many_requests_lead_to_one_listing_more() -> None:
    store = Listed([meta("a.mp3")])
    store.held.clear()
    source = reconcile(store)
    inbox = Recorder(on_gap=source.request)
    async with running(inbox, source):
        await asyncio.sleep(0)
        for _ in range(50):
            inbox.gap("minio", "connected")
            await asyncio.sleep(0)
        store.held.set()
        await inbox.until(lambda: inbox.created["a.mp3"] == 2)
        await asyncio.sleep(0.2)
        assert len(store.prefixes) == 2
        inbox.gap("minio", "connected")
        await inbox.until(lambda: inbox.created["a.mp3"] == 3)


async def test_a_listing_that_breaks_is_made_again() -> None:
    store = Listed([meta("a.mp3"), meta("b.mp3")], failures=2)
    inbox = Recorder()
    async with running(inbox, reconcile(store)):
        await inbox.until(lambda: {"a.mp3", "b.mp3"} <= set(inbox.created))
    assert len(store.prefixes) == 3


async def test_memory_does_not_grow_with_the_bucket() -> None:
    class Many:
        def __iter__(self) -> Any:
            return (meta(f"{i:06}.mp3") for i in range(100_000))

    class Counting(Recorder):
        total = 0

        async def accept(self, events: Any) -> None:
            self.total += len(events)
            await super().accept([])

    known, inbox = Everything(), Counting()
    tracemalloc.start()
    try:
        async with running(inbox, reconcile(Listed(Many()), known=known)):
            await inbox.until(lambda: inbox.total == 100_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert max(known.asked) == 500
    assert peak < 5 * 2**20


async def test_odd_keys_are_named_once_and_stop_nothing(minio_server: Any, s3_store: S3Store) -> None:
    bucket = s3_store.buckets[0]
    odd = boto3.client(
        "s3",
        endpoint_url=minio_server.endpoint,
        aws_access_key_id=minio_server.access_key,
        aws_secret_access_key=minio_server.secret_key,
        region_name="us-east-1",
    )
    await asyncio.to_thread(odd.put_object, Bucket=bucket, Key="b\nb.mp3", Body=b"x")
    for key in ("a.mp3", "c.mp3"):
        await s3_store.write(bucket, key, b"x", content_type="")
    inbox = Recorder()
    with capture_logs() as logs:
        async with running(inbox, reconcile(s3_store, ReconcileSettings(interval_s=0.1, look_back_s=None))):
            await inbox.until(lambda: inbox.created["c.mp3"] >= 3)
    odd.close()
    assert set(inbox.created) == {"a.mp3", "c.mp3"}
    assert inbox.counts == {"unusable_key": 1}
    assert [line["key"] for line in logs if line["event"] == "key_unusable"] == ["b\nb.mp3"]


async def test_a_file_from_the_future_does_not_wait_for_it(folder_store: FolderStore) -> None:
    """As whatever was dropped before a clock was set back."""
    path: Path = folder_store.root / "a.job.json"
    path.write_bytes(b"{}")
    os.utime(path, (time.time() + 3600.0,) * 2)
    settings = ReconcileSettings(interval_s=0.1, settle_s=1.0)
    source = Reconcile(folder_store, Everything(), lambda bucket, key: True, settings)
    inbox = Recorder()
    async with running(inbox, source):
        await inbox.until(lambda: bool(inbox.events))


async def test_a_file_that_is_being_written_waits_for_its_end(folder_store: FolderStore) -> None:
    root: Path = folder_store.root
    sizes: list[int] = []

    class Sizes(Recorder):
        async def accept(self, events: Any) -> None:
            sizes.extend((root / event.key).stat().st_size for event in events)
            await super().accept(events)

    settings = ReconcileSettings(interval_s=0.1, settle_s=1.0)
    source = Reconcile(folder_store, Everything(), lambda bucket, key: True, settings)
    inbox = Sizes()
    watcher = FolderWatch(FolderWatchSettings(root, "drop"))
    async with running(inbox, watcher, source):
        with (root / "slow.mp3").open("wb") as file:
            for _ in range(5):
                file.write(b"x" * 1000)
                file.flush()
                await asyncio.sleep(0.2)
        await inbox.until(lambda: {event.source for event in inbox.events} == {"folder", "reconcile"})
    assert set(sizes) == {5000}
