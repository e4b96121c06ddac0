"""From the configuration to the sources that hear a message broker; each client library is imported when it is used."""

from __future__ import annotations

from listener.config_sources import (
    AmqpSourceConfig,
    KafkaSourceConfig,
    MqttSourceConfig,
    NatsSourceConfig,
    RedisSourceConfig,
    TlsConfig,
)
from listener.environment import SourceSecrets
from listener.sources.base import EventSource
from listener.sources.brokers.consuming import BrokerSource
from listener.sources.brokers.tls import TlsFiles


def nats_source(source: NatsSourceConfig, secrets: SourceSecrets) -> EventSource:
    from listener.sources.brokers.nats import NatsBroker, NatsSettings

    settings = NatsSettings(
        source.servers, source.stream, source.subject, source.durable, tls=_files(source.tls), secrets=secrets
    )
    return BrokerSource(source.named, NatsBroker(settings))


def redis_source(source: RedisSourceConfig, secrets: SourceSecrets) -> EventSource:
    from listener.sources.brokers.redis import RedisBroker, RedisSettings

    settings = RedisSettings(source.url, source.key, tls=_files(source.tls), secrets=secrets)
    return BrokerSource(source.named, RedisBroker(settings))


def amqp_source(source: AmqpSourceConfig, secrets: SourceSecrets) -> EventSource:
    from listener.sources.brokers.amqp import AmqpBroker, AmqpSettings

    settings = AmqpSettings(
        source.url,
        source.exchange,
        source.exchange_type,
        source.routing_key,
        source.queue,
        tls=_files(source.tls),
        secrets=secrets,
    )
    return BrokerSource(source.named, AmqpBroker(settings))


def kafka_source(source: KafkaSourceConfig, secrets: SourceSecrets) -> EventSource:
    from listener.sources.brokers.kafka import KafkaBroker, KafkaSettings

    settings = KafkaSettings(
        source.servers,
        source.topic,
        source.group,
        source.security,
        source.sasl,
        tls=_files(source.tls),
        secrets=secrets,
    )
    return BrokerSource(source.named, KafkaBroker(settings))


def mqtt_source(source: MqttSourceConfig, secrets: SourceSecrets) -> EventSource:
    from listener.sources.brokers.mqtt import MqttBroker, MqttSettings

    settings = MqttSettings(source.url, source.topic, source.client_id, tls=_files(source.tls), secrets=secrets)
    return BrokerSource(source.named, MqttBroker(settings))


def _files(tls: TlsConfig) -> TlsFiles:
    return TlsFiles(tls.ca_file, tls.cert_file, tls.key_file)
