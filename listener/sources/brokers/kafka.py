"""Kafka: a consumer group whose offsets are committed when the events are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from listener.sources.brokers.consuming import MOST, BrokerSession, MessageBatch, nothing
from listener.sources.brokers.kafka_settings import KafkaSettings, configuration
from listener.sources.brokers.kafka_troubles import SHARED_OUT_ANEW, kafka_error, worst_error
from listener.sources.brokers.troubles import broker_unavailable
from manifests.errors import ConfigError, GpuDropError

T = TypeVar("T")

_CONNECT_S = 12.0
_ANSWER_S = 10.0
_CLOSE_S = 5.0
_POLL_S = 1.0
_LINGER_S = 0.02


class KafkaBroker:
    exclusive = False

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    @property
    def place(self) -> str:
        return f"the Kafka topic {self._settings.topic!r} on {', '.join(self._settings.servers)}"

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[BrokerSession, None]:
        told: list[KafkaError] = []
        try:
            consumer = Consumer(configuration(self._settings, told.append))
        except KafkaException as e:
            raise ConfigError(
                f"The settings of {self.place} cannot be used: {_error(e).str()}.",
                hint="Give PEM files that can be read; for sasl, set GPUDROP_<NAME>_USER and GPUDROP_<NAME>_PASSWORD.",
                where="tls",
            ) from e
        session = _KafkaSession(self.place, self._settings.topic, consumer, told)
        try:
            await session.open()
            yield session
        finally:
            await session.close()


class _KafkaSession:
    """The client blocks, and none of its calls may meet another: they take turns on one thread."""

    def __init__(self, place: str, topic: str, consumer: Consumer, told: list[KafkaError]) -> None:
        self._place = place
        self._topic = topic
        self._consumer = consumer
        self._told = told
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka")

    async def open(self) -> None:
        errors = await self._call(self._subscribe, _CONNECT_S)
        if errors:
            raise self._worst(errors) or self._as_ours(errors[-1])

    async def collect(self) -> MessageBatch:
        messages = await self._call(self._poll, _ANSWER_S)
        told, self._told[:] = list(self._told), []
        if error := self._worst([*told, *(error for message in messages if (error := message.error()))]):
            raise error
        messages = [message for message in messages if not message.error()]
        if not messages:
            return MessageBatch((), nothing)
        return MessageBatch([message.value() or b"" for message in messages], lambda: self._acknowledge(messages))

    async def close(self) -> None:
        """Leaves the group, so that another listener need not wait for the end of this one's membership."""
        leaving = asyncio.get_running_loop().run_in_executor(self._thread, self._consumer.close)
        leaving.add_done_callback(lambda left: left.cancelled() or left.exception())
        await asyncio.wait([leaving], timeout=_CLOSE_S)
        self._thread.shutdown(wait=False)

    async def _acknowledge(self, messages: list[Message]) -> None:
        after = {(m.topic(), m.partition()): (m.offset() or 0) + 1 for m in messages}
        offsets = [TopicPartition(topic or "", partition or 0, offset) for (topic, partition), offset in after.items()]
        await self._call(lambda: self._commit(offsets), _ANSWER_S)

    def _commit(self, offsets: list[TopicPartition]) -> None:
        """Not while the group shares its partitions out anew: whoever gets them gets these messages again."""
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as e:
            if _error(e).name() not in SHARED_OUT_ANEW:
                raise

    def _subscribe(self) -> list[KafkaError]:
        """What keeps the topic from being read; empty when nothing does."""
        for _ in range(int(_CONNECT_S / 2)):
            try:
                error = self._consumer.list_topics(self._topic, timeout=_POLL_S).topics[self._topic].error
                if not error:
                    self._consumer.subscribe([self._topic])
                return [error] if error else []
            except KafkaException as e:
                self._told.append(_error(e))
            # A login that failed is told here, and nowhere else. Not subscribed yet, so no message can come.
            self._consumer.poll(0)
            if self._worst(self._told):
                break
        return self._told

    def _poll(self) -> list[Message]:
        first = self._consumer.poll(_POLL_S)
        return [] if first is None else [first, *self._consumer.consume(MOST - 1, _LINGER_S)]

    async def _call(self, work: Callable[[], T], within_s: float) -> T:
        try:
            async with asyncio.timeout(within_s + _POLL_S):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except KafkaException as e:
            raise self._as_ours(_error(e)) from e
        except TimeoutError as e:
            raise broker_unavailable(self._place, "no answer in time") from e

    def _worst(self, errors: list[KafkaError]) -> GpuDropError | None:
        return worst_error(errors, place=self._place, topic=self._topic)

    def _as_ours(self, error: KafkaError) -> GpuDropError:
        return kafka_error(error, place=self._place, topic=self._topic)


def _error(exception: KafkaException) -> KafkaError:
    return exception.args[0]
