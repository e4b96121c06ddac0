"""Which envelope a message came in, told by its shape, and what is inside."""

from __future__ import annotations

import json
from dataclasses import replace

from listener.decoding.eventbridge import read_eventbridge
from listener.decoding.outcome import DecodedMessage, IgnoredRecord, MessageChannel, Reason, SnsConfirmation
from listener.decoding.records import read_records
from listener.decoding.sns import SnsNotification, read_sns
from listener.decoding.trees import Json, item_at

MAX_MESSAGE_BYTES = 16 * 2**20
"""Far above what any store sends."""
MAX_MESSAGE_VALUES = 1_000_000
"""Of a hundred thousand records. As Python objects JSON can take forty times its size in memory."""


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
    """Only AWS wraps in SNS, so what is inside is spelled as AWS spells it to queues, whatever way it came."""
    try:
        document: Json = json.loads(message)
    except (ValueError, RecursionError):
        return _nothing("not_json", ascii(message[:120]))
    found = _read(document, MessageChannel.QUEUE, source)
    return _nothing("unknown_shape", ascii(message[:120])) if found is None else found


def _read(document: Json, channel: MessageChannel, source: str) -> DecodedMessage | None:
    """None: no shape we know."""
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
    """MinIO's `access` format for Redis, each entry with its records in a list; or, of old VersityGWs, the records."""
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
