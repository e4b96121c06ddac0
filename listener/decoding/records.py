"""Records in the shape of Amazon S3's notifications, which all stores share, read into events."""

from __future__ import annotations

from collections.abc import Sequence

from listener.decoding.addresses import bucket_of, keys_of
from listener.decoding.dialects import spelling_of
from listener.decoding.names import KINDS
from listener.decoding.outcome import Channel, Decoded, Ignored
from listener.decoding.trees import Json, at
from listener.events import ObjectEvent


def read_records(records: Sequence[Json], channel: Channel, source: str, *, named: Json = None) -> Decoded:
    """`named` is "bucket/key" as MinIO's envelope repeats it, unescaped; it speaks of a record that came alone."""
    hint = named if isinstance(named, str) and len(records) == 1 else ""
    events: list[ObjectEvent] = []
    ignored: list[Ignored] = []
    for record in records:
        found = read_record(record, channel, source, named=hint)
        if isinstance(found, Ignored):
            ignored.append(found)
        else:
            events += found
    return Decoded(tuple(events), tuple(ignored))


def read_record(record: Json, channel: Channel, source: str, *, named: str = "") -> list[ObjectEvent] | Ignored:
    """`eventName`, `eventSource`, `s3.bucket.name`, `s3.object.key`; everything else in it is left to a HEAD."""
    name = at(record, "eventName")
    if not isinstance(name, str):
        return Ignored("not_a_record")
    kind = KINDS.get(name)
    if kind is None:
        return Ignored("other_event", ascii(name[:120]))
    s3 = at(record, "s3")
    told = at(s3, "bucket")
    bucket = bucket_of(at(told, "name"))
    if isinstance(bucket, Ignored):
        return bucket
    spelling = spelling_of(at(record, "eventSource"), at(told, "arn"), channel)
    repeated = named.removeprefix(f"{bucket}/") if named.startswith(f"{bucket}/") else ""
    keys = keys_of(at(at(s3, "object"), "key"), spelling, named=repeated)
    return keys if isinstance(keys, Ignored) else [kind(bucket, key, source) for key in keys]
