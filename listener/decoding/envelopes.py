"""Which envelope a message came in, told by its shape, and what is inside."""

from __future__ import annotations

import json
from dataclasses import replace

from listener.decoding.eventbridge import read_eventbridge
from listener.decoding.outcome import Channel, Decoded, Ignored, Reason, SnsConfirmation
from listener.decoding.records import read_records
from listener.decoding.sns import SnsNotification, read_sns
from listener.decoding.trees import Json, at

MAX_MESSAGE_BYTES = 16 * 2**20
"""Far above what any store sends."""
MAX_MESSAGE_VALUES = 1_000_000
"""Of a hundred thousand records. As Python objects JSON can take forty times its size in memory."""


def read_message(data: bytes, channel: Channel, source: str) -> Decoded:
    if len(data) > MAX_MESSAGE_BYTES:
        return _nothing("too_large", f"{len(data)} bytes")
    if not data or data.isspace():
        return Decoded()
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
            return Decoded(confirmation=confirmation)
        case None:
            return _nothing("unknown_shape", ascii(data[:120]))


def _published(message: str, source: str) -> Decoded:
    """Only AWS wraps in SNS, so what is inside is spelled as AWS spells it to queues, whatever way it came."""
    try:
        document: Json = json.loads(message)
    except (ValueError, RecursionError):
        return _nothing("not_json", ascii(message[:120]))
    found = _read(document, Channel.QUEUE, source)
    return _nothing("unknown_shape", ascii(message[:120])) if found is None else found


def _read(document: Json, channel: Channel, source: str) -> Decoded | None:
    """None: no shape we know."""
    if isinstance(document, list):
        return _read_list(document, channel, source)
    if not isinstance(document, dict):
        return None
    if "Records" in document:
        records = document["Records"]
        if isinstance(records, list):
            return read_records(records, channel, source, named=document.get("Key"))
        return Decoded() if records is None else None
    if isinstance(detail_type := document.get("detail-type"), str):
        return read_eventbridge(detail_type, document.get("detail"), source)
    return _nothing("test_event") if document.get("Event") == "s3:TestEvent" else None


def _read_list(entries: list[Json], channel: Channel, source: str) -> Decoded | None:
    """MinIO's `access` format for Redis, each entry with its records in a list; or, of old VersityGWs, the records."""
    records: list[Json] = []
    for entry in entries:
        some = at(entry, "Event")
        if isinstance(some, list):
            records += some
        elif at(entry, "eventName") is not None:
            records.append(entry)
        else:
            return None
    return read_records(records, channel, source) if entries else None


def _nothing(reason: Reason, detail: str = "") -> Decoded:
    return Decoded(ignored=(Ignored(reason, detail),))
