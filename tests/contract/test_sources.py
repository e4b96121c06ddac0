"""What every source of events promises, each against the real store it listens to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from listener.ledger.database import Database
from listener.ledger.objects import ObjectLedger
from listener.sources.base import EventSource
from listener.sources.folder.source import FolderWatch, FolderWatchSettings
from listener.sources.listen.signing import AccessKeys
from listener.sources.listen.source import MinioListen, MinioListenSettings
from listener.sources.reconcile import Reconcile, ReconcileSettings
from listener.store import Store
from support.sources import Recorder, running

ODD_KEYS = [
    "a|b.mp3",
    "it's.mp3",
    "1+1=2.mp3",
    "100%20sure.mp3",
    "music 🎵/ção.mp3",
    "with  spaces .mp3",
    "&=?#*[]{}!@$^();,~`.mp3",
    "GOD IS GREATER/SEE GOD'S PLAN UNFOLDING FOR YOU RIGHT NOW | Inspiration | Motivational/audios/audio_final.mp3",
]


@dataclass(frozen=True)
class Bench:
    """A store, a source over it, and the ledger that reconciling asks; `saw` is called for what was accepted."""

    store: Store
    source: EventSource
    saw: Callable[[str], Any] | None = None

    @property
    def bucket(self) -> str:
        return self.store.buckets[0]

    async def put(self, key: str, data: bytes = b"x") -> None:
        await self.store.write(self.bucket, key, data, content_type="text/html")


@pytest.fixture(params=["folder", "folder-polling", "minio", "reconcile-folder", "reconcile-minio"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def store(kind: str, request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue("s3_store" if kind.endswith("minio") else "folder_store")


@pytest.fixture
def minio_listen(kind: str, request: pytest.FixtureRequest) -> MinioListen | None:
    if kind != "minio":
        return None
    server, bucket = request.getfixturevalue("minio_server"), request.getfixturevalue("minio_bucket")
    settings = MinioListenSettings(server.endpoint, (bucket,), ping_s=1)
    return MinioListen(settings, lambda: AccessKeys(server.access_key, server.secret_key))


@pytest.fixture
async def bench(kind: str, store: Any, minio_listen: MinioListen | None, tmp_path: Path) -> AsyncIterator[Bench]:
    if kind.startswith("folder"):
        settings = FolderWatchSettings(store.root, store.buckets[0], polling=kind == "folder-polling")
        yield Bench(store, FolderWatch(settings))
    elif minio_listen:
        yield Bench(store, minio_listen)
    else:
        async with ledger(tmp_path) as known:
            settings = ReconcileSettings(interval_s=0.3)
            source = Reconcile(store, known, lambda bucket, key: True, settings)

            async def saw(key: str) -> None:
                if meta := await store.head(store.buckets[0], key):
                    await known.saw(store.buckets[0], meta)

            yield Bench(store, source, saw)


@asynccontextmanager
async def ledger(folder: Path) -> AsyncIterator[ObjectLedger]:
    database = Database(f"sqlite:///{folder}/ledger.sqlite")
    await database.open()
    yield ObjectLedger(database)
    await database.close()


class Intake(Recorder):
    """Records what it accepted in the bench's ledger, as the listener does."""

    def __init__(self, bench: Bench, *, failures: int = 0) -> None:
        super().__init__(failures=failures)
        self._bench = bench

    async def accept(self, events: Any) -> None:
        if self.refused >= self._failures and self._bench.saw:
            for event in events:
                await self._bench.saw(event.key)
        await super().accept(events)


@asynccontextmanager
async def listening(bench: Bench, *, failures: int = 0) -> AsyncIterator[Intake]:
    """The source at work, past its start: what is put now it must tell."""
    inbox = Intake(bench, failures=failures)
    async with running(inbox, bench.source):
        if not isinstance(bench.source, Reconcile):
            await inbox.until(lambda: any("connected" in gap or "begun" in gap for gap in inbox.gaps))
        yield inbox


async def test_a_new_object_is_told_by_its_raw_key(bench: Bench) -> None:
    async with listening(bench) as inbox:
        for key in ODD_KEYS:
            await bench.put(key)
        await inbox.until(lambda: set(inbox.created) >= set(ODD_KEYS))
    assert set(inbox.created) == set(ODD_KEYS)
    assert {(event.bucket, event.source) for event in inbox.events} == {(bench.bucket, bench.source.name)}


async def test_an_overwrite_is_told_again(bench: Bench) -> None:
    async with listening(bench) as inbox:
        await bench.put("talk.job.yaml", b"audio: a.mp3")
        await inbox.until(lambda: inbox.created["talk.job.yaml"] == 1)
        # Polling tells modification times apart by the second.
        written = int(time.time())
        while int(time.time()) <= written:
            await asyncio.sleep(0.05)
        await bench.put("talk.job.yaml", b"audio: b.mp3")
        await inbox.until(lambda: inbox.created["talk.job.yaml"] >= 2)


@pytest.mark.parametrize("kind", ["folder", "folder-polling", "minio"])
async def test_a_removal_is_told(bench: Bench) -> None:
    async with listening(bench) as inbox:
        await bench.put("a/talk.job.yaml")
        await inbox.until(lambda: inbox.created["a/talk.job.yaml"])
        await bench.store.delete(bench.bucket, "a/talk.job.yaml")
        await inbox.until(lambda: inbox.removed["a/talk.job.yaml"])


async def test_what_could_not_be_accepted_comes_again(bench: Bench) -> None:
    async with listening(bench, failures=3) as inbox:
        await bench.put("a.mp3")
        await bench.put("b.mp3")
        await inbox.until(lambda: set(inbox.created) == {"a.mp3", "b.mp3"})
    assert inbox.refused == 3


async def test_two_hundred_at_once_are_all_told(bench: Bench) -> None:
    keys = {f"many/{i % 7}/{i:03}.mp3" for i in range(200)}
    async with listening(bench) as inbox:
        for key in keys:
            await bench.put(key)
        await inbox.until(lambda: set(inbox.created) >= keys)
    assert set(inbox.created) == keys
