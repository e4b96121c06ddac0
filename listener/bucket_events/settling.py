"""From a chosen target to one that rules can name: queues are asked for their ARN, topics are made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from listener.bucket_events.choosing import Chosen
from listener.bucket_events.destinations import NotificationTarget, PushUrl, topic_name
from listener.bucket_events.entries import QUEUE, TOPIC
from listener.bucket_events.policies import QueueFacts, lets_s3_send, statement
from listener.bucket_events.servers import NotificationServer
from listener.configuration.environment import SourceSecrets
from listener.configuration.sources import AmqpSourceConfig, AnySource, KafkaSourceConfig, SqsSourceConfig
from listener.sources.sqs.threads import on_thread
from listener.stores.s3_clients import S3Settings
from manifests.errors import ConfigError, StoreUnavailable

_DEADLINE_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ResolvedTarget:
    """`facts` where the target is a queue that was asked."""

    target: NotificationTarget
    facts: QueueFacts | None = None

    def note(self, bucket: str) -> str:
        """What is to be done before events of `bucket` can arrive; "" for nothing."""
        if self.facts is None or not self.target.amazon or lets_s3_send(self.facts.policy, self.facts.arn, bucket):
            return ""
        return (
            f"The policy of {self.facts.arn} does not let S3 send to it. Add this to its statements:\n"
            f"{statement(self.facts.arn, bucket)}"
        )


class TargetResolver:
    """`write` False: nothing is made on the server; a topic that is not there yet is named as it would be."""

    def __init__(
        self,
        store: S3Settings,
        sources: Sequence[AnySource],
        secrets: Callable[[str], SourceSecrets],
        *,
        write: bool,
    ) -> None:
        self._store = store
        self._sources = sources
        self._secrets = secrets
        self._write = write

    async def settle(self, chosen: Chosen, server: NotificationServer) -> ResolvedTarget:
        match chosen:
            case NotificationTarget():
                return ResolvedTarget(chosen)
            case SqsSourceConfig():
                facts = await self._queue(chosen)
                return ResolvedTarget(NotificationTarget(QUEUE, facts.arn), facts)
            case PushUrl():
                return ResolvedTarget(await self._topic(chosen, server))

    async def _queue(self, source: SqsSourceConfig) -> QueueFacts:
        from listener.bucket_events.amazon import queue_facts
        from listener.sources.sqs.queue import SqsSettings

        settings = SqsSettings(
            queue_url=source.queue_url,
            region=source.region,
            default_region=self._store.region,
            endpoint=source.endpoint,
            secrets=self._secrets(source.named),
        )
        return await _within(lambda: queue_facts(settings))

    async def _topic(self, push: PushUrl, server: NotificationServer) -> NotificationTarget:
        if server is not NotificationServer.CEPH:
            raise ConfigError(
                f"Only Ceph RGW pushes to a URL; this is {server.value}.",
                hint="Give an ARN with --target. MinIO has settings of its own for URLs; they are printed without it.",
                where="--target",
            )
        from listener.bucket_events.amazon import find_topic, make_topic, topic_of

        topic = topic_of(self._name(push), push, exchange=self._exchange(push))
        if self._write:
            arn = await _within(lambda: make_topic(self._store, topic))
        else:
            arn = await _within(lambda: find_topic(self._store, topic.name))
        return NotificationTarget(TOPIC, arn or f"arn:aws:sns:<zonegroup>::{topic.name}")

    def _name(self, push: PushUrl) -> str:
        """Kafka's topic and AMQP's routing key are called as RGW's topic."""
        if push.url.startswith("kafka"):
            topics = [each.topic for each in self._sources if isinstance(each, KafkaSourceConfig)]
            return _one(topics, "kafka", push)
        keys = [each.routing_key for each in self._sources if isinstance(each, AmqpSourceConfig) and each.routing_key]
        return keys[0] if push.url.startswith("amqp") and keys else topic_name(push)

    def _exchange(self, push: PushUrl) -> str:
        if not push.url.startswith("amqp"):
            return ""
        names = [each.exchange for each in self._sources if isinstance(each, AmqpSourceConfig) and each.exchange]
        return _one(names, "amqp", push)


def _one(found: Sequence[str], kind: str, push: PushUrl) -> str:
    if len(found) == 1:
        return found[0]
    what = "exchange" if kind == "amqp" else "topic"
    raise ConfigError(
        f"To push to {push}, one source of the kind {kind!r} with its {what} is needed in config.yaml;"
        f" there are {len(found) or 'none'}.",
        where="sources",
    )


async def _within(call: Callable[[], T]) -> T:
    try:
        async with asyncio.timeout(_DEADLINE_S):
            return await on_thread(call)
    except TimeoutError as e:
        raise StoreUnavailable(f"No answer within {_DEADLINE_S:.0f} s.", hint="Run the command again.") from e
