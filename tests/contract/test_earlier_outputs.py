"""Outputs of runs that a lost ledger knew are known again, whatever else is taken in meanwhile."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from listener.config.credentials import AccessKeys
from listener.ledger.inbox import InboxEvent, InboxLedger
from listener.ledger.intake import IntakeDecision, IntakeLedger
from listener.ledger.objects import SeenVersion
from listener.run_request import run_id_of
from listener.sources.reconcile.earlier_outputs import EarlierOutputs
from listener.stores.folder import FolderStore
from listener.stores.s3.clients import S3Settings
from listener.stores.s3.store import S3Store
from manifests.final_sidecars import may_be_sidecar_of
from support.held_store import RunRecords, run_records

DONE = {"run_id": "r1", "key": "talk.mp3", "code": 200, "outputs": [{"key": "talk.mp4"}]}


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[RunRecords]:
    async for records in run_records(tmp_path):
        yield records


async def take_in(records: RunRecords, bucket: str, key: str) -> None:
    """As an event does that comes before the first listing."""
    (item,) = await InboxLedger(records.database, "m1").add([InboxEvent(bucket, key, True, "test", 1.0)], hold=True)
    await IntakeLedger(records.database).commit([IntakeDecision(item, SeenVersion("e@1", "v1"))], reason="cancelled")


@pytest.mark.parametrize("first", [True, False])
async def test_an_event_before_the_first_listing_hides_nothing(
    folder_store: Any, records: RunRecords, first: bool
) -> None:
    (bucket,) = folder_store.buckets
    await folder_store.put(bucket, "talk.mp3.done.json", json.dumps(DONE).encode(), content_type="application/json")
    await folder_store.put(bucket, "talk.mp4", b"film", content_type="video/mp4")
    if not first:
        await take_in(records, bucket, "known.mp3")
    earlier = EarlierOutputs(folder_store, records.objects)
    await earlier.begin()
    await take_in(records, bucket, "new.mp3")
    await earlier.learn(bucket, [""], None)
    written = await records.objects.written(bucket, "talk.mp4")
    assert (written is not None and written.run_id == "r1") == first


@pytest.mark.minio
async def test_nor_does_one_where_the_buckets_have_no_names_in_the_configuration(
    s3_store: S3Store, s3_settings: S3Settings, records: RunRecords
) -> None:
    (bucket,) = s3_store.buckets
    await s3_store.put(bucket, "talk.mp3.done.json", json.dumps(DONE).encode(), content_type="application/json")
    await s3_store.put(bucket, "talk.mp4", b"film", content_type="video/mp4")
    earlier = EarlierOutputs(S3Store(replace(s3_settings, buckets=())), records.objects)
    await earlier.begin()
    await take_in(records, bucket, "new.mp3")
    await earlier.learn(bucket, [""], None)
    assert await records.objects.written(bucket, "talk.mp4")


async def test_a_store_that_is_away_keeps_nobody_from_beginning(records: RunRecords) -> None:
    keys = AccessKeys("key", "word", "")
    gone = S3Store(S3Settings("http://127.0.0.1:1", (), lambda: keys, timeout_s=1.0))
    await EarlierOutputs(gone, records.objects).begin()
    await take_in(records, "drop", "new.mp3")
    assert not await records.objects.is_new("drop")


def ended(key: str, run_id: str, *outputs: str, version: str = "v1") -> bytes:
    told = {"run_id": run_id, "key": key, "version": version, "code": 200}
    return json.dumps({**told, "outputs": [{"key": output} for output in outputs]}).encode()


async def test_a_sidecar_makes_nothing_its_drops_that_lies_elsewhere(store: Any, records: RunRecords) -> None:
    """A dropper of "mine/" writes what it likes there; what it says of others is not believed."""
    bucket = store.buckets[0]
    true_id = run_id_of(bucket, "mine/true.job.json", "v1")
    victims = run_id_of(bucket, "victim/a.job.json", "v1")
    put = {
        "mine/in.mp4": "", "mine/sub/in.mp4": "", "victim/plain.mp4": "", "victim/run.srt": victims,
        "other/marked.srt": true_id, "mine/forged.srt": "", "root.mp4": "",
    }  # fmt: skip
    for key, run_id in put.items():
        await store.put(bucket, key, b"x", content_type="", run_id=run_id)
    sidecars = {
        "mine/true.done.json": ended("mine/true.job.json", true_id, *put),
        "mine/as-victim.done.json": ended("mine/as-victim.job.json", victims, "victim/run.srt"),
        "mine/a.done.json": ended("victim/a.job.json", victims, "victim/plain.mp4"),
        "mine/root.done.json": ended("root.job.json", "r", "root.mp4"),
        "mine/drop.done.json": ended("mine/drop.job.json", "r", "mine/drop.job.json", "mine/true.done.json"),
    }
    for key, body in sidecars.items():
        await store.put(bucket, key, body, content_type="application/json")
    await store.put(bucket, "mine/drop.job.json", b"{}", content_type="application/json")
    earlier = EarlierOutputs(store, records.objects)
    await earlier.begin()
    await earlier.learn(bucket, [""], None)
    every = [*put, *sidecars, "mine/drop.job.json"]
    known = {key: found.run_id for key in every if (found := await records.objects.written(bucket, key))}
    believed = ["mine/in.mp4", "mine/sub/in.mp4", "mine/forged.srt"]
    # A folder keeps no marks.
    marked = (await store.head(bucket, "other/marked.srt")).run_id
    assert known == dict.fromkeys([*believed, *(["other/marked.srt"] if marked else [])], true_id)
    assert bool(marked) == isinstance(store, S3Store)


@pytest.mark.parametrize("key", ["leads-out.mp4", "a/" + "b" * 300, "a" * 1000])
async def test_a_sidecar_that_names_what_no_store_holds_stops_no_listing(
    store: Any, records: RunRecords, key: str
) -> None:
    """Otherwise one file of a dropper keeps the whole bucket from ever being listed."""
    bucket = store.buckets[0]
    if isinstance(store, FolderStore):
        Path(urlsplit(store.public_url(bucket, "leads-out.mp4")).path).symlink_to("/etc/hostname")
    await store.put(bucket, "good.mp4", b"x", content_type="")
    await store.put(bucket, "a.mp3.done.json", ended("a.mp3", "r", key), content_type="application/json")
    await store.put(bucket, "b.mp3.done.json", ended("b.mp3", "r", key, "good.mp4"), content_type="application/json")
    earlier = EarlierOutputs(store, records.objects)
    await earlier.begin()
    await earlier.learn(bucket, [""], None)
    assert await records.objects.written(bucket, "good.mp4")


@pytest.mark.parametrize(
    ("path", "key", "is_its"),
    [
        ("a/talk", "a/talk.job.json", True),
        ("a/talk.job.json", "a/talk.job.json", True),
        ("a/talk.job.json.2", "a/talk.job.json", True),
        ("a/talk.mp3", "a/talk.mp3", True),
        ("a/talk", "a/talk.mp3", False),
        ("a/talk.job.json.x", "a/talk.job.json", False),
        ("b/talk", "a/talk.job.json", False),
        ("talk", "a/talk.job.json", False),
    ],
)
def test_a_sidecar_lies_beside_its_drop(path: str, key: str, is_its: bool) -> None:
    assert may_be_sidecar_of(path, key) == is_its
