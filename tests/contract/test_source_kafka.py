"""What is special about Kafka: topics, groups, compression, tombstones."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from gpu_dispatch.net.tls import TlsFiles
from support.brokers import KafkaBench, message
from support.sources import Recorder, running


@pytest.fixture
def bench(kafka_server: Any) -> KafkaBench:
    return KafkaBench(kafka_server.host)


async def produce(bench: KafkaBench, *values: bytes | None, **settings: str) -> None:
    producer = Producer({"bootstrap.servers": bench.host, **settings})
    for value in values:
        producer.produce(bench.name, value, key="k")
    assert not await asyncio.to_thread(producer.flush, 30)


async def test_a_missing_topic_is_told_and_listened_to_once_it_is_there(bench: KafkaBench) -> None:
    inbox = Recorder()
    async with running(inbox, bench.source()):
        await inbox.until(lambda: inbox.conditions)
        assert inbox.conditions[0].code == "source_denied"
        assert f"--topic {bench.name}" in inbox.conditions[0].hint
        await bench.prepare()
        await bench.publish([message("a.mp3")])
        await inbox.until(lambda: inbox.created["a.mp3"] and inbox.conditions[-1].ok)


async def test_a_new_group_begins_with_the_oldest_message(bench: KafkaBench) -> None:
    await bench.prepare()
    await bench.publish([message("older.mp3")])
    one, another = Recorder(), Recorder()
    async with running(one, bench.source(group=f"{bench.name}-1")), running(another, bench.source()):
        await one.until(lambda: one.created["older.mp3"])
        await another.until(lambda: another.created["older.mp3"])


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_messages_are_read(bench: KafkaBench, codec: str) -> None:
    await bench.prepare()
    keys = {f"{i:03}.mp3" for i in range(100)}
    settings = {"compression.type": codec, "linger.ms": "50"}
    await produce(bench, *(message(key) for key in sorted(keys)), **settings)
    inbox = Recorder()
    async with running(inbox, bench.source()):
        await inbox.until(lambda: set(inbox.created) == keys)


async def test_a_message_without_a_value_is_passed_over(bench: KafkaBench) -> None:
    await bench.prepare()
    await produce(bench, None, message("a.mp3"))
    inbox = Recorder()
    async with running(inbox, bench.source()):
        await inbox.until(lambda: inbox.created["a.mp3"])


async def test_a_topic_with_more_partitions_than_one_is_heard_whole(bench: KafkaBench) -> None:
    wide = replace(bench, partitions=7)
    await wide.prepare()
    keys = {f"{i:03}.mp3" for i in range(300)}
    await wide.publish([message(key) for key in sorted(keys)])
    inbox = Recorder()
    async with running(inbox, wide.source()):
        await inbox.until(lambda: set(inbox.created) == keys)


async def test_a_file_of_authorities_that_is_missing_is_told(bench: KafkaBench, tmp_path: Path) -> None:
    inbox = Recorder()
    tls = TlsFiles(ca_file=tmp_path / "missing.pem")
    async with running(inbox, bench.source(security="ssl", tls=tls)):
        await inbox.until(lambda: inbox.conditions)
    assert inbox.conditions[0].code == "config_invalid"
