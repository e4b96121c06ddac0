"""Listing as the only source, on stores of several makers: from a drop to one event, and to no second one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from listener.ledger.database import Database
from listener.ledger.objects import ObjectLedger, fingerprint
from listener.sources.reconcile.source import Reconcile, ReconcileSettings
from listener.stores.base import ObjectMeta
from listener.stores.s3.store import S3Store
from listener.triggers.triggers import MANIFESTS, Trigger, TriggerBook
from support.deadlines import HANG_S
from support.listings import listed
from support.sources import Recorder, running
from support.stores import s3_client, settings_for

INTERVAL_S = 0.2


@pytest.fixture(scope="module", params=["minio", "seaweedfs", "versitygw", "moto"])
def place(request: pytest.FixtureRequest) -> tuple[Any, str]:
    """A server, and the bucket that all tests share: SeaweedFS has room for few."""
    server = request.getfixturevalue(f"{request.param}_server")
    bucket = f"reconcile-{uuid4().hex[:8]}"
    s3_client(server).create_bucket(Bucket=bucket)
    return server, bucket


@pytest.fixture
def store(place: tuple[Any, str]) -> S3Store:
    return S3Store(settings_for(*place))


@pytest.fixture
def folder() -> str:
    return f"f{uuid4().hex[:8]}"


class TakingIn(Recorder):
    """Asks HEAD and records the version, or that there is none, as the listener does."""

    def __init__(self, store: S3Store, ledger: ObjectLedger) -> None:
        super().__init__()
        self.listings = 0
        self._store = store
        self._ledger = ledger

    async def accept(self, events: Any) -> None:
        for event in events:
            if meta := await self._store.head(event.bucket, event.key):
                await self._ledger.record_listed(event.bucket, meta)
            else:
                await self._ledger.forget(event.bucket, event.key)
        await super().accept(events)


@asynccontextmanager
async def listening(store: S3Store, folder: str, tmp_path: Path) -> AsyncIterator[TakingIn]:
    database = Database(f"sqlite:///{tmp_path}/ledger.sqlite")
    await database.open()
    ledger = ObjectLedger(database)
    book = TriggerBook(
        (replace(MANIFESTS, prefix=f"{folder}/"), Trigger("any", patterns=(f"{folder}/*",), manifest={}))
    )
    inbox = TakingIn(store, ledger)

    def prefixes(bucket: str) -> tuple[str, ...]:
        inbox.listings += 1
        return book.prefixes(bucket)

    source = Reconcile(store, ledger, book.interesting, ReconcileSettings(INTERVAL_S), prefixes=prefixes)
    async with running(inbox, source):
        await inbox.until(lambda: inbox.conditions)
        yield inbox
    await database.close()


async def rounds(inbox: TakingIn, n: int = 3) -> None:
    """Waits until `n` listings more have begun."""
    until = inbox.listings + n
    async with asyncio.timeout(HANG_S):
        while inbox.listings < until:
            await asyncio.sleep(0.02)


async def test_drops_overwrites_and_removals_are_told_once(store: S3Store, folder: str, tmp_path: Path) -> None:
    (bucket,) = store.buckets
    drop, gone = f"{folder}/a talk+ção | 100%.job.yaml", f"{folder}/gone.mp3"
    async with listening(store, folder, tmp_path) as inbox:
        for key in (drop, gone, f"{folder}/x/talk.cancel"):
            await store.write(bucket, key, b"one", content_type="")
        await inbox.until(lambda: len(inbox.created) == 3)
        written = int(time.time())
        while time.time() < written + 1.1:  # files are dated by a clock that is some milliseconds behind
            await asyncio.sleep(0.05)
        await store.write(bucket, drop, b"one", content_type="")
        await store.delete(bucket, gone)
        await inbox.until(lambda: inbox.created[drop] == 2 and inbox.removed[gone])
        await rounds(inbox)
        assert inbox.created == {drop: 2, gone: 1, f"{folder}/x/talk.cancel": 1}
        assert inbox.removed == {gone: 1}
        await store.write(bucket, gone, b"back", content_type="")
        await inbox.until(lambda: inbox.created[gone] == 2)


async def test_odd_keys_stop_nothing(place: tuple[Any, str], store: S3Store, folder: str, tmp_path: Path) -> None:
    """Which of them a server takes differs, and some it takes under another name; what is usable is always heard of."""
    (bucket,) = store.buckets
    s3 = s3_client(place[0])
    odd = ["a\nb", "c\x01d", "e//f", "h\x7f", "long/" + "n" * 200 + "/" + "m" * 220, "marker/", "x\ufffey", "cr\r"]
    for key in odd:
        try:
            await asyncio.to_thread(s3.put_object, Bucket=bucket, Key=f"{folder}/{key}", Body=b"")
        except ClientError:
            continue
    plain = {f"{folder}/{key}.mp3" for key in ("A", "b", "d", "é", "zz", "with space", "a&b=c?d#e*f[g]h")}
    async with listening(store, folder, tmp_path) as inbox:
        for key in plain:
            await store.write(bucket, key, b"x", content_type="")
        await inbox.until(lambda: set(inbox.created) >= plain)
        await rounds(inbox)
        assert all(inbox.created[key] == 1 for key in plain)
        assert inbox.conditions[-1].ok


async def test_listing_and_head_tell_the_same_version(place: tuple[Any, str], store: S3Store, folder: str) -> None:
    server, bucket = place
    s3 = s3_client(server)

    def put() -> None:
        s3.put_object(Bucket=bucket, Key=f"{folder}/plain", Body=b"x", Metadata={"a": "b"})
        s3.put_object(Bucket=bucket, Key=f"{folder}/empty", Body=b"")
        s3.copy_object(Bucket=bucket, Key=f"{folder}/copy", CopySource={"Bucket": bucket, "Key": f"{folder}/plain"})
        parts = f"{folder}/parts"
        upload = s3.create_multipart_upload(Bucket=bucket, Key=parts)["UploadId"]
        # Some servers date an object by the beginning of its upload: not in one place and otherwise in another.
        time.sleep(1.1)
        given = {"Bucket": bucket, "Key": parts, "UploadId": upload, "PartNumber": 1}
        etag = s3.upload_part(**given, Body=b"x" * 5 * 2**20)["ETag"]
        done = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        s3.complete_multipart_upload(Bucket=bucket, Key=parts, UploadId=upload, MultipartUpload=done)

    await asyncio.to_thread(put)
    found = [item async for item in store.list(bucket, f"{folder}/")]
    assert len(found) == 4
    for item in found:
        assert isinstance(item, ObjectMeta)
        head = await store.head(bucket, item.key)
        assert head is not None
        assert (fingerprint(item), item.size) == (fingerprint(head), head.size)


async def test_a_prefix_within_a_name_finds_what_lies_below_it(store: S3Store, folder: str) -> None:
    """Also where the server walks folders, and has "a/b" before "a-b"."""
    (bucket,) = store.buckets
    keys = [f"{folder}/{key}" for key in ("a", "a-b", "a/b", "a.c", "a0/x/y", "b", "A", "a~", "á", "b-1/c")]
    keys = [key for key in keys if key != f"{folder}/a"]  # no store of files has both "a" and "a/b"
    for key in keys:
        await store.write(bucket, key, b"x", content_type="")
    for name in ("", "a", "a-", "a/", "a.", "a0/x/", "b", "b-1/c", "á", "none"):
        usable, odd = await listed(store, f"{folder}/{name}")
        assert sorted(usable) == sorted(key for key in keys if key.startswith(f"{folder}/{name}"))
        assert not odd
