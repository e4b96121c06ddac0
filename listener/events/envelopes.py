"""Envelopes of messages: bare records, SNS, EventBridge, and lists."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from listener.events.event import (
    DecodedMessage,
    IgnoredRecord,
    MessageChannel,
    ObjectCreated,
    ObjectRemoved,
    Reason,
    SnsConfirmation,
)
from listener.events.records import Json, Spelling, bucket_of, item_at, keys_of, read_records

_KINDS = {"Object Created": ObjectCreated, "Object Deleted": ObjectRemoved}
"""By detail-type. Tags, ACLs, restores and storage classes have types of their own: `reason` need not be read."""


def read_eventbridge(detail_type: str, detail: Json, source: str) -> DecodedMessage:
    kind = _KINDS.get(detail_type)
    if kind is None:
        return DecodedMessage(ignored=(IgnoredRecord("other_event", ascii(detail_type[:120])),))
    bucket = bucket_of(item_at(item_at(detail, "bucket"), "name"))
    if isinstance(bucket, IgnoredRecord):
        return DecodedMessage(ignored=(bucket,))
    keys = keys_of(item_at(item_at(detail, "object"), "key"), Spelling.RAW)
    if isinstance(keys, IgnoredRecord):
        return DecodedMessage(ignored=(keys,))
    return DecodedMessage(tuple(kind(bucket, key, source) for key in keys))


_SNS_KINDS: Mapping[object, Literal["subscribe", "unsubscribe"]] = {
    "SubscriptionConfirmation": "subscribe",
    "UnsubscribeConfirmation": "unsubscribe",
}

_PRINTABLE = re.compile(r"[!-~]{1,2048}")


@dataclass(frozen=True, slots=True)
class SnsNotification:
    topic_arn: str
    message: str
    """The published text, unchanged: for Amazon S3 a JSON document."""


def read_sns(document: Json) -> SnsNotification | SnsConfirmation | None:
    """Returns what SNS has sent; None for anything else. Raw delivery has no envelope, and nothing of SNS in it."""
    kind = item_at(document, "Type")
    topic = _printable(item_at(document, "TopicArn"))
    if not isinstance(kind, str) or not topic:
        return None
    message = item_at(document, "Message")
    if kind == "Notification" and isinstance(message, str):
        return SnsNotification(topic, message)
    url = _printable(item_at(document, "SubscribeURL"))
    return SnsConfirmation(topic, url, _SNS_KINDS[kind]) if kind in _SNS_KINDS and url else None


def _printable(value: Json) -> str:
    """Returns "" for what cannot be an ARN or a URL: half a surrogate pair would make logging it fail."""
    return value if isinstance(value, str) and _PRINTABLE.fullmatch(value) else ""


MAX_MESSAGE_BYTES = 16 * 2**20
"""Far above what any store sends."""
MAX_MESSAGE_VALUES = 1_000_000
"""Values of a hundred thousand records. As Python objects JSON can take forty times its size in memory."""


def read_message(data: bytes, channel: MessageChannel, source: str) -> DecodedMessage:
    if len(data) > MAX_MESSAGE_BYTES:
        return _nothing("too_large", f"{len(data)} bytes")
    if not data or data.isspace():
        return DecodedMessage()
    if (values := sum(data.count(mark) for mark in (b",", b"[", b"{"))) > MAX_MESSAGE_VALUES:
        return _nothing("too_large", f"{values} values")
    try:
        document: Json = json.loads(data)
    except (ValueError, RecursionError):
        return _nothing("not_json", ascii(data[:120]))
    if (found := _read(document, channel, source)) is not None:
        return found
    match read_sns(document):
        case SnsNotification(topic_arn, message):
            return replace(_published(message, source), sns_topic=topic_arn)
        case SnsConfirmation() as confirmation:
            return DecodedMessage(confirmation=confirmation)
        case None:
            return _nothing("unknown_shape", ascii(data[:120]))


def _published(message: str, source: str) -> DecodedMessage:
    """Reads the message in SNS's envelope. Only AWS uses SNS: its keys are spelled as for queues on every channel."""
    try:
        document: Json = json.loads(message)
    except (ValueError, RecursionError):
        return _nothing("not_json", ascii(message[:120]))
    found = _read(document, MessageChannel.QUEUE, source)
    return _nothing("unknown_shape", ascii(message[:120])) if found is None else found


def _read(document: Json, channel: MessageChannel, source: str) -> DecodedMessage | None:
    """Returns what a document says; None for an unknown shape."""
    if isinstance(document, list):
        return _read_list(document, channel, source)
    if not isinstance(document, dict):
        return None
    if "Records" in document:
        records = document["Records"]
        if isinstance(records, list):
            return read_records(records, channel, source, named=document.get("Key"))
        return DecodedMessage() if records is None else None
    if isinstance(detail_type := document.get("detail-type"), str):
        return read_eventbridge(detail_type, document.get("detail"), source)
    return _nothing("test_event") if document.get("Event") == "s3:TestEvent" else None


def _read_list(entries: list[Json], channel: MessageChannel, source: str) -> DecodedMessage | None:
    """Reads MinIO's `access` format for Redis, entries with lists of records, or the bare records of old VersityGWs."""
    records: list[Json] = []
    for entry in entries:
        some = item_at(entry, "Event")
        if isinstance(some, list):
            records += some
        elif item_at(entry, "eventName") is not None:
            records.append(entry)
        else:
            return None
    return read_records(records, channel, source) if entries else None


def _nothing(reason: Reason, detail: str = "") -> DecodedMessage:
    return DecodedMessage(ignored=(IgnoredRecord(reason, detail),))


def decode_message(data: bytes, channel: MessageChannel, *, source: str) -> DecodedMessage:
    """Decodes one message in any envelope into events of `source`. Never raises, whatever the bytes.

    Where the spelling of a key is uncertain both readings become events: the object lies under one of them.

    One message that raises could stop a queue for ever, so what cannot be read is ignored with a reason, and its
    neighbours in the message stay. An SNS envelope is opened once, not within itself. A message of 100,000 small
    records takes about a second. SeaweedFS's own webhook message is an unknown shape: listing finds its drops.
    """
    return read_message(data, channel, source)
