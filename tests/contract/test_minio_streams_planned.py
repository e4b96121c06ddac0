"""One stream for many buckets, its filters, and addresses with the bucket in the host's name; on a real MinIO."""

from __future__ import annotations

import json
import socket
import ssl
import uuid
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from minio import Minio
from minio.credentials import AssumeRoleProvider

from listener.config.credentials import AccessKeys
from listener.sources.minio.request import MinioListenSettings
from listener.sources.minio.source import MinioListen, probe_stream
from listener.stores.s3.store import S3Store
from listener.triggers.filters import Filter
from support.sources import Proxy, Recorder, running
from support.stores import settings_for

pytestmark = pytest.mark.minio


@pytest.fixture
def buckets(minio_client: Minio) -> Iterator[tuple[str, str, str]]:
    """Three of them, removed with what the tests put."""
    names = tuple(f"listen-{uuid.uuid4().hex[:12]}" for _ in range(3))
    for name in names:
        minio_client.make_bucket(name)
    yield names[0], names[1], names[2]
    for name in names:
        for each in minio_client.list_objects(name, recursive=True):
            minio_client.remove_object(name, each.object_name or "")
        minio_client.remove_bucket(name)


def keys_for(server: Any, *statements: tuple[str, str]) -> AccessKeys:
    """Temporary keys that may do `action` on `resource` for each of `statements`, and nothing else."""
    allowed = [{"Effect": "Allow", "Action": [action], "Resource": [resource]} for action, resource in statements]
    given = AssumeRoleProvider(
        sts_endpoint=server.endpoint,
        access_key=server.access_key,
        secret_key=server.secret_key,
        policy=json.dumps({"Version": "2012-10-17", "Statement": allowed}),
    ).retrieve()
    return AccessKeys(given.access_key, given.secret_key, given.session_token)


def streams(inbox: Recorder) -> list[str]:
    return [gap for gap in inbox.gaps if "connected" in gap]


async def put(server: Any, *places: tuple[str, str]) -> None:
    store = S3Store(settings_for(server, *{bucket for bucket, _ in places}))
    for bucket, key in places:
        await store.write(bucket, key, b"x", content_type="")
    await store.close()


async def test_several_buckets_need_one_connection(minio_server: Any, buckets: tuple[str, str, str]) -> None:
    first, second, foreign = buckets
    keys = AccessKeys(minio_server.access_key, minio_server.secret_key)
    async with Proxy(minio_server.host).serve() as proxy:
        inbox = Recorder()
        source = MinioListen(MinioListenSettings(proxy.endpoint, (first, second), ping_s=1), lambda: keys)
        async with running(inbox, source):
            await inbox.until(lambda: streams(inbox))
            await put(minio_server, (foreign, "x.mp3"), (first, "a b.mp3"), (second, "c+d.mp3"))
            await inbox.until(lambda: set(inbox.created) >= {"a b.mp3", "c+d.mp3"})
        assert proxy.connections == 1
    assert {(event.bucket, event.key) for event in inbox.events} == {(first, "a b.mp3"), (second, "c+d.mp3")}
    assert inbox.counts == {"other_bucket": 1}
    assert [condition.detail for condition in inbox.conditions] == ["events arrive: all buckets"]


async def test_without_named_buckets_all_are_told(minio_server: Any, buckets: tuple[str, str, str]) -> None:
    keys = AccessKeys(minio_server.access_key, minio_server.secret_key)
    inbox = Recorder()
    async with running(inbox, MinioListen(MinioListenSettings(minio_server.endpoint, (), ping_s=1), lambda: keys)):
        await inbox.until(lambda: streams(inbox))
        await put(minio_server, *((bucket, "a.mp3") for bucket in buckets))
        await inbox.until(lambda: inbox.created["a.mp3"] >= 3)
    assert {event.bucket for event in inbox.events} == set(buckets)


async def test_keys_that_may_not_have_all_buckets_get_one_stream_each(
    minio_server: Any, buckets: tuple[str, str, str]
) -> None:
    first, second, foreign = buckets
    action = "s3:ListenBucketNotification"
    keys = keys_for(minio_server, (action, f"arn:aws:s3:::{first}"), (action, f"arn:aws:s3:::{second}"))
    settings = MinioListenSettings(minio_server.endpoint, (first, second), ping_s=1)
    assert (await probe_stream(settings, lambda: keys)).ok
    inbox = Recorder()
    async with running(inbox, MinioListen(settings, lambda: keys)):
        await inbox.until(lambda: len(streams(inbox)) == 2)
        await put(minio_server, (foreign, "x.mp3"), (first, "a.mp3"), (second, "b.mp3"))
        await inbox.until(lambda: set(inbox.created) >= {"a.mp3", "b.mp3"})
    assert set(inbox.created) == {"a.mp3", "b.mp3"}
    assert all(condition.ok for condition in inbox.conditions)
    assert first in inbox.conditions[-1].detail
    assert second in inbox.conditions[-1].detail


async def test_keys_that_may_have_all_buckets_are_enough(minio_server: Any, buckets: tuple[str, str, str]) -> None:
    keys = keys_for(minio_server, ("s3:ListenNotification", "arn:aws:s3:::*"))
    told = await probe_stream(MinioListenSettings(minio_server.endpoint, buckets, ping_s=1), lambda: keys)
    assert (told.ok, told.detail) == (True, "events arrive: all buckets")


async def test_a_refusal_of_all_buckets_says_what_to_allow(minio_server: Any, minio_bucket: str) -> None:
    keys = keys_for(minio_server, ("s3:ListenBucketNotification", f"arn:aws:s3:::{minio_bucket}"))
    told = await probe_stream(MinioListenSettings(minio_server.endpoint, (), ping_s=1), lambda: keys)
    assert (told.ok, told.code) == (False, "store_denied")
    assert "s3:ListenNotification" in told.hint


async def test_the_server_leaves_out_what_no_trigger_wants(minio_server: Any, s3_store: S3Store) -> None:
    bucket = s3_store.buckets[0]
    keys = AccessKeys(minio_server.access_key, minio_server.secret_key)
    wanted = [Filter("in put+/é/", ".mp3")]
    settings = MinioListenSettings(minio_server.endpoint, (bucket,), ping_s=1)
    source = MinioListen(settings, lambda: keys, filters=lambda bucket: wanted)
    inbox = Recorder()
    async with running(inbox, source):
        await inbox.until(lambda: streams(inbox))
        await put(minio_server, (bucket, "in put+/é/a.wav"), (bucket, "b.mp3"), (bucket, "in put+/é/c.mp3"))
        await inbox.until(lambda: inbox.created["in put+/é/c.mp3"])
        assert set(inbox.created) == {"in put+/é/c.mp3"}
        wanted[:] = [Filter("in put+/é/", ".mp3"), Filter("in put+/", ".wav")]
        source.replan()
        await inbox.until(lambda: len(streams(inbox)) == 2)
        await put(minio_server, (bucket, "in put+/d.wav"))
        await inbox.until(lambda: inbox.created["in put+/d.wav"])
        wanted.clear()
        source.replan()
        await inbox.until(lambda: "no trigger" in inbox.conditions[-1].detail)
        wanted.append(Filter())
        source.replan()
        await inbox.until(lambda: len(streams(inbox)) == 3)
        await put(minio_server, (bucket, "e.txt"))
        await inbox.until(lambda: inbox.created["e.txt"])


class Loopback(AbstractResolver):
    """Every name is this machine: not every resolver knows names below localhost."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        found: ResolveResult = {
            "hostname": host,
            "host": "127.0.0.1",
            "port": port,
            "family": socket.AF_INET,
            "proto": 0,
            "flags": socket.AI_NUMERICHOST,
        }
        return [found]

    async def close(self) -> None: ...


def on_this_machine(_: ssl.SSLContext | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, resolver=Loopback()))


@pytest.mark.parametrize("count", [1, 2])
async def test_a_bucket_may_stand_in_the_hosts_name(
    minio_server: Any, buckets: tuple[str, str, str], count: int
) -> None:
    keys = AccessKeys(minio_server.access_key, minio_server.secret_key)
    endpoint = f"http://localhost:{minio_server.host.rpartition(':')[2]}"
    settings = MinioListenSettings(endpoint, buckets[:count], path_style=False, ping_s=1)
    inbox = Recorder()
    async with running(inbox, MinioListen(settings, lambda: keys, session_factory=on_this_machine)):
        await inbox.until(lambda: streams(inbox))
        await put(minio_server, *((bucket, f"{bucket}.mp3") for bucket in buckets[:count]))
        await inbox.until(lambda: len(inbox.created) == count)
    assert {event.bucket for event in inbox.events} == set(buckets[:count])


async def test_the_source_can_be_run_again(minio_server: Any, s3_store: S3Store) -> None:
    bucket = s3_store.buckets[0]
    keys = AccessKeys(minio_server.access_key, minio_server.secret_key)
    source = MinioListen(MinioListenSettings(minio_server.endpoint, (bucket,), ping_s=1, name="drops"), lambda: keys)
    for key in ("first.mp3", "second.mp3"):
        await told_of(source, s3_store, key)


async def told_of(source: MinioListen, store: S3Store, key: str) -> None:
    inbox = Recorder()
    async with running(inbox, source):
        await inbox.until(lambda: streams(inbox))
        await store.write(store.buckets[0], key, b"x", content_type="")
        await inbox.until(lambda: inbox.created[key])
    assert {event.source for event in inbox.events} == {"drops"}
