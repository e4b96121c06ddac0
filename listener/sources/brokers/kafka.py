"""Kafka: a consumer group whose offsets are committed when the events are recorded.

A request has 6 s, so silence is noticed after 13 s. Answers have at most 4 MiB, which arrive in that time over 6
Mbit/s. Not aiokafka: it also needs another package for compressed topics.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from gpu_dispatch.net.tls import TlsFiles
from listener.config.environment import SourceSecrets
from listener.sources.brokers.consumer import MOST, BrokerSession, MessageBatch, nothing
from listener.sources.brokers.errors import broker_denied, broker_tls_error, broker_unavailable
from manifests.errors import ConfigError, GpuDropError


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How Kafka is reached, and which topic is read."""

    servers: tuple[str, ...]
    """host:port."""
    topic: str
    group: str = "gpudrop"
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    sasl: Literal["plain", "scram-sha-256", "scram-sha-512"] = "plain"
    tls: TlsFiles = field(default_factory=TlsFiles)
    """With `ca_file`, the system's authorities are not trusted."""
    secrets: SourceSecrets = field(default_factory=SourceSecrets)


def configuration(settings: KafkaSettings, heard: Callable[[KafkaError], None]) -> dict[str, object]:
    """Returns the client's configuration; `heard` gets its errors."""
    tls, secrets = settings.tls, settings.secrets
    given = {
        "sasl.username": secrets.user,
        "sasl.password": secrets.password,
        "sasl.mechanism": settings.sasl.upper() if settings.security.startswith("sasl") else "",
        "ssl.ca.location": str(tls.ca_file or ""),
        "ssl.certificate.location": str(tls.cert_file or ""),
        # The certificate's file may hold the key too.
        "ssl.key.location": str(tls.key_file or tls.cert_file or ""),
    }
    return {
        **{name: value for name, value in given.items() if value},
        "bootstrap.servers": ",".join(settings.servers),
        "security.protocol": settings.security,
        "group.id": settings.group,
        "client.id": "gpudrop",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        # After this long another listener takes over from one that died.
        "session.timeout.ms": 10_000,
        # All brokers count as away after two unanswered requests: 13 s. Answers are small so that they arrive in time
        # over a slow line (a larger message comes alone).
        "socket.timeout.ms": 6_000,
        "fetch.max.bytes": 4 << 20,
        "socket.connection.setup.timeout.ms": 5_000,
        "topic.metadata.refresh.interval.ms": 30_000,
        "reconnect.backoff.max.ms": 5_000,
        "error_cb": heard,
        # error_cb gets what the client would write to stderr.
        "log_level": 2,
    }


_REFUSED = frozenset(
    {
        "_AUTHENTICATION",
        "SASL_AUTHENTICATION_FAILED",
        "UNSUPPORTED_SASL_MECHANISM",
        "ILLEGAL_SASL_STATE",
        "TOPIC_AUTHORIZATION_FAILED",
        "GROUP_AUTHORIZATION_FAILED",
        "CLUSTER_AUTHORIZATION_FAILED",
    }
)
_NO_TOPIC = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "TOPIC_EXCEPTION"})
_MENDED_BY_CLIENT = frozenset({"_TRANSPORT", "_TIMED_OUT", "_RESOLVE", "_MAX_POLL_EXCEEDED"})
"""One of several brokers is away, or the group continued without us. "_ALL_BROKERS_DOWN" tells that all are away."""

SHARED_OUT_ANEW = frozenset({"ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS", "_ASSIGNMENT_LOST"})


def worst_error(errors: Sequence[KafkaError], *, place: str, topic: str) -> GpuDropError | None:
    """Returns the error to report, one that is not retryable first. None: the client recovers by itself."""
    serious = [error for error in errors if error.name() not in _MENDED_BY_CLIENT]
    if not serious:
        return None
    # The client reports that all brokers are down separately from the TLS failure of the last one.
    ours = [kafka_error(error, place=place, topic=topic) for error in serious]
    ours += [found for error in errors if (found := broker_tls_error(place, error.str()))]
    return min(ours, key=lambda error: error.retryable)


def kafka_error(error: KafkaError, *, place: str, topic: str) -> GpuDropError:
    name = error.name()
    # The duration differs each time, and would make a known error look new.
    said = error.str().partition(" (after ")[0]
    if name in _REFUSED:
        return broker_denied(place, said)
    if name in _NO_TOPIC:
        return broker_denied(place, "there is no such topic", f"Create it: kafka-topics.sh --create --topic {topic}.")
    return broker_tls_error(place, said) or broker_unavailable(place, said)


T = TypeVar("T")

_CONNECT_S = 12.0
_ANSWER_S = 10.0
_CLOSE_S = 5.0
_POLL_S = 1.0
_LINGER_S = 0.02


class KafkaBroker:
    """A Broker over confluent-kafka. Listeners of one group share the topic."""

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
    """A BrokerSession whose blocking calls, which must not overlap, run on one thread."""

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
        """Leaves the group, so that another listener need not wait for the session timeout."""
        leaving = asyncio.get_running_loop().run_in_executor(self._thread, self._consumer.close)
        leaving.add_done_callback(lambda left: left.cancelled() or left.exception())
        await asyncio.wait([leaving], timeout=_CLOSE_S)
        self._thread.shutdown(wait=False)

    async def _acknowledge(self, messages: list[Message]) -> None:
        after = {(m.topic(), m.partition()): (m.offset() or 0) + 1 for m in messages}
        offsets = [TopicPartition(topic or "", partition or 0, offset) for (topic, partition), offset in after.items()]
        await self._call(lambda: self._commit(offsets), _ANSWER_S)

    def _commit(self, offsets: list[TopicPartition]) -> None:
        """Commits, except during a rebalance: the new owner of the partitions gets these messages again."""
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as e:
            if _error(e).name() not in SHARED_OUT_ANEW:
                raise

    def _subscribe(self) -> list[KafkaError]:
        """Subscribes, and returns the errors that prevent it; empty when nothing does."""
        for _ in range(int(_CONNECT_S / 2)):
            try:
                error = self._consumer.list_topics(self._topic, timeout=_POLL_S).topics[self._topic].error
                if not error:
                    self._consumer.subscribe([self._topic])
                return [error] if error else []
            except KafkaException as e:
                self._told.append(_error(e))
            # Only polling reports a failed login. Nothing is subscribed yet, so no message can come.
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
