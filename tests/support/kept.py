"""One thing put into a server and read back from it, with the kind's own client: does it answer, does it keep data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
import confluent_kafka
import nats
import paho.mqtt.client as mqtt
import psycopg
import redis
from aiormq import connect
from pamqp.commands import Basic

from support.deadlines import HANG_S

VALUE = b"what was put"
ANSWER_S = HANG_S


@dataclass(frozen=True)
class Keeping:
    put: Callable[[Any], None]
    get: Callable[[Any], bytes]


def _s3(server: Any) -> Any:
    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    return boto3.client("s3", endpoint_url=server.endpoint, region_name="us-east-1", **keys)


def _put_object(server: Any) -> None:
    _s3(server).create_bucket(Bucket="kept")
    _s3(server).put_object(Bucket="kept", Key="a b+c", Body=VALUE)


def _get_object(server: Any) -> bytes:
    return _s3(server).get_object(Bucket="kept", Key="a b+c")["Body"].read()


def _put_into_stream(server: Any) -> None:
    async def put() -> None:
        async with await nats.connect(server.endpoint) as client:
            await client.jetstream().add_stream(name="kept", subjects=["kept"])
            await client.jetstream().publish("kept", VALUE)

    asyncio.run(asyncio.wait_for(put(), ANSWER_S))


def _get_from_stream(server: Any) -> bytes:
    async def get() -> bytes:
        async with await nats.connect(server.endpoint) as client:
            return (await client.jetstream().get_msg("kept", seq=1)).data or b""

    return asyncio.run(asyncio.wait_for(get(), ANSWER_S))


def _put_key(server: Any) -> None:
    redis.Redis.from_url(server.endpoint).rpush("kept", VALUE)


def _get_key(server: Any) -> bytes:
    return redis.Redis.from_url(server.endpoint).lindex("kept", 0)  # type: ignore[return-value]


def _put_into_queue(server: Any) -> None:
    async def put() -> None:
        connection = await connect(server.url)
        channel = await connection.channel()
        await channel.queue_declare("kept", durable=True)
        # Returns once the broker has confirmed it.
        await channel.basic_publish(VALUE, routing_key="kept", properties=Basic.Properties(delivery_mode=2))
        await connection.close()

    asyncio.run(asyncio.wait_for(put(), ANSWER_S))


def _get_from_queue(server: Any) -> bytes:
    async def get() -> bytes:
        connection = await connect(server.url)
        channel = await connection.channel()
        found = await channel.basic_get("kept")
        await connection.close()
        return found.body

    return asyncio.run(asyncio.wait_for(get(), ANSWER_S))


def _session(server: Any, on_message: Callable[[bytes], None], then: Callable[[mqtt.Client], bool]) -> None:
    """A client with a lasting session that is subscribed; runs until `then` says that it is done."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="keeper", clean_session=False)
    client.on_message = lambda *event: on_message(event[2].payload)
    client.connect("127.0.0.1", server.port)
    client.loop_start()
    try:
        asyncio.run(asyncio.wait_for(_until(lambda: client.is_connected() and then(client)), ANSWER_S))
    finally:
        client.disconnect()
        client.loop_stop()


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.02)


def _queue_message(server: Any) -> None:
    """Queued for a subscriber that is away."""
    granted: list[int] = []

    def subscribed(client: mqtt.Client) -> bool:
        if not client.on_subscribe:
            client.on_subscribe = lambda *event: granted.append(event[2])
            client.subscribe("kept", qos=1)
        return bool(granted)

    _session(server, lambda _: None, subscribed)
    sender = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    sender.connect("127.0.0.1", server.port)
    sender.loop_start()
    sender.publish("kept", VALUE, qos=1).wait_for_publish(ANSWER_S)
    # Mosquitto acknowledges first and saves afterwards.
    saved = server.data_dir / "mosquitto" / "mosquitto.db"
    asyncio.run(asyncio.wait_for(_until(lambda: saved.exists() and VALUE in saved.read_bytes()), ANSWER_S))
    sender.disconnect()
    sender.loop_stop()


def _get_message(server: Any) -> bytes:
    received: list[bytes] = []
    _session(server, received.append, lambda _: bool(received))
    return received[0]


def _put_record(server: Any) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": server.host, "acks": "all"})
    producer.produce("kept", VALUE)
    assert producer.flush(ANSWER_S) == 0


def _get_record(server: Any) -> bytes:
    settings = {"bootstrap.servers": server.host, "group.id": "keeper", "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer(settings)
    try:
        consumer.assign([confluent_kafka.TopicPartition("kept", 0, 0)])
        found = consumer.poll(ANSWER_S)
        assert found is not None
        assert not found.error(), found.error()
        return found.value() or b""
    finally:
        consumer.close()


def _put_row(server: Any) -> None:
    with psycopg.connect(f"{server.url}/postgres") as connection:
        connection.execute("CREATE TABLE kept (value bytea)")
        connection.execute("INSERT INTO kept VALUES (%s)", (VALUE,))


def _get_row(server: Any) -> bytes:
    with psycopg.connect(f"{server.url}/postgres") as connection:
        row = connection.execute("SELECT value FROM kept").fetchone()
    assert row
    return row[0]


_OBJECTS = Keeping(_put_object, _get_object)
KEEPING = {
    "minio": _OBJECTS,
    "minio-head": _OBJECTS,
    "versitygw": _OBJECTS,
    "seaweedfs": _OBJECTS,
    "moto": _OBJECTS,
    "nats": Keeping(_put_into_stream, _get_from_stream),
    "redis": Keeping(_put_key, _get_key),
    "rabbitmq": Keeping(_put_into_queue, _get_from_queue),
    "mosquitto": Keeping(_queue_message, _get_message),
    "postgres": Keeping(_put_row, _get_row),
    "kafka": Keeping(_put_record, _get_record),
}
