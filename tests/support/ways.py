"""Every way from a store to the listener, by its name."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from listener.config.credentials import AccessKeys
from listener.ledger.database import Database
from listener.ledger.objects import ObjectLedger
from listener.sources.folder import FolderWatch, FolderWatchSettings
from listener.sources.minio.request import MinioListenSettings
from listener.sources.minio.source import MinioListen
from listener.sources.sqs.source import SqsSource
from listener.sources.webhook.settings import PostSecrets, WebhookSettings
from listener.sources.webhook.source import WebhookReceiver
from listener.stores.folder import FolderStore
from listener.stores.s3.store import S3Store
from support.benches import Bench, Given, Parts, Way, What, listing
from support.queues import Cloud
from support.servers import servers
from support.store_events import EVENTS, PATH_SECRET, SERVERS, Telling
from support.stores import new_bucket, s3_client, settings_for
from support.webhook import TOKENS

NO_MEMORY = "it tells only those who are there"
POSTS_ONCE = "it posts once, whatever the answer"
MIXES_UP = "version 1.8 may tell of an object under the name of one that comes right after it"


async def _folder(given: Given, *, polling: bool) -> Parts:
    root = given.folder / "drop"
    await asyncio.to_thread(root.mkdir)
    store = FolderStore(root)
    return store, [FolderWatch(FolderWatchSettings(root, store.buckets[0], polling=polling))]


async def _listed_folder(given: Given) -> Parts:
    store, _ = await _folder(given, polling=False)
    return store, [listing(store, given.ledger, interval_s=0.3)]


async def _listen(given: Given, *, every_bucket: bool) -> Parts:
    server, bucket = given.fixtures["minio_server"], given.fixtures["minio_bucket"]
    settings = MinioListenSettings(server.endpoint, () if every_bucket else (bucket,), ping_s=1)
    return _stored(given, server, bucket), [MinioListen(settings, _keys(server))]


async def _silent(given: Given) -> Parts:
    server = given.fixtures["silent_minio"]
    bucket = await _bucket(server)
    store = _stored(given, server, bucket)
    settings = MinioListenSettings(server.endpoint, (bucket,), ping_s=1, slack_s=0.5, probe_s=1.0)
    return store, [MinioListen(settings, _keys(server)), listing(store, given.ledger, interval_s=0.3)]


async def _listed(given: Given, *, fixture: str) -> Parts:
    server = given.fixtures[fixture]
    bucket = await _bucket(server)
    if fixture == "seaweedfs_server":
        # It has room for few buckets, and removes one with all that is in it.
        given.undo.push_async_callback(asyncio.to_thread, s3_client(server).delete_bucket, Bucket=bucket)
    store = _stored(given, server, bucket)
    return store, [listing(store, given.ledger, interval_s=0.3)]


async def _posted_by_minio(given: Given) -> Parts:
    telling: Telling = given.fixtures["minio_telling"]
    bucket = await asyncio.to_thread(telling.bucket, "webhook")
    source = WebhookReceiver(WebhookSettings(port=telling.port, path="/minio"), TOKENS)
    return _stored(given, telling.server, bucket), [source]


async def _posted_by_versitygw(given: Given) -> Parts:
    server, port = given.fixtures["versitygw_posting"]
    source = WebhookReceiver(WebhookSettings(port=port), PostSecrets(path_secrets=(PATH_SECRET,)))
    return _stored(given, server, await _bucket(server)), [source]


async def _posted_by_sns(given: Given) -> Parts:
    server, bucket = given.fixtures["moto_server"], f"told-{uuid.uuid4().hex[:12]}"
    port = servers.free_ports(1)[0]
    cloud = Cloud(server)

    def set_up() -> str:
        topic = cloud.sns.create_topic(Name=bucket)["TopicArn"]
        cloud.sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=f"http://127.0.0.1:{port}/{PATH_SECRET}")
        cloud.s3.create_bucket(Bucket=bucket)
        cloud.s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={"TopicConfigurations": [{"TopicArn": topic, "Events": EVENTS}]},
        )
        return topic

    settings = WebhookSettings(port=port, sns_topics=frozenset({await asyncio.to_thread(set_up)}))
    return _stored(given, server, bucket), [WebhookReceiver(settings, PostSecrets(path_secrets=(PATH_SECRET,)))]


async def _queued(given: Given) -> Parts:
    server = given.fixtures["moto_server"]
    cloud = Cloud(server)

    def set_up() -> tuple[str, str]:
        bucket, queue_url = cloud.bucket(), cloud.queue()
        cloud.tell_queue(bucket, queue_url)
        return bucket, queue_url

    bucket, queue_url = await asyncio.to_thread(set_up)
    return _stored(given, server, bucket), [SqsSource("sqs", cloud.settings(queue_url, visibility_s=5))]


async def _published_by_minio(given: Given, *, kind: str) -> Parts:
    telling: Telling = given.fixtures["minio_telling"]
    bucket = await asyncio.to_thread(telling.bucket, kind)
    return _stored(given, telling.server, bucket), [telling.places[kind].source()]


async def _published_by_versitygw(given: Given) -> Parts:
    server, place = given.fixtures["versitygw_publishing"]
    return _stored(given, server, await _bucket(server)), [place.source()]


def _stored(given: Given, server: Any, bucket: str) -> S3Store:
    store = S3Store(settings_for(server, bucket))
    given.undo.push_async_callback(store.close)
    return store


def _keys(server: Any) -> Callable[[], AccessKeys]:
    return lambda: AccessKeys(server.access_key, server.secret_key)


async def _bucket(server: Any) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    await asyncio.to_thread(new_bucket, server, name)
    return name


def _read(fixture: str, **odd: Mapping[str, str]) -> Way:
    return Way(partial(_listed, fixture=fixture), (fixture,), by_the_second=True, **odd)


WAYS: dict[str, Way] = {
    "folder": Way(partial(_folder, polling=False), (), {"remembers": NO_MEMORY}),
    "folder-polling": Way(partial(_folder, polling=True), (), {"remembers": NO_MEMORY}, by_the_second=True),
    "minio": Way(partial(_listen, every_bucket=False), ("minio_server", "minio_bucket"), {"remembers": NO_MEMORY}),
    "minio-all": Way(partial(_listen, every_bucket=True), ("minio_server", "minio_bucket"), {"remembers": NO_MEMORY}),
    "minio-silent": Way(_silent, ("silent_minio",), by_the_second=True, silent="minio"),
    "webhook-minio": Way(_posted_by_minio, ("minio_telling",)),
    "webhook-versitygw": Way(
        _posted_by_versitygw,
        ("versitygw_posting",),
        {"repeats": POSTS_ONCE, "remembers": POSTS_ONCE, "crowds": MIXES_UP},
    ),
    "webhook-sns": Way(_posted_by_sns, ("moto_server",), {"repeats": POSTS_ONCE, "remembers": POSTS_ONCE}),
    **{
        kind: Way(partial(_published_by_minio, kind=kind), (f"{server}_server", "minio_telling"))
        for kind, server in SERVERS.items()
    },
    "nats-versitygw": Way(_published_by_versitygw, ("versitygw_publishing",), {"crowds": MIXES_UP}),
    "sqs": Way(_queued, ("moto_server",)),
    "reconcile-folder": Way(_listed_folder),
    "reconcile-minio": _read("minio_server"),
    "reconcile-seaweedfs": _read(
        "seaweedfs_server", without={"back\\slash:colon.txt": "it makes a slash of a backslash"}
    ),
    "reconcile-versitygw": _read("versitygw_server"),
}


def ways(*wanted: What) -> list[Any]:
    """The names of all ways, for `parametrize`; those that cannot do what is wanted are skipped and say why."""
    return [pytest.param(kind, marks=list(_marks(way, wanted))) for kind, way in WAYS.items()]


def _marks(way: Way, wanted: tuple[What, ...]) -> Iterator[pytest.MarkDecorator]:
    if any("minio" in name for name in way.needs):
        yield pytest.mark.minio
    for what in wanted:
        if what in way.cannot:
            yield pytest.mark.skip(reason=f"no {what}: {way.cannot[what]}")


@asynccontextmanager
async def opened(kind: str, fixtures: Mapping[str, Any], folder: Path) -> AsyncIterator[Bench]:
    """A bench of its own; `fixtures` are those that its way needs, `folder` is for what else it needs."""
    database = Database(f"sqlite:///{folder}/ledger.sqlite")
    await database.open()
    ledger = ObjectLedger(database)
    async with AsyncExitStack() as undo:
        undo.push_async_callback(database.close)
        store, sources = await WAYS[kind].open(Given(fixtures, folder, ledger, undo))
        yield Bench(WAYS[kind], store, tuple(sources), ledger)
