"""What is special about AMQP: queues, exchanges, virtual hosts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiormq
import pytest

from listener.sources.brokers.amqp import AmqpBroker, AmqpSettings
from listener.sources.brokers.consumer import BrokerSource
from manifests.errors import ConfigError, GpuDropError
from support.brokers import AmqpBench, message
from support.deadlines import HANG_S
from support.sources import Proxy, Recorder, running


@pytest.fixture
def bench(rabbitmq_server: Any) -> AmqpBench:
    return AmqpBench(rabbitmq_server.host)


@pytest.fixture
async def channel(bench: AmqpBench) -> AsyncIterator[Any]:
    connection = await aiormq.connect(f"amqp://{bench.host}")
    yield await connection.channel()
    await connection.close()


async def test_a_queue_declared_otherwise_is_not_used(bench: AmqpBench, channel: Any) -> None:
    await channel.queue_declare(bench.name, durable=True, arguments={"x-max-length": 3})
    inbox = Recorder()
    async with running(inbox, bench.source()):
        await inbox.until(lambda: inbox.conditions)
    assert inbox.conditions[0].code == "source_denied"
    assert "`queue`" in inbox.conditions[0].hint
    await channel.queue_delete(bench.name)


async def test_an_exchange_is_taken_as_the_store_declared_it(bench: AmqpBench, channel: Any) -> None:
    await channel.exchange_declare(bench.name, exchange_type="direct", durable=False)
    inbox = Recorder()
    async with running(inbox, bench.source(routing_key="drops")):
        await inbox.until(lambda: inbox.conditions)
        await channel.basic_publish(message("other.mp3"), exchange=bench.name, routing_key="other")
        await channel.basic_publish(message("ours.mp3"), exchange=bench.name, routing_key="drops")
        await inbox.until(lambda: inbox.created["ours.mp3"])
    assert set(inbox.created) == {"ours.mp3"}
    await channel.exchange_declare(bench.name, exchange_type="direct", durable=False)


async def test_an_exchange_that_is_missing_is_made_to_last(bench: AmqpBench, channel: Any) -> None:
    inbox = Recorder()
    async with running(inbox, bench.source(exchange_type="topic")):
        await inbox.until(lambda: inbox.conditions)
    # Declared otherwise, the broker would refuse.
    await channel.exchange_declare(bench.name, exchange_type="topic", durable=True)


async def test_a_queue_that_somebody_deletes_is_made_again(bench: AmqpBench, channel: Any) -> None:
    inbox = Recorder()
    async with running(inbox, bench.source()):
        await inbox.until(lambda: inbox.conditions)
        await channel.queue_delete(bench.name)
        await inbox.until(lambda: len(inbox.conditions) == 3)
        await bench.publish([message("a.mp3")])
        await inbox.until(lambda: inbox.created["a.mp3"])
    assert [condition.ok for condition in inbox.conditions] == [True, False, True]


async def test_a_virtual_host_that_is_not_there_is_told(bench: AmqpBench) -> None:
    inbox = Recorder()
    settings = AmqpSettings(f"amqp://{bench.host}/nowhere")
    async with running(inbox, BrokerSource("amqp", AmqpBroker(settings))):
        await inbox.until(lambda: inbox.conditions)
    assert inbox.conditions[0].code == "source_denied"
    assert "virtual host" in inbox.conditions[0].hint


async def test_a_connection_that_is_cut_at_any_moment_is_told_as_such(bench: AmqpBench) -> None:
    async with Proxy(bench.host).serve() as proxy:
        broker = AmqpBroker(AmqpSettings(proxy.endpoint.replace("http", "amqp"), bench.name, queue=bench.name))
        ends: Counter[str] = Counter()
        for step in range(60):
            # From before the first answer until after the last one.
            cutting = asyncio.create_task(_cut(proxy, step * 0.0005))
            try:
                async with asyncio.timeout(HANG_S), broker.session() as session:
                    await session.collect()
            except GpuDropError as e:
                ends[e.info.code] += 1
            finally:
                cutting.cancel()
    assert ends == {"source_unavailable": 60}


async def _cut(proxy: Proxy, first_s: float) -> None:
    """Again and again: on a busy machine the first cuts may come before there is a connection."""
    await asyncio.sleep(first_s)
    while True:
        proxy.reset_all()
        await asyncio.sleep(0.2)


def test_an_address_of_something_else_is_refused() -> None:
    with pytest.raises(ConfigError):
        AmqpBroker(AmqpSettings("http://127.0.0.1:5672"))
