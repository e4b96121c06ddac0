"""Where rules send: what a target is, and the rules for it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, quote_plus, unquote_plus, urlsplit

from listener.bucket_events.entries import EVENT_BRIDGE, OURS, QUEUE, TOPIC, RuleEntry, event_bridge, rule
from listener.configuration.kinds import usable_address
from listener.decoding.names import EVENT_NAMES
from listener.filters import MAX_RULES, Filter, filters_of
from listener.triggers import Trigger
from manifests.errors import ConfigError

AMAZON_EVENTS = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")
"""The same as EVENT_NAMES on Amazon. On MinIO the first would tell tagging, retention and legal hold too."""

_HINT = (
    "It is an ARN (arn:minio:sqs::ID:webhook, arn:aws:sqs:…, arn:aws:sns:…), the word eventbridge,"
    " or for Ceph RGW the http, amqp or kafka URL that events shall go to."
)


@dataclass(frozen=True, slots=True)
class NotificationTarget:
    """`kind` is QUEUE, TOPIC or EVENT_BRIDGE, the element its rules are."""

    kind: str
    arn: str = ""

    @property
    def amazon(self) -> bool:
        """Amazon's own rules hold: no rules that overlap, filters encoded, wildcards mean what they say."""
        parts = self.arn.split(":")
        return len(parts) > 5 and parts[1].startswith("aws") and parts[4].isdigit() and len(parts[4]) == 12

    def __str__(self) -> str:
        return self.arn or "EventBridge"


@dataclass(frozen=True, slots=True)
class PushUrl:
    """Where Ceph RGW shall push to: a topic has to be made for it first. `url` may hold secrets."""

    url: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{'/…' if parts.path.strip('/') else ''}"


def parse_target(text: str) -> NotificationTarget | PushUrl:
    """Raises ConfigError."""
    parts = text.split(":")
    if text.lower() == "eventbridge":
        return NotificationTarget(EVENT_BRIDGE)
    if text.partition("://")[0].lower() in ("http", "https", "amqp", "amqps", "kafka"):
        return PushUrl(_usable(text))
    if len(parts) > 5 and parts[0] == "arn" and parts[2] in ("sqs", "sns"):
        if parts[1].startswith("aws") and parts[5].endswith(".fifo"):
            raise ConfigError(
                f"Amazon S3 does not send to FIFO queues and topics: {text}.",
                hint="Use a standard one.",
                where="--target",
            )
        return NotificationTarget(QUEUE if parts[2] == "sqs" else TOPIC, text)
    raise ConfigError(f"{text!r} is not a target that events can be sent to.", hint=_HINT, where="--target")


def rules_of(
    triggers: Sequence[Trigger], bucket: str, target: NotificationTarget, *, most: int = MAX_RULES
) -> tuple[RuleEntry, ...]:
    """At most `most` rules, none of which overlap; together they tell everything the triggers care about."""
    found = filters_of(triggers, bucket, most=most)
    if target.kind == EVENT_BRIDGE:
        return (event_bridge(),) if found else ()
    events = AMAZON_EVENTS if target.amazon else EVENT_NAMES
    return tuple(
        rule(target.kind, target.arn, _id(target, each), events, _encoded(each) if target.amazon else each)
        for each in found
    )


def plain_target(entry: RuleEntry) -> Filter:
    """The entry's filter as keys are spelled; Amazon keeps it encoded."""
    if not NotificationTarget(entry.kind, entry.arn).amazon:
        return entry.filter
    return Filter(unquote_plus(entry.filter.prefix), unquote_plus(entry.filter.suffix))


def topic_name(target: PushUrl) -> str:
    """The same for the same URL, and tells nothing of it."""
    return OURS + hashlib.sha256(target.url.encode()).hexdigest()[:12]


def _id(target: NotificationTarget, each: Filter) -> str:
    return OURS + hashlib.sha256("\0".join((target.arn, each.prefix, each.suffix)).encode()).hexdigest()[:12]


def _encoded(each: Filter) -> Filter:
    return Filter(quote_plus(each.prefix, safe="/"), quote_plus(each.suffix, safe="/"))


def source_arn(bucket: str, partition: str = "aws") -> str:
    return f"arn:{partition}:s3:::{quote(bucket, safe='')}"


def _usable(url: str) -> str:
    try:
        return usable_address(url)
    except ValueError as e:
        raise ConfigError(
            f"{url!r} is not a target that events can be sent to: {e}.", hint=_HINT, where="--target"
        ) from e
