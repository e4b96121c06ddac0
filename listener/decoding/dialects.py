"""How each store spells keys, told by what it says of itself and by the way its message came."""

from __future__ import annotations

from listener.decoding.addresses import Spelling
from listener.decoding.outcome import MessageChannel
from listener.decoding.trees import Json


def spelling_of(event_source: Json, bucket_arn: Json, channel: MessageChannel) -> Spelling:
    """Of a record's `eventSource` and `s3.bucket.arn`."""
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
            # Amazon SNS with raw delivery, which escapes; a VersityGW that mends its ARNs, which does not; who knows.
            return Spelling.EITHER
