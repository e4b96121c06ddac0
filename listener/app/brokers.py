"""Builds message brokers from the configuration; each client library is imported when it is used."""

from __future__ import annotations

from gpu_dispatch.net.tls import TlsFiles
from listener.config.environment import SourceSecrets
from listener.config.sources import (
    AmqpSourceConfig,
    KafkaSourceConfig,
    MqttSourceConfig,
    NatsSourceConfig,
    RedisSourceConfig,
    TlsConfig,
)
from listener.sources.brokers.consumer import Broker
from manifests.errors import ConfigError

BrokerConfig = NatsSourceConfig | RedisSourceConfig | AmqpSourceConfig | KafkaSourceConfig | MqttSourceConfig


def build_broker(source: BrokerConfig, secrets: SourceSecrets) -> Broker:
    """Builds a source's broker. Raises ConfigError for what it lacks, also when its client is not installed."""
    try:
        return _built(source, secrets)
    except ModuleNotFoundError as e:
        raise ConfigError(
            f"The source {source.named!r} needs the package {e.name!r}.",
            hint=f"pip install 'gpudrop[{source.kind}]'",
            where="sources",
        ) from e


def _built(source: BrokerConfig, secrets: SourceSecrets) -> Broker:
    match source:
        case NatsSourceConfig():
            return _nats(source, secrets)
        case RedisSourceConfig():
            return _redis(source, secrets)
        case AmqpSourceConfig():
            return _amqp(source, secrets)
        case KafkaSourceConfig():
            return _kafka(source, secrets)
        case MqttSourceConfig():
            return _mqtt(source, secrets)


def _nats(source: NatsSourceConfig, secrets: SourceSecrets) -> Broker:
    from listener.sources.brokers.nats import NatsBroker, NatsSettings

    settings = NatsSettings(
        source.servers, source.stream, source.subject, source.durable, tls=_files(source.tls), secrets=secrets
    )
    return NatsBroker(settings)


def _redis(source: RedisSourceConfig, secrets: SourceSecrets) -> Broker:
    from listener.sources.brokers.redis import RedisBroker, RedisSettings

    settings = RedisSettings(source.url, source.key, tls=_files(source.tls), secrets=secrets)
    return RedisBroker(settings)


def _amqp(source: AmqpSourceConfig, secrets: SourceSecrets) -> Broker:
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
    return AmqpBroker(settings)


def _kafka(source: KafkaSourceConfig, secrets: SourceSecrets) -> Broker:
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
    return KafkaBroker(settings)


def _mqtt(source: MqttSourceConfig, secrets: SourceSecrets) -> Broker:
    from listener.sources.brokers.mqtt import MqttBroker, MqttSettings

    settings = MqttSettings(source.url, source.topic, source.client_id, tls=_files(source.tls), secrets=secrets)
    return MqttBroker(settings)


def _files(tls: TlsConfig) -> TlsFiles:
    return TlsFiles(tls.ca_file, tls.cert_file, tls.key_file)
