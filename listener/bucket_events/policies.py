"""Whether an SQS queue lets Amazon S3 send to it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from listener.bucket_events.destinations import source_arn

_SOURCE = "aws:sourcearn"


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """`policy` is JSON, "" for none."""

    arn: str
    policy: str


def lets_s3_send(policy: str, queue_arn: str, bucket: str) -> bool:
    """`policy` is the queue's, as JSON; "" for none. Statements that deny are not weighed: S3 tries by itself."""
    try:
        document: Any = json.loads(policy or "{}")
    except ValueError:
        return False
    return any(_allows(each, queue_arn, bucket) for each in _statements(document))


def statement(queue_arn: str, bucket: str) -> str:
    """What to add to the policy's statements, as JSON."""
    partition = queue_arn.split(":")[1]
    account = queue_arn.split(":")[4]
    return json.dumps(
        {
            "Sid": f"gpudrop-{bucket}",
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": queue_arn,
            "Condition": {
                "ArnEquals": {"aws:SourceArn": source_arn(bucket, partition)},
                "StringEquals": {"aws:SourceAccount": account},
            },
        },
        indent=2,
    )


def _statements(document: Any) -> Iterator[Mapping[str, Any]]:
    found: Any = cast("dict[str, Any]", document).get("Statement", []) if isinstance(document, dict) else []
    for each in cast("list[Any]", found if isinstance(found, list) else [found]):
        if isinstance(each, dict):
            yield cast("dict[str, Any]", each)


def _allows(each: Mapping[str, Any], queue_arn: str, bucket: str) -> bool:
    principal: Any = each.get("Principal")
    services = _texts(cast("dict[str, Any]", principal).get("Service")) if isinstance(principal, dict) else []
    everybody = principal == "*" or (isinstance(principal, dict) and "*" in _texts(principal.get("AWS")))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return (
        each.get("Effect") == "Allow"
        and (everybody or "s3.amazonaws.com" in services)
        and any(_like(a.lower(), "sqs:sendmessage") for a in _texts(each.get("Action")))
        and any(_like(r, queue_arn) for r in _texts(each.get("Resource")))
        and _from_bucket(each.get("Condition"), source_arn(bucket, queue_arn.split(":")[1]))
    )


def _from_bucket(condition: Any, arn: str) -> bool:
    """Conditions on anything but where the message comes from are taken to hold."""
    if not isinstance(condition, dict):
        return True
    for test in cast("dict[str, Any]", condition).values():
        for name, values in cast("dict[str, Any]", test if isinstance(test, dict) else {}).items():
            if name.lower() == _SOURCE and not any(_like(value, arn) for value in _texts(values)):
                return False
    return True


def _texts(value: Any) -> list[str]:
    found = cast("list[Any]", value if isinstance(value, list) else [value])
    return [each for each in found if isinstance(each, str)]


def _like(pattern: str, text: str) -> bool:
    parts = re.split(r"([*?])", pattern)
    expression = "".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(expression, text, re.DOTALL) is not None
