"""What is special about MQTT: one session, topic filters, levels of care."""

from __future__ import annotations

import asyncio
from typing import Any

import paho.mqtt.publish as publish
import pytest

from listener.sources.brokers.consumer import BrokerSource
from listener.sources.brokers.mqtt import MqttBroker, MqttSettings
from manifests.errors import ConfigError
from support.brokers import MqttBench, message
from support.sources import Recorder, running


@pytest.fixture
def bench(mosquitto_server: Any) -> MqttBench:
    return MqttBench(mosquitto_server.host)


def test_one_listener_at_a_time_has_the_session(bench: MqttBench) -> None:
    assert bench.source().exclusive


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_of_every_level_are_heard(bench: MqttBench, qos: int) -> None:
    inbox = Recorder()
    async with running(inbox, bench.source()):
        await inbox.until(lambda: inbox.conditions)
        host, _, port = bench.host.partition(":")
        await asyncio.to_thread(publish.single, bench.name, message("a.mp3"), qos, hostname=host, port=int(port))
        await inbox.until(lambda: inbox.created["a.mp3"])
    assert inbox.created["a.mp3"] == 1


async def test_a_filter_hears_every_topic_below_it(bench: MqttBench) -> None:
    inbox = Recorder()
    settings = MqttSettings(f"mqtt://{bench.host}", f"{bench.name}/#", client_id=bench.name)
    async with running(inbox, BrokerSource("mqtt", MqttBroker(settings))):
        await inbox.until(lambda: inbox.conditions)
        below = MqttBench(bench.host, f"{bench.name}/drops/audio")
        await below.publish([message("a.mp3")])
        await inbox.until(lambda: inbox.created["a.mp3"])


async def test_a_filter_that_is_none_is_told(bench: MqttBench) -> None:
    inbox = Recorder()
    settings = MqttSettings(f"mqtt://{bench.host}", "drops/#/audio", client_id=bench.name)
    async with running(inbox, BrokerSource("mqtt", MqttBroker(settings))):
        await inbox.until(lambda: inbox.conditions)
    assert inbox.conditions[0].code == "config_invalid"
    assert "drops/#/audio" in inbox.conditions[0].detail


def test_an_address_of_something_else_is_refused() -> None:
    with pytest.raises(ConfigError):
        MqttBroker(MqttSettings("http://127.0.0.1:1883", "drops"))
