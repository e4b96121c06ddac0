"""Records as MinIO, its forks and AWS send them, read into events. Nothing a sender can send raises here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, cast
from urllib.parse import unquote_plus

from listener.events import ObjectCreated, ObjectEvent, ObjectRemoved

CREATED = ("Put", "Post", "CompleteMultipartUpload", "Copy")
"""Tagging, retention and legal hold are told as ObjectCreated too, by other names: the object is unchanged then."""

REMOVED = ("Delete", "DeleteMarkerCreated")

EVENT_NAMES = (*(f"s3:ObjectCreated:{n}" for n in CREATED), *(f"s3:ObjectRemoved:{n}" for n in REMOVED))


class KeyEncoding(Enum):
    """How a transport writes keys. The record does not tell, and decoding a raw key ruins its "+" and "%"."""

    RAW = "raw"
    """As users see them: MinIO's listen stream."""
    QUERY = "query"
    """As in a form, "in%2Fa+b": what MinIO sends to webhooks and brokers, and AWS everywhere."""


Reason = Literal["not_json", "no_records", "not_a_record", "other_event", "no_bucket", "no_key", "key_not_text"]


@dataclass(frozen=True, slots=True)
class Ignored:
    """A record or message that is no event for us, and why; `detail` is for the log."""

    reason: Reason
    detail: str = ""


def decode_message(data: bytes, *, encoding: KeyEncoding, source: str) -> list[ObjectEvent | Ignored]:
    """One `{"Records": […]}` document. Empty for a keep-alive: nothing but space, or Records null or empty."""
    if not data or data.isspace():
        return []
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError):
        return [Ignored("not_json", repr(data[:120]))]
    if not isinstance(document, dict) or "Records" not in document:
        return [Ignored("no_records", repr(data[:120]))]
    records = cast("dict[str, Any]", document)["Records"]
    if records is None:
        return []
    if not isinstance(records, list):
        return [Ignored("no_records", repr(data[:120]))]
    return [decode_record(record, encoding=encoding, source=source) for record in cast("list[Any]", records)]


def decode_record(record: object, *, encoding: KeyEncoding, source: str) -> ObjectEvent | Ignored:
    """One record: `eventName`, `s3.bucket.name`, `s3.object.key`; everything else in it is left to a HEAD."""
    kind = _kind(_at(record, "eventName"))
    if isinstance(kind, Ignored):
        return kind
    bucket = _at(record, "s3", "bucket", "name")
    if not isinstance(bucket, str) or not bucket:
        return Ignored("no_bucket")
    key = _at(record, "s3", "object", "key")
    if not isinstance(key, str) or not key:
        return Ignored("no_key")
    try:
        raw = unquote_plus(key, errors="strict") if encoding is KeyEncoding.QUERY else key
        (bucket + raw).encode()
    except UnicodeError:
        return Ignored("key_not_text", ascii(key[:200]))
    return kind(bucket, raw, source)


def _kind(name: object) -> type[ObjectCreated] | type[ObjectRemoved] | Ignored:
    if not isinstance(name, str):
        return Ignored("not_a_record")
    family, _, action = name.removeprefix("s3:").partition(":")
    if family == "ObjectCreated" and action in CREATED:
        return ObjectCreated
    if family == "ObjectRemoved" and action in REMOVED:
        return ObjectRemoved
    return Ignored("other_event", ascii(name[:120]))


def _at(value: object, *path: str) -> object:
    for name in path:
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, object]", value).get(name)
    return value
