"""Events of Amazon S3 as Amazon EventBridge passes them on: one object an event, its key raw."""

from __future__ import annotations

from listener.decoding.addresses import Spelling, bucket_of, keys_of
from listener.decoding.outcome import Decoded, Ignored
from listener.decoding.trees import Json, at
from listener.events import ObjectCreated, ObjectRemoved

_KINDS = {"Object Created": ObjectCreated, "Object Deleted": ObjectRemoved}
"""By detail-type. Tags, ACLs, restores and storage classes have types of their own, so no `reason` need be read."""


def read_eventbridge(detail_type: str, detail: Json, source: str) -> Decoded:
    kind = _KINDS.get(detail_type)
    if kind is None:
        return Decoded(ignored=(Ignored("other_event", ascii(detail_type[:120])),))
    bucket = bucket_of(at(at(detail, "bucket"), "name"))
    if isinstance(bucket, Ignored):
        return Decoded(ignored=(bucket,))
    keys = keys_of(at(at(detail, "object"), "key"), Spelling.RAW)
    if isinstance(keys, Ignored):
        return Decoded(ignored=(keys,))
    return Decoded(tuple(kind(bucket, key, source) for key in keys))
