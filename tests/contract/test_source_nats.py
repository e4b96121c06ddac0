"""What is special about NATS JetStream: streams, consumers, subjects, TLS."""

from __future__ import annotations

from typing import Any

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from listener.sources.brokers.nats import NatsBroker, NatsSettings
from manifests.errors import SourceDenied
from support.brokers import NatsBench, message
from support.sources import Recorder, running


@pytest.fixture
def bench(nats_server: Any) -> NatsBench:
    return NatsBench(nats_server.host)


async def test_a_missing_stream_is_told_and_listened_to_once_it_is_there(bench: NatsBench) -> None:
    inbox = Recorder()
    async with running(inbox, bench.source()):
        await inbox.until(lambda: inbox.conditions)
        assert (inbox.conditions[0].ok, inbox.conditions[0].code) == (False, "source_denied")
        assert f"nats stream add {bench.name}" in inbox.conditions[0].hint
        await bench.prepare()
        await bench.publish([message("a.mp3")])
        await inbox.until(lambda: inbox.created["a.mp3"] and inbox.conditions[-1].ok)


async def test_a_stream_that_is_removed_is_missed(bench: NatsBench) -> None:
    await bench.prepare()
    inbox = Recorder()
    async with running(inbox, bench.source()), await nats.connect(f"nats://{bench.host}") as client:
        await inbox.until(lambda: inbox.conditions)
        await client.jetstream().delete_stream(bench.name)
        await inbox.until(lambda: inbox.conditions[-1].code == "source_denied")
        assert "create the stream" in inbox.conditions[-1].hint.lower()


async def test_a_stream_that_is_removed_between_two_looks_is_missed(bench: NatsBench) -> None:
    """The server then answers as one without JetStream would."""
    await bench.prepare()
    broker = NatsBroker(NatsSettings(servers=(f"nats://{bench.host}",), stream=bench.name))
    async with broker.session() as session, await nats.connect(f"nats://{bench.host}") as client:
        await client.jetstream().delete_stream(bench.name)
        with pytest.raises(SourceDenied) as caught:
            await session.collect()
    assert "create the stream" in caught.value.info.hint.lower()


@pytest.mark.parametrize(
    "other",
    [
        ConsumerConfig(ack_policy=AckPolicy.NONE),
        ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, max_deliver=3),
        ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, deliver_subject="pushed"),
        ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, filter_subject="another"),
    ],
)
async def test_a_consumer_made_otherwise_is_not_used(bench: NatsBench, other: ConsumerConfig) -> None:
    async with await nats.connect(f"nats://{bench.host}") as client:
        stream = client.jetstream()
        await stream.add_stream(name=bench.name, subjects=[bench.name, "another"] if other.filter_subject else None)
        await stream.add_consumer(bench.name, other.evolve(durable_name="gpudrop"))
        inbox = Recorder()
        async with running(inbox, bench.source()):
            await inbox.until(lambda: inbox.conditions)
        await stream.delete_stream(bench.name)
    assert inbox.conditions[0].code == "source_denied"
    assert "`durable`" in inbox.conditions[0].hint


async def test_a_subject_narrows_what_is_heard(bench: NatsBench) -> None:
    async with await nats.connect(f"nats://{bench.host}") as client:
        stream = client.jetstream()
        await stream.add_stream(name=bench.name, subjects=[f"{bench.name}.*"])
        await stream.publish(f"{bench.name}.other", message("other.mp3"))
        await stream.publish(f"{bench.name}.ours", message("ours.mp3"))
        inbox = Recorder()
        async with running(inbox, bench.source(subject=f"{bench.name}.ours")):
            await inbox.until(lambda: inbox.created["ours.mp3"])
            await stream.publish(f"{bench.name}.other", message("other.mp3"))
            await stream.publish(f"{bench.name}.ours", message("last.mp3"))
            await inbox.until(lambda: inbox.created["last.mp3"])
    assert set(inbox.created) == {"ours.mp3", "last.mp3"}
