"""Records in the shape of Amazon S3's notifications, which all stores share, read into events."""

from __future__ import annotations

import re
from collections.abc import Sequence

from listener.decoding.addresses import bucket_of, keys_of
from listener.decoding.dialects import spelling_of
from listener.decoding.names import KINDS
from listener.decoding.outcome import DecodedMessage, IgnoredRecord, MessageChannel
from listener.decoding.trees import Json, item_at
from listener.events import ObjectCreated, ObjectEvent

_NANOSECONDS = re.compile(r"[1-7][0-9A-Fa-f]{15}")
_MAX_ETAG = 128


def read_records(
    records: Sequence[Json], channel: MessageChannel, source: str, *, named: Json = None
) -> DecodedMessage:
    """`named` is "bucket/key" as MinIO's envelope repeats it, unescaped; it speaks of a record that came alone."""
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
    """`eventName`, `eventSource`, `s3.bucket.name`, `s3.object`'s `key`, `sequencer`, `eTag`; a HEAD tells the rest."""
    name = item_at(record, "eventName")
    if not isinstance(name, str):
        return IgnoredRecord("not_a_record")
    kind = KINDS.get(name)
    if kind is None:
        return IgnoredRecord("other_event", ascii(name[:120]))
    s3 = item_at(record, "s3")
    told = item_at(s3, "bucket")
    bucket = bucket_of(item_at(told, "name"))
    if isinstance(bucket, IgnoredRecord):
        return bucket
    spelling = spelling_of(item_at(record, "eventSource"), item_at(told, "arn"), channel)
    repeated = named.removeprefix(f"{bucket}/") if named.startswith(f"{bucket}/") else ""
    told_of = item_at(s3, "object")
    keys = keys_of(item_at(told_of, "key"), spelling, named=repeated)
    if isinstance(keys, IgnoredRecord):
        return keys
    if kind is not ObjectCreated:
        return [kind(bucket, key, source) for key in keys]
    moment, etag = moment_of(item_at(told_of, "sequencer")), item_at(told_of, "eTag")
    etag = etag.strip('"')[:_MAX_ETAG] if isinstance(etag, str) and etag.isprintable() else ""
    return [ObjectCreated(bucket, key, source, moment, etag) for key in keys]


def moment_of(sequencer: Json) -> int:
    """A sequencer that may be the hexadecimal nanosecond of the last change, as MinIO's is; 0 for all others.

    Counters and other stores' sequencers may look like one: only who knows the object's second can tell.
    """
    if not isinstance(sequencer, str) or not _NANOSECONDS.fullmatch(sequencer):
        return 0
    return int(sequencer, 16)
