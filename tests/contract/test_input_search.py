"""Inputs that are refused, missing with their whole bucket, or written to without end; on a real MinIO and a folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from handlers.base import Reference
from listener.clock import Clock
from listener.runs import inputs
from listener.runs.defaults import Refusals
from listener.runs.input_search import SETTLE_S, InputsAwaited, InputTerms
from listener.runs.inputs import GROWTH_PATIENCE_S, FoundInput, InputFinder
from listener.runs.manifests import DocumentFetcher
from listener.signals import ObjectWaiters
from listener.stores.base import Store
from listener.stores.folder import FolderStore
from listener.stores.s3.store import S3Store
from manifests.errors import InputMissing, InputUnsettled, ObjectDenied, StoreDenied, StoreUnavailable
from manifests.references import ObjectRef, ReferencePolicy
from support.deadlines import HANG_S
from support.store_proxy import DENIED, NO_BUCKET, SLOW_DOWN, StoreProxy, store_proxy
from support.stores import settings_for

DROP = "a.job.json"
SECRET = Reference("audio", "secret.mp3")


class Told:
    """What a status would say."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def __call__(self, words: tuple[str, ...]) -> None:
        self.words += [each for each in words if each not in self.words]


def finder(store: Store, *, grows: bool = False, growth_patience_s: float = GROWTH_PATIENCE_S) -> InputFinder:
    return InputFinder(
        store,
        DocumentFetcher(frozenset()),
        ObjectWaiters(),
        ReferencePolicy(allowed_buckets=frozenset()),
        clock=Clock(),
        grows=grows,
        growth_patience_s=growth_patience_s,
    )


def asking(store: Store, wait_s: float) -> InputTerms:
    return InputTerms(ObjectRef(store.buckets[0], DROP), "", Clock()(), wait_s)


@pytest.fixture(scope="module")
def proxy(minio_server: Any) -> Iterator[StoreProxy]:
    with store_proxy(minio_server) as proxy:
        yield proxy


@pytest.fixture
async def store(minio_server: Any, minio_bucket: str, proxy: StoreProxy) -> AsyncIterator[S3Store]:
    store = S3Store(settings_for(minio_server, minio_bucket, endpoint=proxy.endpoint))
    for key in (DROP, "secret.mp3"):
        await store.put(minio_bucket, key, b"{}", content_type="")
    yield store
    await store.close()


def secret(method: str, key: str) -> bool:
    del method
    return key == "secret.mp3"


@pytest.mark.minio
async def test_an_input_that_alone_is_refused_is_waited_for_and_then_told_as_refused(
    store: S3Store, proxy: StoreProxy
) -> None:
    told = Told()
    with proxy.refusing(DENIED, secret), pytest.raises(ObjectDenied) as raised:
        async with asyncio.timeout(HANG_S):
            await finder(store).find([SECRET], asking(store, 2.0), waiting=told)
    assert raised.value.info.code == "store_denied" and "s3:GetObject" in raised.value.info.hint
    assert raised.value.info.where == "audio"
    (word,) = told.words
    assert word.startswith("secret.mp3 (refused: ") and "AccessDenied" in word


@pytest.mark.minio
async def test_a_refusal_that_is_taken_back_in_time_is_none(store: S3Store, proxy: StoreProxy) -> None:
    told = Told()
    with proxy.refusing(DENIED, secret):
        finding = asyncio.create_task(finder(store).find([SECRET], asking(store, 30.0), waiting=told))
        while not told.words:
            await asyncio.sleep(0.05)
    async with asyncio.timeout(HANG_S):
        (found,) = await finding
    assert found.size == 2


@pytest.mark.minio
@pytest.mark.parametrize(("refusal", "kind"), [(DENIED, StoreDenied), (NO_BUCKET, StoreDenied)])
async def test_what_refuses_the_drop_as_well_is_not_about_an_input(
    store: S3Store, proxy: StoreProxy, refusal: Any, kind: type[Exception]
) -> None:
    """A bucket that is not there, too: its objects are not missing."""
    with proxy.refusing(refusal):
        with pytest.raises(kind) as raised:
            await finder(store).find([SECRET], asking(store, 0.0), waiting=Told())
        assert type(raised.value) is kind
        with pytest.raises(kind):
            await store.head(store.buckets[0], "nothing.mp3")
    assert await store.head(store.buckets[0], "nothing.mp3") is None
    with pytest.raises(InputMissing):
        await finder(store).find([Reference("audio", "nothing.mp3")], asking(store, 0.0), waiting=Told())


@pytest.mark.minio
async def test_a_store_that_goes_away_during_a_look_is_told_as_that(store: S3Store, proxy: StoreProxy) -> None:
    both = [SECRET, Reference("image", "nothing.jpg")]
    with proxy.refusing(SLOW_DOWN), pytest.raises(StoreUnavailable):
        await finder(store).find(both, asking(store, 60.0), waiting=Told())


@pytest.mark.minio
async def test_content_that_alone_is_refused_is_told_as_refused(store: S3Store, proxy: StoreProxy) -> None:
    bucket = store.buckets[0]
    text = Reference("subtitles", "secret.mp3", read=True)
    found = FoundInput("subtitles", ObjectRef(bucket, "secret.mp3"), 2)
    with proxy.refusing(DENIED, secret), pytest.raises(ObjectDenied):
        async with asyncio.timeout(HANG_S):
            await finder(store).load([text], [found], asking(store, 1.0))
    with proxy.refusing(DENIED):
        with pytest.raises(StoreDenied) as raised:
            await finder(store).load([text], [found], asking(store, 30.0))
        assert type(raised.value) is StoreDenied
        with pytest.raises(StoreDenied):
            await Refusals(store).check(ObjectRef(bucket, DROP))
    assert (await finder(store).load([text], [found], asking(store, 1.0)))["subtitles"].content == b"{}"


@asynccontextmanager
async def written_to(path: Path) -> AsyncGenerator[None]:
    async def touch() -> None:
        while True:
            with path.open("ab") as file:
                file.write(b"x")
            await asyncio.sleep(SETTLE_S / 4)

    writing = asyncio.create_task(touch())
    try:
        yield
    finally:
        writing.cancel()


async def test_a_file_that_is_written_to_without_end_ends_its_run_when_the_time_is_over(
    folder_store: FolderStore,
) -> None:
    path, told = folder_store.root / "secret.mp3", Told()
    async with written_to(path), asyncio.timeout(HANG_S):
        with pytest.raises(InputUnsettled) as raised:
            await finder(folder_store, grows=True).find([SECRET], asking(folder_store, 1.0), waiting=told)
    assert raised.value.info.code == "input_unsettled" and "move it here" in raised.value.info.hint
    assert told.words == ["secret.mp3 (still being written)"]


@pytest.mark.parametrize("grows", [True, False])
async def test_what_stays_missing_or_grows_on_is_waited_for_elsewhere(folder_store: FolderStore, grows: bool) -> None:
    both = [SECRET, Reference("image", "image.jpg")] if grows else [SECRET]
    at = folder_store.buckets[0]
    async with AsyncExitStack() as stack:
        if grows:
            (folder_store.root / "secret.mp3").write_bytes(b"{}")
            await stack.enter_async_context(written_to(folder_store.root / "image.jpg"))
        await stack.enter_async_context(asyncio.timeout(HANG_S))
        with pytest.raises(InputsAwaited) as left:
            search = finder(folder_store, grows=grows, growth_patience_s=SETTLE_S)
            await search.find(both, asking(folder_store, 60.0), waiting=Told())
    assert left.value.growing == ({(at, "image.jpg")} if grows else set())
    assert left.value.missing == (set() if grows else {(at, "secret.mp3")})
    assert left.value.note == ("image.jpg (still being written)" if grows else "secret.mp3")


async def test_while_places_are_few_what_is_missing_is_waited_for_elsewhere_at_once(folder_store: FolderStore) -> None:
    """And of thousands of references only some are looked at."""
    many = [Reference(f"image {i}", f"{i}.jpg") for i in range(9000)]
    with pytest.raises(InputsAwaited) as left:
        await finder(folder_store).find(many, asking(folder_store, 60.0), waiting=Told(), crowded=lambda: True)
    assert len(left.value.missing) == inputs.READ_BATCH


async def test_a_file_of_the_future_is_whole_once_it_stays_as_it_is(folder_store: FolderStore) -> None:
    """Its time may have been copied with it, or the clock set back."""
    path, told = folder_store.root / "secret.mp3", Told()
    path.write_bytes(b"{}")
    ahead = Clock()() + 3600.0
    os.utime(path, (ahead, ahead))
    async with asyncio.timeout(HANG_S):
        (found,) = await finder(folder_store, grows=True).find([SECRET], asking(folder_store, 0.0), waiting=told)
    assert found.size == 2 and not told.words


async def test_a_folder_that_is_not_mounted_has_no_missing_files(folder_store: FolderStore) -> None:
    folder_store.root.rmdir()
    with pytest.raises(StoreDenied) as raised:
        await finder(folder_store).find([SECRET], asking(folder_store, 0.0), waiting=Told())
    assert type(raised.value) is StoreDenied and "does not exist" in str(raised.value)
