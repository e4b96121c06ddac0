"""What Amazon SNS puts around the messages of a topic, and the confirmations it asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from listener.decoding.outcome import SnsConfirmation
from listener.decoding.trees import Json, item_at

_KINDS: Mapping[object, Literal["subscribe", "unsubscribe"]] = {
    "SubscriptionConfirmation": "subscribe",
    "UnsubscribeConfirmation": "unsubscribe",
}

_PRINTABLE = re.compile(r"[!-~]{1,2048}")


@dataclass(frozen=True, slots=True)
class SnsNotification:
    topic_arn: str
    message: str
    """What was published, as it was: for Amazon S3 a JSON document."""


def read_sns(document: Json) -> SnsNotification | SnsConfirmation | None:
    """None: not from SNS. With raw delivery nothing is wrapped, and nothing of SNS is left to be read."""
    kind = item_at(document, "Type")
    topic = _printable(item_at(document, "TopicArn"))
    if not isinstance(kind, str) or not topic:
        return None
    message = item_at(document, "Message")
    if kind == "Notification" and isinstance(message, str):
        return SnsNotification(topic, message)
    url = _printable(item_at(document, "SubscribeURL"))
    return SnsConfirmation(topic, url, _KINDS[kind]) if kind in _KINDS and url else None


def _printable(value: Json) -> str:
    """ "" for what cannot be an ARN or a URL; half a surrogate pair would make every log of it fail."""
    return value if isinstance(value, str) and _PRINTABLE.fullmatch(value) else ""
