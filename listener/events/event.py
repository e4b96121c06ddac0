"""What happened in a bucket, whoever told of it, and what a message turned out to hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal


@dataclass(frozen=True, slots=True)
class ObjectCreated:
    """An object appeared or was overwritten. `key` is raw. What the object is now, only a HEAD can tell."""

    bucket: str
    key: str
    source: str
    """Name of the source that told: for logs and counts."""
    moment: int = field(default=0, compare=False)
    """When it was last modified, in nanoseconds since the epoch, as far as its sequencer tells; 0: unknown."""
    etag: str = field(default="", compare=False)
    """Of what was written then, without quotes; "": unknown."""


@dataclass(frozen=True, slots=True)
class ObjectRemoved:
    bucket: str
    key: str
    source: str


ObjectEvent = ObjectCreated | ObjectRemoved


class MessageChannel(Enum):
    """The way a message came. The same store spells keys differently on different ways."""

    LISTEN = "listen"
    """A store's own event stream (MinIO, RustFS)."""
    WEBHOOK = "webhook"
    QUEUE = "queue"
    """Amazon SQS, or a server that speaks its protocol."""
    BROKER = "broker"
    """NATS, Kafka, AMQP, MQTT, Redis, PostgreSQL."""


Reason = Literal[
    "too_large",
    "not_json",
    "unknown_shape",
    "test_event",
    "other_event",
    "not_a_record",
    "no_bucket",
    "bad_bucket",
    "no_key",
    "key_not_text",
    "key_too_long",
]

_NOTHING_READ = frozenset[Reason]({"too_large", "not_json", "unknown_shape"})


@dataclass(frozen=True, slots=True)
class IgnoredRecord:
    """A record or message that is no event for us, and why; `detail` is for the log: short, printable ASCII."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SnsConfirmation:
    """Amazon SNS asks whether this address wants a topic's messages; a GET of `subscribe_url` says yes.

    Nothing here is proven: whoever can post can write one. "unsubscribe" was asked for by somebody; the URL undoes it.
    """

    topic_arn: str
    subscribe_url: str
    kind: Literal["subscribe", "unsubscribe"]


@dataclass(frozen=True, slots=True)
class DecodedMessage:
    """Everything one message says. A keep-alive says nothing at all: no events, nothing ignored."""

    events: tuple[ObjectEvent, ...] = ()
    ignored: tuple[IgnoredRecord, ...] = ()
    confirmation: SnsConfirmation | None = None
    sns_topic: str = ""
    """ARN of the topic, when the message came wrapped by Amazon SNS."""

    @property
    def malformed(self) -> bool:
        """Nothing could be read: too large, not JSON, or no shape we know. Sending it again changes nothing."""
        return any(item.reason in _NOTHING_READ for item in self.ignored)
