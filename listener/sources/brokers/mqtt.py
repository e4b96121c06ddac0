"""MQTT: a session that the broker keeps under one client id, with QoS 1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from gpu_dispatch.net.tls import TlsFiles, client_context
from listener.configuration.environment import SourceSecrets
from listener.sources.brokers.consuming import MOST, BrokerSession, MessageBatch
from listener.sources.brokers.mqtt_wire import MqttConnection
from listener.sources.brokers.troubles import broker_broken, broker_unavailable
from manifests.errors import ConfigError

_CLOSE_S = 3.0
_KEEPALIVE_S = 5
"""The client asks for a sign of life after this silence, and gives up after another one."""
_PORTS = {"mqtt": 1883, "tcp": 1883, "mqtts": 8883, "ssl": 8883, "tls": 8883}


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """`url` is mqtt://host:port or mqtts://… The broker keeps what comes for `client_id` while nobody is there."""

    url: str
    topic: str
    client_id: str = "gpudrop"
    tls: TlsFiles = field(default_factory=TlsFiles)
    secrets: SourceSecrets = field(default_factory=SourceSecrets)


class MqttBroker:
    exclusive = True

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        url = urlsplit(settings.url)
        if url.scheme not in _PORTS or not url.hostname:
            raise ConfigError(f"{settings.url} is no address of MQTT.", hint="Write mqtt://host or mqtts://host.")
        self._host, self._port = url.hostname, url.port or _PORTS[url.scheme]
        self._secure = _PORTS[url.scheme] == _PORTS["mqtts"]

    @property
    def place(self) -> str:
        return f"the MQTT topic {self._settings.topic!r} on {self._host}:{self._port}"

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[BrokerSession, None]:
        """A new client each time: nothing of an earlier connection, like unsent acknowledgements, outlives it."""
        client = await self._client()
        wire = MqttConnection(self.place, client)
        try:
            try:
                await asyncio.to_thread(client.connect, self._host, self._port, _KEEPALIVE_S)
            except (OSError, ValueError) as e:
                raise broker_broken(self.place, e) from e
            client.loop_start()
            await wire.within(wire.connected)
            self._subscribe(client)
            await wire.within(wire.subscribed)
            yield _MqttSession(wire)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    client.disconnect()
                    await asyncio.to_thread(client.loop_stop)

    def _subscribe(self, client: Client) -> None:
        try:
            client.subscribe(self._settings.topic, qos=1)
        except ValueError as e:
            raise ConfigError(f"{self._settings.topic!r} is no topic filter of MQTT.", where="topic") from e

    async def _client(self) -> Client:
        settings = self._settings
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=False,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if settings.secrets.user:
            client.username_pw_set(settings.secrets.user, settings.secrets.password)
        if self._secure:
            context = await asyncio.to_thread(client_context, settings.tls)
            client.tls_set_context(context)  # pyright: ignore[reportUnknownMemberType]
        return client


class _MqttSession:
    def __init__(self, wire: MqttConnection) -> None:
        self._wire = wire

    async def collect(self) -> MessageBatch:
        messages = await self._wire.mailbox.take(MOST)
        return MessageBatch([bytes(message.payload) for message in messages], lambda: self._acknowledge(messages))

    async def _acknowledge(self, messages: list[MQTTMessage]) -> None:
        for message in messages:
            if self._wire.client.ack(message.mid, message.qos) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise broker_unavailable(self._wire.place, "it could not be told what has arrived")
