"""An event of a bucket from any source, and the decoded form of a message."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal


@dataclass(frozen=True, slots=True)
class ObjectCreated:
    """An object appeared or was overwritten. Only a HEAD tells what the object is now."""

    bucket: str
    key: str
    """Raw, not escaped."""
    source: str
    """Name of the source that reported it, for logs and counts."""
    moment: int = field(default=0, compare=False)
    """When it was last modified, in epoch nanoseconds, as far as its sequencer tells; 0: unknown."""
    etag: str = field(default="", compare=False)
    """ETag of what was written then, without quotes; "": unknown."""


@dataclass(frozen=True, slots=True)
class ObjectRemoved:
    bucket: str
    key: str
    source: str


ObjectEvent = ObjectCreated | ObjectRemoved


class MessageChannel(Enum):
    """The channel of a message. The same store spells keys differently on different channels."""

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
    """A record or message that is no event for us, and why."""

    reason: Reason
    detail: str = ""
    """For the log: short, printable ASCII."""


@dataclass(frozen=True, slots=True)
class SnsConfirmation:
    """Amazon SNS's question whether this address wants a topic's messages; a GET of `subscribe_url` says yes.

    Nothing in it is proven: anybody who can post can write one.
    """

    topic_arn: str
    subscribe_url: str
    kind: Literal["subscribe", "unsubscribe"]
    """ "unsubscribe": the subscription was ended; the URL undoes that."""


@dataclass(frozen=True, slots=True)
class DecodedMessage:
    """Everything in one message. A keep-alive has no events and ignores nothing."""

    events: tuple[ObjectEvent, ...] = ()
    ignored: tuple[IgnoredRecord, ...] = ()
    confirmation: SnsConfirmation | None = None
    sns_topic: str = ""
    """ARN of the topic, when the message came wrapped by Amazon SNS."""

    @property
    def malformed(self) -> bool:
        """Whether nothing could be read: too large, not JSON, or an unknown shape. Sending it again changes nothing."""
        return any(item.reason in _NOTHING_READ for item in self.ignored)
