"""Events that real stores post: MinIO with a queue on disk, VersityGW, and Amazon SNS as moto speaks it."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
from minio import Minio
from minio.notificationconfig import NotificationConfig, QueueConfig

from listener.sources.webhook.settings import PostSecrets
from listener.sources.webhook.sns import is_signed, read_sns_message
from support.servers import servers as processes
from support.servers import start_server
from support.sources import Recorder
from support.stores import admin_client, s3_client, servers, start_minio
from support.webhook import TOKEN, Authority, free_port, minio_target, receiving

EVENTS = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


@dataclass(frozen=True)
class Posting:
    """A bucket of a MinIO that posts its events to `port`, whoever listens there."""

    client: Minio
    bucket: str
    port: int

    async def put(self, *keys: str) -> None:
        for key in keys:
            await asyncio.to_thread(self.client.put_object, self.bucket, key, io.BytesIO(b"x"), 1)


def subscribed(client: Minio, port: int) -> Posting:
    bucket = f"drop-{uuid.uuid4().hex[:12]}"
    client.make_bucket(bucket)
    queue = QueueConfig(queue="arn:minio:sqs::W:webhook", events=EVENTS)
    client.set_bucket_notification(bucket, NotificationConfig(queue_config_list=[queue]))
    return Posting(client, bucket, port)


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, int]]:
    port = free_port()
    folder = tmp_path_factory.mktemp("minio")
    server = start_minio("minio", folder, environment=minio_target(port, folder / "queue"))
    yield server, port
    servers.stop(server)


@pytest.fixture
def posting(minio: tuple[Any, int]) -> Posting:
    server, port = minio
    return subscribed(admin_client(server), port)


async def test_a_changed_token_is_refused_until_the_receiver_knows_both(posting: Posting) -> None:
    inbox = Recorder()
    async with receiving(inbox, port=posting.port, secrets=PostSecrets.of(token="new")):
        await posting.put("a.mp3")
        await inbox.until(lambda: inbox.counts["wrong_token"])
        assert not inbox.events
    async with receiving(inbox, port=posting.port, secrets=PostSecrets.of(token=f"new, {TOKEN}")):
        await inbox.until(lambda: inbox.created["a.mp3"])


async def test_a_path_secret_and_a_token_with_its_scheme(tmp_path: Path) -> None:
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}/minio/in-the-path"
    environment = minio_target(port, tmp_path / "queue", endpoint=endpoint, auth_token="Basic dXNlcjpwYXNz")
    server = start_minio("minio", tmp_path / "minio", environment=environment)
    try:
        posting = await asyncio.to_thread(subscribed, admin_client(server), port)
        async with receiving(port=port, secrets=PostSecrets.of(path_secret="in-the-path")) as receiver:
            await posting.put("a.mp3")
            await receiver.inbox.until(lambda: receiver.inbox.created["a.mp3"])
        assert not receiver.inbox.counts
    finally:
        servers.stop(server)


async def test_minio_shows_its_certificate(tmp_path: Path) -> None:
    authority = Authority.at(tmp_path / "authority")
    certs = tmp_path / "certs"
    (certs / "CAs").mkdir(parents=True)
    shutil.copy(authority.file, certs / "CAs" / "ca.crt")
    for file, name in zip(authority.issue("store"), ("public.crt", "private.key"), strict=True):
        shutil.copy(file, certs / name)
    cert, key = authority.issue("client", "store")
    port = free_port()
    environment = minio_target(
        port,
        tmp_path / "queue",
        endpoint=f"https://127.0.0.1:{port}/minio",
        auth_token="",
        client_cert=str(cert),
        client_key=str(key),
    )
    server = start_minio("minio", tmp_path / "minio", environment=environment, certs_dir=certs)
    try:
        client = admin_client(server, http_client=urllib3.PoolManager(ca_certs=str(authority.file)))
        posting = await asyncio.to_thread(subscribed, client, port)
        tls = authority.server(demand_clients=True)
        async with receiving(port=port, secrets=PostSecrets(), tls=tls) as receiver:
            await posting.put("a.mp3")
            await receiver.inbox.until(lambda: receiver.inbox.created["a.mp3"])
    finally:
        servers.stop(server)


@pytest.fixture
def versitygw(tmp_path: Path) -> Iterator[Callable[[int], Any]]:
    started: list[Any] = []

    def start(port: int) -> Any:
        arguments = ["--event-webhook-url", f"http://127.0.0.1:{port}/minio/in-the-path"]
        started.append(start_server("versitygw", tmp_path / "versitygw", arguments=arguments))
        return started[-1]

    yield start
    for server in started:
        processes.stop(server)


async def test_versitygw_keeps_one_connection(versitygw: Callable[[int], Any]) -> None:
    """It never reads an answer's body, and loses the connection that brought one."""
    async with receiving(secrets=PostSecrets.of(path_secret="in-the-path"), max_connections=20) as receiver:
        client = s3_client(await asyncio.to_thread(versitygw, receiver.source.port))
        assert receiver.inbox.counts == {"test_event": 1}
        await asyncio.to_thread(client.create_bucket, Bucket="drop")
        for i in range(60):
            await asyncio.to_thread(client.put_object, Bucket="drop", Key=f"{i}.mp3", Body=b"x")
        await receiver.inbox.until(lambda: len(receiver.inbox.created) == 60)
        assert "too_many_connections" not in receiver.inbox.counts


async def test_messages_of_a_listed_topic_are_taken(moto_server: Any) -> None:
    names = [f"drop-{uuid.uuid4().hex[:12]}" for _ in range(2)]
    s3, sns = s3_client(moto_server), s3_client(moto_server, "sns")
    arns = [(await asyncio.to_thread(sns.create_topic, Name=name))["TopicArn"] for name in names]
    secrets = PostSecrets.of(path_secret="in-the-path")
    async with receiving(secrets=secrets, sns_topics=frozenset(arns[:1])) as receiver:
        address = f"{receiver.url}/in-the-path"
        for name, arn in zip(names, arns, strict=True):
            await asyncio.to_thread(sns.subscribe, TopicArn=arn, Protocol="http", Endpoint=address)
            await asyncio.to_thread(s3.create_bucket, Bucket=name)
            configuration = {"TopicConfigurations": [{"TopicArn": arn, "Events": EVENTS}]}
            await asyncio.to_thread(
                s3.put_bucket_notification_configuration, Bucket=name, NotificationConfiguration=configuration
            )
            await asyncio.to_thread(s3.put_object, Bucket=name, Key="a.mp3", Body=b"x")
        inbox = receiver.inbox
        await inbox.until(lambda: inbox.created["a.mp3"] and inbox.counts["sns_topic_not_listed"])
    assert {event.bucket for event in inbox.events} == {names[0]}


async def test_moto_signs_as_amazon_does(moto_server: Any) -> None:
    """Another program's signatures, over a message with everything Amazon covers."""
    sns = s3_client(moto_server, "sns")
    arn = (await asyncio.to_thread(sns.create_topic, Name=f"t-{uuid.uuid4().hex}"))["TopicArn"]
    bodies: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        bodies.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(keep, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await asyncio.to_thread(sns.subscribe, TopicArn=arn, Protocol="http", Endpoint=address)
        await asyncio.to_thread(sns.publish, TopicArn=arn, Message="ção 🎵")
    [body] = bodies
    message = read_sns_message(body)
    assert message
    file = message.SigningCertURL.rpartition("/")[2]
    pool = urllib3.PoolManager()
    # moto tells its services apart by this header.
    headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/sns/aws4_request"}
    answer = await asyncio.to_thread(pool.request, "GET", f"{moto_server.endpoint}/{file}", headers=headers)
    assert answer.status == 200
    assert is_signed(message, answer.data)
    assert not is_signed(message.model_copy(update={"Message": "other"}), answer.data)
    assert json.loads(body)["SignatureVersion"] == "2"
