"""What MQTT's client tells on its own thread, brought to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import LogLevel
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from listener.sources.brokers.mailbox import Mailbox
from listener.sources.brokers.troubles import broker_denied, broker_tls_error, broker_unavailable
from manifests.errors import GpuDropError

_ANSWER_S = 10.0
_REFUSALS = frozenset({132, 133, 134, 135})
"""MQTT's reason codes of a broker that somebody must talk to: protocol, client id, login, permission."""


class MqttConnection:
    """One connection's. `connected` and `subscribed` are settled by the broker's answers, or by the loss of both."""

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
        """What broke the connection is told here alone, just before its end, which says "Unspecified error"."""
        if level == LogLevel.MQTT_LOG_ERR:
            self._said = said

    def _refusal(self, code: ReasonCode) -> GpuDropError:
        return broker_denied(self.place, code) if code.value in _REFUSALS else broker_unavailable(self.place, code)

    def _tell(self, told: Callable[..., None], *arguments: object) -> None:
        # The loop is gone when the program ends before the client's thread.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(told, *arguments)


def _settle(told: asyncio.Future[None], error: GpuDropError | None) -> None:
    if not told.done():
        told.set_result(None) if error is None else told.set_exception(error)
        # It may come when nobody waits for it any more.
        told.exception()
