"""Brokers as the tests use them: how a source hears one, and how something is published there."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol
from urllib.parse import quote_plus

import aiormq
import nats
import paho.mqtt.client as mqtt
import psutil
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from listener.config.environment import SourceSecrets
from listener.sources.base import EventSource
from listener.sources.brokers.amqp import AmqpBroker, AmqpSettings
from listener.sources.brokers.consumer import BrokerSource
from listener.sources.brokers.kafka import KafkaBroker, KafkaSettings
from listener.sources.brokers.mqtt import MqttBroker, MqttSettings
from listener.sources.brokers.nats import NatsBroker, NatsSettings
from listener.sources.brokers.redis import RedisBroker, RedisSettings

BUCKET = "drops"


def message(key: str, bucket: str = BUCKET) -> bytes:
    """What MinIO publishes when `key` was put."""
    record = {
        "eventSource": "minio:s3",
        "eventName": "s3:ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key), "size": 1, "eTag": "0"}},
    }
    return json.dumps({"EventName": "s3:ObjectCreated:Put", "Key": f"{bucket}/{key}", "Records": [record]}).encode()


class Bench(Protocol):
    """One place on one broker: `host` is host:port, `name` that of the stream, queue or topic."""

    host: str
    name: str

    def source(self) -> EventSource: ...

    async def prepare(self) -> None:
        """Sets up what whoever runs the broker sets up."""
        ...

    async def publish(self, bodies: Sequence[bytes]) -> None:
        """Returns when the broker has them all."""
        ...

    def minio(self, target: str) -> dict[str, str]:
        """The variables that make a MinIO publish here."""
        ...


@dataclass(frozen=True)
class _Bench:
    host: str
    name: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    secrets: SourceSecrets = field(default_factory=SourceSecrets)

    def _minio(self, kind: str, target: str, values: Mapping[str, str]) -> dict[str, str]:
        given = {"ENABLE": "on", **values}
        return {f"MINIO_NOTIFY_{kind}_{name}_{target}": value for name, value in given.items()}


@dataclass(frozen=True)
class NatsBench(_Bench):
    kind: ClassVar[str] = "nats"
    ack_wait_s: float = 3.0
    tls: ssl.SSLContext | None = None

    def source(self, **changes: Any) -> BrokerSource:
        given = {"stream": self.name, "secrets": self.secrets, "ack_wait_s": self.ack_wait_s, **changes}
        return BrokerSource("nats", NatsBroker(NatsSettings((f"nats://{self.host}",), **given)))

    async def prepare(self) -> None:
        async with await self._client() as client:
            await client.jetstream().add_stream(name=self.name, subjects=[self.name])

    async def publish(self, bodies: Sequence[bytes]) -> None:
        async with await self._client() as client:
            stream = client.jetstream()
            for body in bodies:
                await stream.publish_async(self.name, body, wait_stall=30)
            await stream.publish_async_completed()

    async def _client(self) -> Any:
        keys = {"user": self.secrets.user or None, "password": self.secrets.password or None}
        return await nats.connect(f"nats://{self.host}", error_cb=_unheard, tls=self.tls, **keys)

    def minio(self, target: str) -> dict[str, str]:
        return self._minio("NATS", target, {"ADDRESS": self.host, "SUBJECT": self.name, "JETSTREAM": "on"})


@dataclass(frozen=True)
class AmqpBench(_Bench):
    kind: ClassVar[str] = "amqp"

    def source(self, **changes: Any) -> BrokerSource:
        given = {"exchange": self.name, "queue": self.name, "secrets": self.secrets, **changes}
        return BrokerSource("amqp", AmqpBroker(AmqpSettings(f"amqp://{self.host}", **given)))

    async def prepare(self) -> None:
        """Nothing: the source makes its queue."""

    async def publish(self, bodies: Sequence[bytes]) -> None:
        connection = await aiormq.connect(f"amqp://{self.host}")
        try:
            channel = await connection.channel(publisher_confirms=True)
            properties = aiormq.spec.Basic.Properties(delivery_mode=2)
            for at in range(0, len(bodies), 200):
                sent = [
                    channel.basic_publish(body, exchange=self.name, properties=properties)
                    for body in bodies[at : at + 200]
                ]
                await asyncio.gather(*sent)
        finally:
            await connection.close()

    def minio(self, target: str) -> dict[str, str]:
        exchange = {"EXCHANGE": self.name, "EXCHANGE_TYPE": "fanout", "DURABLE": "on", "DELIVERY_MODE": "2"}
        return self._minio("AMQP", target, {"URL": f"amqp://guest:guest@{self.host}", **exchange})


@dataclass(frozen=True)
class KafkaBench(_Bench):
    kind: ClassVar[str] = "kafka"
    partitions: int = 3

    def source(self, **changes: Any) -> BrokerSource:
        given = {"topic": self.name, "group": self.name, "secrets": self.secrets, **changes}
        return BrokerSource("kafka", KafkaBroker(KafkaSettings((self.host,), **given)))

    async def prepare(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.host})
        made = admin.create_topics([NewTopic(self.name, self.partitions, 1)])[self.name]
        await asyncio.to_thread(made.result, 30)

    async def publish(self, bodies: Sequence[bytes]) -> None:
        producer = Producer({"bootstrap.servers": self.host, "acks": "all", "linger.ms": 5})
        for i, body in enumerate(bodies):
            producer.produce(self.name, body, key=str(i))
        left = await asyncio.to_thread(producer.flush, 30)
        assert not left

    def minio(self, target: str) -> dict[str, str]:
        return self._minio("KAFKA", target, {"BROKERS": self.host, "TOPIC": self.name})


@dataclass(frozen=True)
class MqttBench(_Bench):
    kind: ClassVar[str] = "mqtt"

    def source(self, **changes: Any) -> BrokerSource:
        given = {"client_id": self.name, "secrets": self.secrets, **changes}
        return BrokerSource("mqtt", MqttBroker(MqttSettings(f"mqtt://{self.host}", self.name, **given)))

    async def prepare(self) -> None:
        """Nothing: a topic is there when somebody names it."""

    async def publish(self, bodies: Sequence[bytes]) -> None:
        await asyncio.to_thread(self._publish, bodies)

    def _publish(self, bodies: Sequence[bytes]) -> None:
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        if self.secrets.user:
            client.username_pw_set(self.secrets.user, self.secrets.password)
        host, _, port = self.host.partition(":")
        client.connect(host, int(port))
        client.loop_start()
        try:
            for sent in [client.publish(self.name, body, qos=1) for body in bodies]:
                sent.wait_for_publish(30)
                assert sent.is_published()
        finally:
            client.disconnect()
            client.loop_stop()

    def minio(self, target: str) -> dict[str, str]:
        return self._minio("MQTT", target, {"BROKER": f"tcp://{self.host}", "TOPIC": self.name, "QOS": "1"})


@dataclass(frozen=True)
class RedisBench(_Bench):
    """What MinIO appends here is no message as `message` makes it."""

    kind: ClassVar[str] = "redis"

    def source(self) -> BrokerSource:
        return BrokerSource("redis", RedisBroker(RedisSettings(f"redis://{self.host}", self.name)))

    async def prepare(self) -> None:
        """Nothing: a list is there when something is in it."""

    def minio(self, target: str) -> dict[str, str]:
        return self._minio("REDIS", target, {"ADDRESS": self.host, "FORMAT": "access", "KEY": self.name})


BENCHES: dict[str, type[_Bench]] = {each.kind: each for each in (NatsBench, AmqpBench, KafkaBench, MqttBench)}
SERVERS = {"nats": "nats", "amqp": "rabbitmq", "kafka": "kafka", "mqtt": "mosquitto"}
"""Which server of scripts/servers.py speaks a kind."""


def bench_of(kind: str, host: str, name: str) -> Bench:
    """The same place again, in another process."""
    return BENCHES[kind](host, name)


async def _unheard(_: Exception) -> None:
    """What the publisher raises, it tells here as well."""


@contextmanager
def frozen(server: Any) -> Iterator[None]:
    """The server hears and says nothing, while its connections stand."""
    processes = [each for pid in server.pids for each in _family(psutil.Process(pid))]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]
