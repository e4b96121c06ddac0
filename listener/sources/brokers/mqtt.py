"""MQTT: a persistent session under one client id, with QoS 1.

It is exclusive: two clients with one id disconnect each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gpu_dispatch.net.tls import TlsFiles, client_context
from listener.config.environment import SourceSecrets
from listener.sources.brokers.consumer import MOST, BrokerSession, Mailbox, MessageBatch
from listener.sources.brokers.errors import broker_broken, broker_denied, broker_tls_error, broker_unavailable
from manifests.errors import ConfigError, GpuDropError

_ANSWER_S = 10.0
_REFUSALS = frozenset({132, 133, 134, 135})
"""MQTT's reason codes that waiting does not change: protocol, client id, login, permission."""


class MqttConnection:
    """The callbacks of one connection. The broker's answers or a disconnect complete `connected` and `subscribed`."""

    def __init__(self, place: str, client: Client) -> None:
        self.place = place
        self.client = client
        self._loop = asyncio.get_running_loop()
        self._said = ""
        self.mailbox: Mailbox[MQTTMessage] = Mailbox()
        self.connected: asyncio.Future[None] = self._loop.create_future()
        self.subscribed: asyncio.Future[None] = self._loop.create_future()
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_log = self._on_log
        client.on_message = lambda _client, _data, message: self._tell(self.mailbox.put, message)

    async def within(self, told: asyncio.Future[None]) -> None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                await told
        except TimeoutError as e:
            raise broker_unavailable(self.place, "no answer in time") from e

    def _on_connect(self, _c: Client, _d: object, _f: ConnectFlags, code: ReasonCode, _p: Properties | None) -> None:
        refused = self._refusal(code) if code.is_failure else None
        self._tell(_settle, self.connected, refused)

    def _on_subscribe(self, _c: Client, _d: object, _m: int, codes: list[ReasonCode], _p: Properties | None) -> None:
        refused = broker_denied(self.place, "the subscription was refused") if codes[0].is_failure else None
        self._tell(_settle, self.subscribed, refused)

    def _on_disconnect(
        self, _c: Client, _d: object, _f: DisconnectFlags, code: ReasonCode, _p: Properties | None
    ) -> None:
        lost = broker_tls_error(self.place, self._said) or broker_unavailable(self.place, self._said or code)
        for told in (self.connected, self.subscribed):
            self._tell(_settle, told, lost)
        self._tell(self.mailbox.lose, lost)

    def _on_log(self, _c: Client, _d: object, level: int, said: str) -> None:
        """Keeps the cause of a broken connection, which only the log names; the disconnect says "Unspecified error"."""
        if level == LogLevel.MQTT_LOG_ERR:
            self._said = said

    def _refusal(self, code: ReasonCode) -> GpuDropError:
        return broker_denied(self.place, code) if code.value in _REFUSALS else broker_unavailable(self.place, code)

    def _tell(self, told: Callable[..., None], *arguments: object) -> None:
        # The loop is closed when the program ends before the client's thread.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(told, *arguments)


def _settle(told: asyncio.Future[None], error: GpuDropError | None) -> None:
    if not told.done():
        told.set_result(None) if error is None else told.set_exception(error)
        # Marks the exception as retrieved: nobody may be waiting any more.
        told.exception()


_CLOSE_S = 3.0
_KEEPALIVE_S = 5
"""Seconds of silence before the client pings, and again before it gives up."""
_PORTS = {"mqtt": 1883, "tcp": 1883, "mqtts": 8883, "ssl": 8883, "tls": 8883}


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """How an MQTT broker is reached, and which topic is read."""

    url: str
    """mqtt://host:port or mqtts://…"""
    topic: str
    client_id: str = "gpudrop"
    """The broker keeps messages for it while no listener is connected."""
    tls: TlsFiles = field(default_factory=TlsFiles)
    secrets: SourceSecrets = field(default_factory=SourceSecrets)


class MqttBroker:
    """A Broker over paho-mqtt. One listener at a time may use a client id."""

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
        """Makes a new client, so that unsent acknowledgements of an earlier connection are dropped."""
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
    """A BrokerSession over one connection."""

    def __init__(self, wire: MqttConnection) -> None:
        self._wire = wire

    async def collect(self) -> MessageBatch:
        messages = await self._wire.mailbox.take(MOST)
        return MessageBatch([bytes(message.payload) for message in messages], lambda: self._acknowledge(messages))

    async def _acknowledge(self, messages: list[MQTTMessage]) -> None:
        for message in messages:
            if self._wire.client.ack(message.mid, message.qos) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise broker_unavailable(self._wire.place, "it could not be told what has arrived")
