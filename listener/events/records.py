"""Records in the shape of Amazon S3's notifications, with each store's spelling of event names and keys.

Seen: RustFS escapes keys even on its event stream; Ceph RGW and VersityGW send them raw; AWS escapes them to SNS and
SQS, not to EventBridge. One webhook may hear several stores, so a key is read by `eventSource` and channel. A wrong
reading costs one HEAD and is dropped as a phantom; an object that has that name is handled once. A new store needs a
line in `spelling_of`, or none at the price of that HEAD.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import TypeAlias
from urllib.parse import unquote_plus

from listener.events.event import (
    DecodedMessage,
    IgnoredRecord,
    MessageChannel,
    ObjectCreated,
    ObjectEvent,
    ObjectRemoved,
)

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | None"


def item_at(value: Json, name: str) -> Json:
    """Returns the member `name`; None where there is none, or where `value` is no object."""
    return value.get(name) if isinstance(value, dict) else None


MAX_KEY_BYTES = 1024
"""As UTF-8: the limit of S3 and of the stores that follow it."""

_MAX_SPELLED = 3 * MAX_KEY_BYTES
"""Characters: every byte may be written as "%41"."""

# Names from before 2018 may have capitals, underscores and up to 255 characters. A "/" would lead to another path.
_BUCKET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{2,254}")


class Spelling(Enum):
    """How the key in a record is written; the record does not say."""

    RAW = "raw"
    """As users see it."""
    QUERY = "query"
    """As in a form: "in%2Fa+b". Decoding a raw key this way corrupts its "+" and "%"."""
    EITHER = "either"
    """Unknown until a HEAD of the object."""


def bucket_of(name: Json) -> str | IgnoredRecord:
    if not isinstance(name, str) or not name:
        return IgnoredRecord("no_bucket")
    if _BUCKET.fullmatch(name) and ".." not in name:
        return name
    return IgnoredRecord("bad_bucket", ascii(name[:120]))


def keys_of(key: Json, spelling: Spelling, *, named: str = "") -> tuple[str, ...] | IgnoredRecord:
    """Returns the keys that `key` may mean: two where the spelling is uncertain and makes a difference, else one.

    `named` is the raw key as the envelope repeats it, which makes the spelling certain; "": it does not repeat it.

    Only MinIO's envelope repeats it. It never overrules a known store: RustFS writes "+" for spaces there.
    """
    if not isinstance(key, str) or not key:
        return IgnoredRecord("no_key")
    if len(key) > _MAX_SPELLED:
        return IgnoredRecord("key_too_long", f"{len(key)} characters: {key[:80]!a}")
    if spelling is Spelling.RAW or ("%" not in key and "+" not in key):
        return _usable(key)
    if spelling is Spelling.QUERY:
        return _unescaped(key)
    if named and named in (key, unquote_plus(key)):
        return _usable(named)
    raw, unescaped = _usable(key), _unescaped(key)
    if isinstance(raw, IgnoredRecord):
        return unescaped
    return raw if isinstance(unescaped, IgnoredRecord) or raw == unescaped else raw + unescaped


def _unescaped(key: str) -> tuple[str] | IgnoredRecord:
    try:
        return _usable(unquote_plus(key, errors="strict"))
    except UnicodeError:
        return IgnoredRecord("key_not_text", ascii(key[:120]))


def _usable(key: str) -> tuple[str] | IgnoredRecord:
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeError:
        return IgnoredRecord("key_not_text", ascii(key[:120]))
    if "\0" in key:
        return IgnoredRecord("key_not_text", ascii(key[:120]))
    return (key,) if size <= MAX_KEY_BYTES else IgnoredRecord("key_too_long", f"{size} bytes: {key[:80]!a}")


def spelling_of(event_source: Json, bucket_arn: Json, channel: MessageChannel) -> Spelling:
    """Returns the spelling of a record's key, from its `eventSource` and `s3.bucket.arn`."""
    match event_source:
        case "minio:s3":
            return Spelling.RAW if channel is MessageChannel.LISTEN else Spelling.QUERY
        case "rustfs:s3":
            return Spelling.QUERY
        case "ceph:s3":
            return Spelling.RAW
        case "aws:s3" if isinstance(bucket_arn, str) and bucket_arn.startswith("arn:aws:s3:::/"):
            # VersityGW calls itself AWS, but writes a path where AWS has the bucket's name.
            return Spelling.RAW
        case "aws:s3" if channel is MessageChannel.QUEUE:
            return Spelling.QUERY
        case _:
            # Amazon SNS with raw delivery, which escapes; a VersityGW with correct ARNs, which does not; or another.
            return Spelling.EITHER


Kind = type[ObjectCreated] | type[ObjectRemoved]

CREATED = ("Put", "Post", "CompleteMultipartUpload", "Copy")
"""MinIO has ObjectCreated events of other names for tagging, retention and legal hold, which change no object."""

REMOVED = ("Delete", "DeleteMarkerCreated")

EVENT_NAMES = (*(f"s3:ObjectCreated:{n}" for n in CREATED), *(f"s3:ObjectRemoved:{n}" for n in REMOVED))
"""Events to ask a store for: every store that has notifications knows these."""

_ALSO_CREATED = ("ObjectSynced:Create",)
"""Ceph RGW: an object of another site has arrived here."""

_ALSO_REMOVED = (
    "ObjectRemoved:DeleteAllVersions",
    "ObjectRemoved:DeleteObjects",
    "LifecycleExpiration:Delete",
    "LifecycleExpiration:DeleteMarkerCreated",
    "ObjectLifecycle:Expiration:Current",
    "ObjectSynced:Delete",
    "ObjectSynced:DeletionMarkerCreated",
)
"""MinIO; VersityGW; AWS; Ceph RGW. Expired delete markers and older versions are left out: no GET would change."""


def _kinds() -> dict[str, Kind]:
    kinds: dict[str, Kind] = {f"ObjectCreated:{name}": ObjectCreated for name in CREATED}
    kinds.update({f"ObjectRemoved:{name}": ObjectRemoved for name in REMOVED})
    kinds.update(dict.fromkeys(_ALSO_CREATED, ObjectCreated))
    kinds.update(dict.fromkeys(_ALSO_REMOVED, ObjectRemoved))
    return kinds | {f"s3:{name}": kind for name, kind in kinds.items()}


KINDS = _kinds()
"""By name, with and without "s3:" in front, which AWS and Ceph RGW leave out of their records."""


_NANOSECONDS = re.compile(r"[1-7][0-9A-Fa-f]{15}")
_MAX_ETAG = 128


def read_records(
    records: Sequence[Json], channel: MessageChannel, source: str, *, named: Json = None
) -> DecodedMessage:
    """Reads records. `named` is "bucket/key" as MinIO's envelope repeats it, unescaped, for a record that is alone."""
    hint = named if isinstance(named, str) and len(records) == 1 else ""
    events: list[ObjectEvent] = []
    ignored: list[IgnoredRecord] = []
    for record in records:
        found = read_record(record, channel, source, named=hint)
        if isinstance(found, IgnoredRecord):
            ignored.append(found)
        else:
            events += found
    return DecodedMessage(tuple(events), tuple(ignored))


def read_record(
    record: Json, channel: MessageChannel, source: str, *, named: str = ""
) -> list[ObjectEvent] | IgnoredRecord:
    """Reads a record's event name, source, bucket, key, sequencer and ETag; a HEAD gives the rest."""
    name = item_at(record, "eventName")
    if not isinstance(name, str):
        return IgnoredRecord("not_a_record")
    kind = KINDS.get(name)
    if kind is None:
        return IgnoredRecord("other_event", ascii(name[:120]))
    s3 = item_at(record, "s3")
    bucket_field = item_at(s3, "bucket")
    bucket = bucket_of(item_at(bucket_field, "name"))
    if isinstance(bucket, IgnoredRecord):
        return bucket
    spelling = spelling_of(item_at(record, "eventSource"), item_at(bucket_field, "arn"), channel)
    repeated = named.removeprefix(f"{bucket}/") if named.startswith(f"{bucket}/") else ""
    object_field = item_at(s3, "object")
    keys = keys_of(item_at(object_field, "key"), spelling, named=repeated)
    if isinstance(keys, IgnoredRecord):
        return keys
    if kind is not ObjectCreated:
        return [kind(bucket, key, source) for key in keys]
    moment, etag = moment_of(item_at(object_field, "sequencer")), item_at(object_field, "eTag")
    etag = etag.strip('"')[:_MAX_ETAG] if isinstance(etag, str) and etag.isprintable() else ""
    return [ObjectCreated(bucket, key, source, moment, etag) for key in keys]


def moment_of(sequencer: Json) -> int:
    """Returns a sequencer that may be the hexadecimal nanosecond of the last change, as MinIO's is; 0 for others.

    Counters and other stores' sequencers may look like one: only the object's second shows whether it is one.
    """
    if not isinstance(sequencer, str) or not _NANOSECONDS.fullmatch(sequencer):
        return 0
    return int(sequencer, 16)
