"""Resolves targets, and reads and changes the rules of buckets on a server without losing those of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from listener.config.environment import SourceSecrets
from listener.config.source_kinds import PushNames, SourceSettings, source_kinds
from listener.config.sources import SqsSourceConfig
from listener.notifications.amazon import (
    QueueFacts,
    find_topic,
    lets_s3_send,
    make_topic,
    queue_facts,
    statement,
    topic_of,
)
from listener.notifications.client import (
    READ,
    WRITE,
    NotificationClient,
    NotificationResponse,
    not_kept,
    request_refused,
    rules_refused,
)
from listener.notifications.rules import (
    QUEUE,
    TOPIC,
    NotificationDocument,
    RulesChange,
    is_applied,
    notification_document_bytes,
    read_notification_document,
)
from listener.notifications.servers import NotificationServer, recognise_server, why_no_rules
from listener.notifications.targets import ChosenTarget, NotificationTarget, PushUrl, topic_name
from listener.sources.sqs.queue import SqsSettings, on_thread
from listener.stores.s3.clients import S3Settings
from manifests.errors import ConfigError, StoreUnavailable

_DEADLINE_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ResolvedTarget:
    """A target whose ARN is known."""

    target: NotificationTarget
    facts: QueueFacts | None = None
    """Of an SQS source's queue."""

    def note(self, bucket: str) -> str:
        """Returns what is left to do before events of `bucket` can arrive; "" for nothing."""
        if self.facts is None or not self.target.amazon or lets_s3_send(self.facts.policy, self.facts.arn, bucket):
            return ""
        return (
            f"The policy of {self.facts.arn} does not let S3 send to it. Add this to its statements:\n"
            f"{statement(self.facts.arn, bucket)}"
        )


class TargetResolver:
    """Finds the ARNs of targets. Without `write` it creates no topic, and names a missing one as it would be."""

    def __init__(
        self,
        store: S3Settings,
        sources: Sequence[SourceSettings],
        secrets: Callable[[str], SourceSecrets],
        *,
        write: bool,
    ) -> None:
        self._store = store
        self._sources = sources
        self._secrets = secrets
        self._write = write

    async def resolve(self, chosen: ChosenTarget, server: NotificationServer) -> ResolvedTarget:
        match chosen:
            case NotificationTarget():
                return ResolvedTarget(chosen)
            case SqsSourceConfig():
                facts = await self._queue(chosen)
                return ResolvedTarget(NotificationTarget(QUEUE, facts.arn), facts)
            case PushUrl():
                return ResolvedTarget(await self._topic(chosen, server))

    async def _queue(self, source: SqsSourceConfig) -> QueueFacts:
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
        topic = topic_of(self._name(push), push, exchange=self._exchange(push))
        if self._write:
            arn = await _within(lambda: make_topic(self._store, topic))
        else:
            arn = await _within(lambda: find_topic(self._store, topic.name))
        return NotificationTarget(TOPIC, arn or f"arn:aws:sns:<zonegroup>::{topic.name}")

    def _name(self, push: PushUrl) -> str:
        """Returns the name of RGW's topic, which is also Kafka's topic and AMQP's routing key."""
        topics = [each.topic for each in self._names(push)]
        if push.url.startswith("kafka"):
            return _one(topics, "kafka", push)
        return next(filter(None, topics), topic_name(push))

    def _exchange(self, push: PushUrl) -> str:
        if not push.url.startswith("amqp"):
            return ""
        return _one([each.exchange for each in self._names(push) if each.exchange], "amqp", push)

    def _names(self, push: PushUrl) -> list[PushNames]:
        """What the sources of the kind that the URL's scheme begins with have to be called."""
        alike = [each for each in self._sources if push.url.startswith(each.kind)]
        kinds = [(each, source_kinds().find(each.kind)) for each in alike]
        return [kind.push_names(each) for each, kind in kinds if kind and kind.push_names]


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


_CHECKS = 4
_CHECK_S = 1.0


@dataclass(frozen=True, slots=True)
class CurrentRules:
    """A bucket's rules, and the server that keeps them."""

    server: NotificationServer
    document: NotificationDocument


class RulesSync:
    """Reads and writes buckets' rules; `endpoint` is named in errors. Every error is a GpuDropError."""

    def __init__(self, api: NotificationClient, endpoint: str) -> None:
        self._api = api
        self._endpoint = endpoint

    async def read(self, bucket: str) -> CurrentRules:
        """Reads a bucket's rules. Raises ConfigError for servers that keep none, which get no other request."""
        answer = await self._api.get(bucket)
        server = recognise_server(answer.headers)
        if problem := why_no_rules(server, answer.status, answer.code):
            raise problem
        if not answer.ok:
            raise request_refused(answer.status, answer.body, action=READ, bucket=bucket, endpoint=self._endpoint)
        return CurrentRules(server, read_notification_document(answer.body))

    async def destinations(self) -> tuple[str, ...] | None:
        """See NotificationClient."""
        return await self._api.destinations()

    async def write(self, bucket: str, change: RulesChange) -> None:
        """Writes a change and checks that it arrived. Raises StoreUnavailable when the rules were changed meanwhile.

        They are read again just before; no server supports a condition, so a change in between is overwritten unseen.
        """
        now = await self.read(bucket)
        if now.document != change.before:
            raise StoreUnavailable(
                f"The rules of bucket {bucket!r} were changed by somebody else just now; nothing was written.",
                hint="Run the command again.",
                where=bucket,
            )
        if now.server is NotificationServer.CEPH:
            await self._write_single(bucket, change)
        else:
            answer = await self._api.put(bucket, notification_document_bytes(change.after.entries))
            await self._check(answer, bucket, change, now.server)
        await self._verify(bucket, change, now.server)

    async def _write_single(self, bucket: str, change: RulesChange) -> None:
        """Sends only new rules and deletes single ones: Ceph RGW adds what is sent; an empty PUT removes all."""
        if new := (*change.added, *(new for _, new in change.changed)):
            await self._check(
                await self._api.put(bucket, notification_document_bytes(new)), bucket, change, NotificationServer.CEPH
            )
        for entry in change.removed:
            answer = await self._api.delete(bucket, entry.id)
            if not answer.ok:
                raise request_refused(answer.status, answer.body, action=WRITE, bucket=bucket, endpoint=self._endpoint)

    async def _check(
        self, answer: NotificationResponse, bucket: str, change: RulesChange, server: NotificationServer
    ) -> None:
        if answer.ok:
            return
        known = await self._api.destinations() if server.tells_destinations else None
        raise rules_refused(answer.status, answer.body, change, known, bucket=bucket, endpoint=self._endpoint)

    async def _verify(self, bucket: str, change: RulesChange, server: NotificationServer) -> None:
        """Checks that the server shows the change, which Amazon does only after a moment."""
        for look in range(_CHECKS if server is NotificationServer.AMAZON else 1):
            await asyncio.sleep(_CHECK_S * look)
            if is_applied(change, (await self.read(bucket)).document):
                return
        raise not_kept(change, server.value, bucket)
