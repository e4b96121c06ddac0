"""The list that MinIO appends to, read so that nothing is lost when anything dies."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from minio import Minio
from minio.notificationconfig import NotificationConfig, QueueConfig

from gpu_dispatch.net.tls import TlsFiles
from listener.config.environment import SourceSecrets
from listener.sources.brokers.consumer import BrokerSource
from listener.sources.brokers.redis import RedisBroker, RedisSettings
from support.queues import eventually, lines, minio_item, program
from support.servers import servers
from support.sources import Proxy, Recorder, running
from support.stores import admin_client, start_minio

ODD_KEYS = [
    "a|b.mp3",
    "it's 1+1=2.mp3",
    "100%20sure.mp3",
    "music 🎵/ção.mp3",
    "&=?#*[]{}!@$^();,~`.mp3",
    "with  spaces .mp3",
]
KEY = "drops"


@dataclass(frozen=True)
class Lists:
    """The list a store appends to, and the one of items at work, on one server."""

    url: str
    client: Any

    @property
    def lengths(self) -> tuple[int, int]:
        return self.client.llen(KEY), self.client.llen(f"{KEY}:processing")

    def source(self, **changes: Any) -> BrokerSource:
        return BrokerSource("redis", RedisBroker(replace(RedisSettings(self.url, KEY, idle_s=1), **changes)))

    def append(self, *items: bytes, to: str = KEY) -> None:
        self.client.rpush(to, *items)


@pytest.fixture
def lists(redis_server: Any) -> Iterator[Lists]:
    with redis.Redis(port=redis_server.port) as client:
        client.flushall()
        yield Lists(redis_server.endpoint, client)


@dataclass(frozen=True)
class Notifying:
    """A MinIO server, and a bucket of it that tells the target of the given name."""

    client: Minio

    def bucket(self, target: str) -> str:
        name = f"tells-{target.lower()}"
        self.client.make_bucket(name)
        events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
        queue = QueueConfig(queue=f"arn:minio:sqs::{target}:redis", events=events)
        self.client.set_bucket_notification(name, NotificationConfig(queue_config_list=[queue]))
        return name

    def put(self, bucket: str, key: str) -> None:
        self.client.put_object(bucket, key, io.BytesIO(b"x"), 1)


@pytest.fixture
async def notifying(redis_server: Any, lists: Lists, tmp_path: Path) -> AsyncIterator[Notifying]:
    environment: dict[str, str] = {}
    for target, form, key in (("R", "access", KEY), ("N", "namespace", "names")):
        environment |= {
            f"MINIO_NOTIFY_REDIS_ENABLE_{target}": "on",
            f"MINIO_NOTIFY_REDIS_ADDRESS_{target}": redis_server.host,
            f"MINIO_NOTIFY_REDIS_FORMAT_{target}": form,
            f"MINIO_NOTIFY_REDIS_KEY_{target}": key,
        }
    server = start_minio("minio", tmp_path / "minio", environment=environment)
    # MinIO calls itself ready before it knows its targets; a bucket made meanwhile can take it a minute.
    await eventually(lambda: "SQS ARNs" in server.log.read_text())
    yield Notifying(admin_client(server))
    servers.stop(server)


async def test_objects_that_minio_tells_are_heard(notifying: Notifying, lists: Lists) -> None:
    bucket = notifying.bucket("R")
    inbox = Recorder()
    async with running(inbox, lists.source()):
        for key in ODD_KEYS:
            await asyncio.to_thread(notifying.put, bucket, key)
        await asyncio.to_thread(notifying.put, bucket, ODD_KEYS[0])
        await asyncio.to_thread(notifying.client.remove_object, bucket, ODD_KEYS[1])
        await inbox.until(lambda: set(inbox.created) >= set(ODD_KEYS))
        await inbox.until(lambda: inbox.created[ODD_KEYS[0]] >= 2 and inbox.removed[ODD_KEYS[1]])
        await eventually(lambda: lists.lengths == (0, 0))
    assert {(event.bucket, event.source) for event in inbox.events} == {(bucket, "redis")}


async def test_a_hash_of_the_namespace_format_is_refused_with_the_remedy(notifying: Notifying, lists: Lists) -> None:
    bucket = notifying.bucket("N")
    await asyncio.to_thread(notifying.put, bucket, "a.mp3")
    await eventually(lambda: lists.client.exists("names"))
    inbox = Recorder()
    async with running(inbox, lists.source(key="names")):
        await inbox.until(lambda: any(not each.ok for each in inbox.conditions))
    told = inbox.conditions[-1]
    assert (told.ok, told.code) == (False, "source_denied")
    assert "format=access" in told.hint


async def test_what_a_dead_listener_left_behind_comes_first(lists: Lists) -> None:
    lists.append(minio_item("new.mp3"))
    lists.append(minio_item("left.mp3"), minio_item("behind.mp3"), to=f"{KEY}:processing")
    inbox = Recorder()
    async with running(inbox, lists.source()):
        await inbox.until(lambda: inbox.created["new.mp3"])
        await eventually(lambda: lists.lengths == (0, 0))
    assert [event.key for event in inbox.events] == ["left.mp3", "behind.mp3", "new.mp3"]


async def test_what_is_left_behind_later_is_found_as_well(lists: Lists) -> None:
    inbox = Recorder()
    async with running(inbox, lists.source()):
        await inbox.until(lambda: inbox.conditions)
        # As when the server serves the blocked request of a listener that is gone.
        lists.append(minio_item("late.mp3"), to=f"{KEY}:processing")
        await inbox.until(lambda: inbox.created["late.mp3"])
        await eventually(lambda: lists.lengths == (0, 0))


async def test_an_item_stays_until_it_is_accepted(lists: Lists) -> None:
    lists.append(minio_item("a.mp3"))
    seen: list[tuple[int, int]] = []

    class Inbox(Recorder):
        async def accept(self, events: Any) -> None:
            seen.append(lists.lengths)
            await super().accept(events)

    inbox = Inbox(failures=2)
    async with running(inbox, lists.source()):
        await inbox.until(lambda: inbox.created["a.mp3"])
        await eventually(lambda: lists.lengths == (0, 0))
    assert seen == [(0, 1)] * 3


async def test_a_backlog_is_drained_in_batches_and_in_order(lists: Lists) -> None:
    keys = [f"{i:05}.mp3" for i in range(2_345)]
    lists.append(*[minio_item(key) for key in keys])
    inbox = Recorder()
    async with running(inbox, lists.source()):
        await eventually(lambda: lists.lengths == (0, 0))
    assert [event.key for event in inbox.events] == keys
    assert inbox.batches == [500, 500, 500, 500, 345]


async def test_items_that_hold_no_event_are_counted_and_removed(lists: Lists) -> None:
    lists.append(b"\xff\x00", b'{"hello": "you"}', b"[]", minio_item("a.mp3"), minio_item("a.mp3"))
    inbox = Recorder()
    async with running(inbox, lists.source()):
        await eventually(lambda: lists.lengths == (0, 0))
    assert inbox.created == {"a.mp3": 2}
    assert inbox.counts == {"not_json": 1, "unknown_shape": 2}


async def test_a_former_leader_that_wakes_does_no_harm(lists: Lists) -> None:
    """Both work on one list all the while, which is worse than one that wakes."""
    keys = {f"{i}.mp3" for i in range(3_000)}
    lists.append(*[minio_item(key) for key in keys])
    former, leader = Recorder(), Recorder()
    async with running(former, lists.source()), running(leader, lists.source()):
        await eventually(lambda: lists.lengths == (0, 0))
        await leader.until(lambda: set(former.created) | set(leader.created) == keys)


async def test_nothing_is_lost_when_the_server_is_killed(own_server: Any) -> None:
    server = own_server("redis")
    with redis.Redis(port=server.port) as client:
        lists = Lists(server.endpoint, client)
        inbox = Recorder()
        async with running(inbox, lists.source()):
            lists.append(*[minio_item(f"{i}.mp3") for i in range(5_000)])
            await inbox.until(lambda: inbox.events)
            await asyncio.to_thread(servers.kill, server)
            await inbox.until(lambda: inbox.conditions[-1].code == "source_unavailable")
            await asyncio.to_thread(servers.restart, server)
            await inbox.until(lambda: set(inbox.created) >= {f"{i}.mp3" for i in range(5_000)})
            await inbox.until(lambda: inbox.conditions[-1].ok)
            await eventually(lambda: lists.lengths == (0, 0))
        assert sum("connected" in gap for gap in inbox.gaps) >= 2


async def test_a_server_that_falls_silent_is_noticed(redis_server: Any, lists: Lists) -> None:
    async with Proxy(redis_server.host).serve() as proxy:
        inbox = Recorder()
        through = f"redis://{proxy.endpoint.partition('://')[2]}"
        async with running(inbox, replace_url(lists, through).source(slack_s=0.5)):
            await inbox.until(lambda: inbox.conditions and inbox.conditions[-1].ok)
            proxy.mode = "silent"
            proxy.reset_all()
            await inbox.until(lambda: "no answer in time" in inbox.conditions[-1].detail)
            lists.append(minio_item("a.mp3"))
            proxy.mode = "pass"
            await inbox.until(lambda: inbox.created["a.mp3"] and inbox.conditions[-1].ok)


def replace_url(lists: Lists, url: str) -> Lists:
    return Lists(url, lists.client)


async def test_user_and_password_are_used_and_named_when_they_are_wrong(own_server: Any) -> None:
    server = own_server(
        "redis", arguments=["--user", "drop", "on", ">let-me-in", "~drops*", "+@all", "--user", "default", "off"]
    )
    url = f"redis://{server.host}"
    client: Any = redis.Redis(port=server.port, username="drop", password="let-me-in")
    lists = Lists(url, client)
    for secrets in (SourceSecrets(), SourceSecrets("drop", "wrong")):
        inbox = Recorder()
        async with running(inbox, lists.source(secrets=secrets)):
            await inbox.until(lambda seen=inbox: seen.conditions)
        assert inbox.conditions[0].code == "source_denied"
        assert "GPUDROP_<NAME>_PASSWORD" in inbox.conditions[0].hint
        assert "wrong" not in str(inbox.conditions)
    lists.append(minio_item("a.mp3"))
    inbox = Recorder()
    async with running(inbox, lists.source(secrets=SourceSecrets("drop", "let-me-in"))):
        await inbox.until(lambda: inbox.created["a.mp3"])
    inbox = Recorder()
    async with running(inbox, lists.source(key="other", secrets=SourceSecrets("drop", "let-me-in"))):
        await inbox.until(lambda: inbox.conditions)
    assert "ACL" in inbox.conditions[0].hint
    client.close()


@pytest.fixture
async def tls_server(own_server: Any, tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """The URL of a server that speaks TLS, and its authority's certificate."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    plain = own_server("redis")
    socket_options = (
        ("tls-cert-file", cert),
        ("tls-key-file", key),
        ("tls-ca-cert-file", ca),
        ("tls-auth-clients", "no"),
    )
    with redis.Redis(port=plain.port) as client:
        for name, value in socket_options:
            client.config_set(name, str(value))
        client.config_set("tls-port", str(port := servers.free_ports(1)[0]))
        client.rpush(KEY, minio_item("a.mp3"))
    yield f"rediss://localhost:{port}", ca


async def test_tls_is_spoken_to_a_server_of_a_private_authority(tls_server: tuple[str, Path]) -> None:
    url, ca = tls_server
    inbox = Recorder()
    async with running(inbox, Lists(url, None).source()):
        await inbox.until(lambda: inbox.conditions)
    assert (inbox.conditions[0].code, "ca_file" in inbox.conditions[0].hint) == ("source_denied", True)
    inbox = Recorder()
    async with running(inbox, Lists(url, None).source(tls=TlsFiles(ca_file=ca.with_name("none.pem")))):
        await inbox.until(lambda: inbox.conditions)
    assert inbox.conditions[0].code == "config_invalid"
    inbox = Recorder()
    async with running(inbox, Lists(url, None).source(tls=TlsFiles(ca_file=ca))):
        await inbox.until(lambda: inbox.created["a.mp3"])


async def test_it_may_be_cancelled_at_any_moment_and_run_again(redis_server: Any, lists: Lists) -> None:
    async with Proxy(redis_server.host).serve() as proxy:
        source = replace_url(lists, f"redis://{proxy.endpoint.partition('://')[2]}").source(idle_s=5)
        for i in range(30):
            inbox = Recorder()
            lists.append(minio_item(f"{i}.mp3"))
            async with running(inbox, source):
                # What comes next is a command that is answered at once.
                await inbox.until(lambda seen=inbox, key=f"{i}.mp3": seen.created[key])
                await asyncio.sleep(0.0005 * (i % 5))
    await eventually(lambda: lists.lengths[0] == 0)


async def test_a_killed_listener_loses_nothing(lists: Lists, tmp_path: Path) -> None:
    keys = [f"{i}.mp3" for i in range(700)]
    lists.append(*[minio_item(key) for key in keys])
    held, journal = tmp_path / "held", tmp_path / "accepted"
    with program("redis", lists.url, KEY, held, "hold"):
        await eventually(lambda: any(line.startswith("held") for line in lines(held)))
    assert lists.lengths == (200, 500)
    with program("redis", lists.url, KEY, journal):
        await eventually(lambda: lists.lengths == (0, 0))
    assert [line for line in lines(journal) if not line.startswith("condition")] == keys
