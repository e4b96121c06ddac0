"""The message brokers as kinds of sources, as the entry points name them; a client library is imported when used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from listener.config.environment import SourceSecrets
from listener.config.source_kinds import PushNames, SourceKind
from listener.sources.brokers.settings import (
    AmqpSourceConfig,
    BrokerSettings,
    KafkaSourceConfig,
    MqttSourceConfig,
    NatsSourceConfig,
    RedisSourceConfig,
)
from manifests.errors import ConfigError

if TYPE_CHECKING:
    from listener.sources.base import EventSource
    from listener.sources.brokers.consumer import Broker

B = TypeVar("B", bound=BrokerSettings)


def _kind(
    name: str,
    settings: type[B],
    connect: Callable[[B, SourceSecrets], Broker],
    minio_variables: Callable[[B, SourceSecrets], Sequence[tuple[str, str]]],
    push_names: Callable[[B], PushNames] | None = None,
) -> SourceKind[B]:
    def broker(source: B, secrets: SourceSecrets) -> Broker:
        try:
            return connect(source, secrets)
        except ModuleNotFoundError as e:
            raise ConfigError(
                f"The source {source.named!r} needs the package {e.name!r}.",
                hint=f"pip install 'gpudrop[{name}]'",
                where="sources",
            ) from e

    def build(source: B, secrets: SourceSecrets) -> EventSource:
        from listener.sources.brokers.consumer import BrokerSource

        return BrokerSource(source.named, broker(source, secrets))

    async def check(source: B, secrets: SourceSecrets) -> str:
        found = broker(source, secrets)
        async with found.session():
            return f"{found.place} lets us in"

    return SourceKind(name, settings, build, check, minio_variables, push_names)


def _nats(source: NatsSourceConfig, secrets: SourceSecrets) -> Broker:
    from listener.sources.brokers.nats import NatsBroker, NatsSettings

    settings = NatsSettings(
        source.servers, source.stream, source.subject, source.durable, tls=source.tls.files, secrets=secrets
    )
    return NatsBroker(settings)


def _nats_variables(source: NatsSourceConfig, secrets: SourceSecrets) -> list[tuple[str, str]]:
    subject = source.subject or f"<a subject of the stream {source.stream}>"
    address = urlsplit(source.servers[0]).netloc
    return [("ADDRESS", address), ("SUBJECT", subject), ("JETSTREAM", "on"), *_login(secrets)]


def _redis(source: RedisSourceConfig, secrets: SourceSecrets) -> Broker:
    from listener.sources.brokers.redis import RedisBroker, RedisSettings

    return RedisBroker(RedisSettings(source.url, source.key, tls=source.tls.files, secrets=secrets))


def _redis_variables(source: RedisSourceConfig, secrets: SourceSecrets) -> list[tuple[str, str]]:
    login = [("PASSWORD", "<password>")] if secrets.password else []
    return [("ADDRESS", urlsplit(source.url).netloc), ("FORMAT", "access"), ("KEY", source.key), *login]


def _amqp(source: AmqpSourceConfig, secrets: SourceSecrets) -> Broker:
    from listener.sources.brokers.amqp import AmqpBroker, AmqpSettings

    settings = AmqpSettings(
        source.url,
        source.exchange,
        source.exchange_type,
        source.routing_key,
        source.queue,
        tls=source.tls.files,
        secrets=secrets,
    )
    return AmqpBroker(settings)


def _amqp_variables(source: AmqpSourceConfig, secrets: SourceSecrets) -> list[tuple[str, str]]:
    parts = urlsplit(source.url)
    login = "<user>:<password>@" if secrets.user else ""
    return [
        ("URL", f"{parts.scheme}://{login}{parts.netloc.rpartition('@')[2]}{parts.path}"),
        ("EXCHANGE", source.exchange or "gpudrop"),
        ("EXCHANGE_TYPE", source.exchange_type),
        ("ROUTING_KEY", source.routing_key),
        ("DURABLE", "on"),
        ("DELIVERY_MODE", "2"),
    ]


def _amqp_names(source: AmqpSourceConfig) -> PushNames:
    return PushNames(topic=source.routing_key, exchange=source.exchange or "")


def _kafka(source: KafkaSourceConfig, secrets: SourceSecrets) -> Broker:
    from listener.sources.brokers.kafka import KafkaBroker, KafkaSettings

    settings = KafkaSettings(
        source.servers,
        source.topic,
        source.group,
        source.security,
        source.sasl,
        tls=source.tls.files,
        secrets=secrets,
    )
    return KafkaBroker(settings)


def _kafka_variables(source: KafkaSourceConfig, _: SourceSecrets) -> list[tuple[str, str]]:
    found = [("BROKERS", ",".join(source.servers)), ("TOPIC", source.topic)]
    if source.security in ("ssl", "sasl_ssl"):
        found.append(("TLS", "on"))
    if source.security.startswith("sasl"):
        mechanism = {"plain": "plain", "scram-sha-256": "sha256", "scram-sha-512": "sha512"}[source.sasl]
        found += [("SASL", "on"), ("SASL_MECHANISM", mechanism)]
        found += [("SASL_USERNAME", "<user>"), ("SASL_PASSWORD", "<password>")]
    return found


def _kafka_names(source: KafkaSourceConfig) -> PushNames:
    return PushNames(topic=source.topic)


def _mqtt(source: MqttSourceConfig, secrets: SourceSecrets) -> Broker:
    from listener.sources.brokers.mqtt import MqttBroker, MqttSettings

    return MqttBroker(MqttSettings(source.url, source.topic, source.client_id, tls=source.tls.files, secrets=secrets))


def _mqtt_variables(source: MqttSourceConfig, secrets: SourceSecrets) -> list[tuple[str, str]]:
    broker = urlsplit(source.url)
    scheme = {"mqtt": "tcp", "mqtts": "ssl"}.get(broker.scheme, broker.scheme)
    return [("BROKER", f"{scheme}://{broker.netloc}"), ("TOPIC", source.topic), ("QOS", "1"), *_login(secrets)]


def _login(secrets: SourceSecrets) -> list[tuple[str, str]]:
    return [("USERNAME", "<user>"), ("PASSWORD", "<password>")] if secrets.user else []


NATS = _kind("nats", NatsSourceConfig, _nats, _nats_variables)
REDIS = _kind("redis", RedisSourceConfig, _redis, _redis_variables)
AMQP = _kind("amqp", AmqpSourceConfig, _amqp, _amqp_variables, _amqp_names)
KAFKA = _kind("kafka", KafkaSourceConfig, _kafka, _kafka_variables, _kafka_names)
MQTT = _kind("mqtt", MqttSourceConfig, _mqtt, _mqtt_variables)
