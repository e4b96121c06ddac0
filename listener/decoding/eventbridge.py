"""Events of Amazon S3 as Amazon EventBridge passes them on: one object an event, its key raw."""

from __future__ import annotations

from listener.decoding.addresses import Spelling, bucket_of, keys_of
from listener.decoding.outcome import DecodedMessage, IgnoredRecord
from listener.decoding.trees import Json, item_at
from listener.events import ObjectCreated, ObjectRemoved

_KINDS = {"Object Created": ObjectCreated, "Object Deleted": ObjectRemoved}
"""By detail-type. Tags, ACLs, restores and storage classes have types of their own, so no `reason` need be read."""


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
