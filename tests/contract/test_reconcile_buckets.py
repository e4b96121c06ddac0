"""Several buckets, buckets that come and go, and servers that are away, on a real MinIO."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from minio import Minio
from structlog.testing import capture_logs

from listener.config.credentials import AccessKeys
from listener.sources.reconcile.source import Reconcile, ReconcileSettings
from listener.stores.base import ObjectMeta
from listener.stores.s3.store import S3Store
from manifests.errors import StoreUnavailable
from support.sources import Proxy, Recorder, running
from support.stores import settings_for

pytestmark = pytest.mark.minio


class Nothing:
    """Knows nothing: whatever is listed is told."""

    async def unknown(self, bucket: str, metas: Sequence[ObjectMeta]) -> Sequence[ObjectMeta]:
        return metas

    async def record_listed(self, bucket: str, meta: ObjectMeta) -> None: ...

    async def unfinished(self, bucket: str) -> Sequence[str]:
        return ()

    async def taken_in(self, bucket: str, *, after: str, limit: int) -> Sequence[str]:
        return ()


def source(store: S3Store, **arguments: Any) -> Reconcile:
    settings = ReconcileSettings(interval_s=0.1, look_back_s=None)
    return Reconcile(store, Nothing(), lambda bucket, key: True, settings, **arguments)


@pytest.fixture
def names(minio_client: Minio) -> Iterator[tuple[str, str]]:
    """Two names of buckets that are not there; what is under them at the end is removed."""
    made = (f"test-{uuid4().hex[:12]}", f"test-{uuid4().hex[:12]}")
    yield made
    for name in made:
        if minio_client.bucket_exists(name):
            for each in minio_client.list_objects(name, recursive=True):
                minio_client.remove_object(name, each.object_name or "")
            minio_client.remove_bucket(name)


async def test_a_bucket_that_vanishes_is_told_and_heard_again_when_it_is_back(
    minio_server: Any, minio_client: Minio, names: tuple[str, str]
) -> None:
    stays, goes = names
    for name in names:
        minio_client.make_bucket(name)
    store, inbox = S3Store(settings_for(minio_server, *names)), Recorder()
    with capture_logs() as logs:
        async with running(inbox, source(store)):
            await inbox.until(lambda: inbox.conditions and "2 buckets" in inbox.conditions[-1].detail)
            await asyncio.to_thread(minio_client.remove_bucket, goes)
            await inbox.until(lambda: not inbox.conditions[-1].ok)
            problem = inbox.conditions[-1]
            assert problem.code == "store_denied"
            assert goes in problem.detail
            assert "Create it" in problem.hint
            await store.write(stays, "a.mp3", b"x", content_type="")
            await inbox.until(lambda: inbox.created["a.mp3"] >= 2)
            await asyncio.to_thread(minio_client.make_bucket, goes)
            await store.write(goes, "b.mp3", b"x", content_type="")
            await inbox.until(lambda: inbox.created["b.mp3"])
            await inbox.until(lambda: inbox.conditions[-1].ok)
    assert {line["bucket"] for line in logs if line["event"] == "listing_failed"} == {goes}


async def test_keys_that_may_not_list_are_told_by_what_they_lack(minio_server: Any, minio_bucket: str) -> None:
    settings = settings_for(minio_server, minio_bucket)
    keys = [AccessKeys(minio_server.access_key, "wrong-secret")]
    store, inbox = S3Store(replace(settings, keys=lambda: keys[-1])), Recorder()
    async with running(inbox, source(store)):
        await inbox.until(lambda: inbox.conditions)
        assert inbox.conditions[0].code == "store_denied"
        assert "secret" in inbox.conditions[0].detail
        keys.append(settings.keys())
        await inbox.until(lambda: inbox.conditions[-1].ok)


async def test_a_server_that_goes_away_while_it_is_listed_is_outlived(minio_server: Any, minio_bucket: str) -> None:
    direct = S3Store(settings_for(minio_server, minio_bucket))
    gate = asyncio.Semaphore(16)

    async def put(key: str) -> None:
        async with gate:
            await direct.write(minio_bucket, key, b"x", content_type="")

    keys = {f"{n:04}.mp3" for n in range(2500)}
    await asyncio.gather(*map(put, keys))
    proxy = Proxy(minio_server.host)
    async with proxy.serve() as away:
        store = S3Store(settings_for(minio_server, minio_bucket, endpoint=away.endpoint, timeout_s=1.0))

        class Cutting(Recorder):
            """After the first batch the network is gone."""

            async def accept(self, events: Any) -> None:
                if not self.batches:
                    away.mode = "silent"
                    away.reset_all()
                await super().accept(events)

        inbox = Cutting()
        async with running(inbox, source(store)):
            await inbox.until(lambda: inbox.conditions)
            assert inbox.conditions[0].code == "store_unavailable"
            away.mode = "pass"
            away.reset_all()
            await inbox.until(lambda: set(inbox.created) == keys)
            await inbox.until(lambda: inbox.conditions[-1].ok)
            assert "2,500 objects" in inbox.conditions[-1].detail


async def test_buckets_are_asked_for_again_and_again(
    minio_server: Any, minio_client: Minio, names: tuple[str, str]
) -> None:
    first, second = names
    minio_client.make_bucket(first)
    there = [first]
    failing: list[StoreUnavailable] = []

    async def buckets() -> Sequence[str]:
        if failing:
            raise failing.pop()
        return tuple(there)

    store, inbox = S3Store(settings_for(minio_server)), Recorder()
    await store.write(first, "a.mp3", b"x", content_type="")
    async with running(inbox, source(store, buckets=buckets)):
        await inbox.until(lambda: inbox.created["a.mp3"])
        failing.append(StoreUnavailable("The store is away."))
        await inbox.until(lambda: any(c.detail == "The store is away." for c in inbox.conditions))
        await asyncio.to_thread(minio_client.make_bucket, second)
        await store.write(second, "b.mp3", b"x", content_type="")
        there.append(second)
        await inbox.until(lambda: inbox.created["b.mp3"])
        there.remove(first)
        await asyncio.to_thread(minio_client.remove_object, first, "a.mp3")
        await asyncio.to_thread(minio_client.remove_bucket, first)
        await inbox.until(lambda: inbox.conditions[-1].ok and "1 bucket " in inbox.conditions[-1].detail)


async def test_a_gap_of_one_bucket_lists_that_one(
    minio_server: Any, minio_client: Minio, names: tuple[str, str]
) -> None:
    for name in names:
        minio_client.make_bucket(name)
    store, inbox = S3Store(settings_for(minio_server, *names)), Recorder()
    for name in names:
        await store.write(name, f"{name}.mp3", b"x", content_type="")
    settings = ReconcileSettings(interval_s=3600.0, look_back_s=None)
    listing = Reconcile(store, Nothing(), lambda bucket, key: True, settings)
    async with running(inbox, listing):
        await inbox.until(lambda: sum(inbox.created.values()) == 2)
        for n in range(2, 5):
            listing.request("a stream was connected", bucket=names[0])
            await inbox.until(lambda n=n: inbox.created[f"{names[0]}.mp3"] == n)
        assert inbox.created[f"{names[1]}.mp3"] == 1
        listing.request("all streams were connected")
        await inbox.until(lambda: inbox.created[f"{names[1]}.mp3"] == 2)


async def test_it_can_be_run_again_after_it_was_cancelled(minio_server: Any, minio_bucket: str) -> None:
    store = S3Store(settings_for(minio_server, minio_bucket))
    await store.write(minio_bucket, "a.mp3", b"x", content_type="")
    listing = source(store)
    for _ in range(2):
        inbox = Recorder()
        async with running(inbox, listing):
            await inbox.until(lambda inbox=inbox: inbox.created["a.mp3"])
